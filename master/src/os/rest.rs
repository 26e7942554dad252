//! A moment after the last thing happened, the embedding program may give back what the master needs only while something does.

use std::fmt;

use super::clock;
use crate::core::Time;

/// How long nothing has to happen, in milliseconds: what is given back has to be fetched again.
const REST_AFTER_MS: u64 = 1_000;

/// What is done at rest, and when that will be.
#[derive(Default)]
pub(super) struct Rest {
    pub(super) give_back: Option<Box<dyn FnMut() + Send>>,
    at: Option<Time>,
    /// The time has come.
    is_due: bool,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rest {{ at: {:?} }}", self.at)
    }
}

impl Rest {
    /// Something happened.
    pub(super) fn put_off(&mut self) {
        self.at = self.give_back.is_some().then(|| clock::now().after(REST_AFTER_MS));
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.at
    }

    pub(super) fn expired(&mut self, now: Time) {
        self.is_due |= self.at.take_if(|at| *at <= now).is_some();
    }

    /// The last thing before the loop sleeps: what runs after it is fetched again.
    pub(super) fn before_sleep(&mut self) {
        if std::mem::take(&mut self.is_due)
            && let Some(give_back) = &mut self.give_back
        {
            give_back();
        }
    }
}
