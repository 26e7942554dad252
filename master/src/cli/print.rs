//! Text for people and scripts. A reader that goes away (`status | head -1`) is no failure; a result that cannot be written (`status --json > /dev/full`) is.

use std::io::{self, Write};

use super::exit::Failure;

/// A line of result, on standard output.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    try_say(&format!("{}\n", text.trim_end())).map(drop)
}

/// Text of a result as it is, on standard output, at once. Whether somebody still reads.
pub(super) fn try_say(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    is_read(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Whether a result that was written so is read.
pub(super) fn is_read(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Output(error)),
    }
}

/// A line about what goes on, on standard error.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}
