//! Text for people and scripts. A reader that goes away (`status | head`) is no failure.

use std::io::{self, Write};

/// A line of result, on standard output.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{}", text.trim_end());
}

/// Text of a result as it is, on standard output, at once; an error: nobody reads it.
pub(super) fn try_say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A line about what goes on, on standard error.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}
