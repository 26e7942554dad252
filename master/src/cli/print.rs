//! Text for people and scripts. A reader that goes away (`status | head`) is no failure.

use std::io::{self, Write};

/// A line of result, on standard output.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{}", text.trim_end());
}

/// A line about what goes on, on standard error.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}
