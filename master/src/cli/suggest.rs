//! What a shell offers for options that also take other values, and where it does better to offer no files.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command, Error};

/// Reads a value by a function, and offers some words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suggesting<F> {
    read: F,
    words: &'static [&'static str],
}

/// Of everything that `read` takes, a shell offers these words.
pub(super) fn suggest<F>(words: &'static [&'static str], read: F) -> Suggesting<F> {
    Suggesting { read, words }
}

impl<T, F> TypedValueParser for Suggesting<F>
where
    F: Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        TypedValueParser::parse_ref(&self.read, command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.words.iter().map(PossibleValue::new)))
    }
}
