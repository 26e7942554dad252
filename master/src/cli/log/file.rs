//! The log file: appended to, and opened again when whoever rotates it says so.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dutch_master::remedy;
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::unistd::{AccessFlags, access};

/// Who may read a new one: its owner and its group, so far as the umask lets them.
const MODE: u32 = 0o640;

/// A log file that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the log file {}: {source}{}", path.display(), remedy(source))]
pub(in crate::cli) struct LogFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A file that is written to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    pub(super) file: File,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> Result<LogFile, LogFileError> {
        let file = open(path, true).map_err(|source| LogFileError { path: path.into(), source })?;
        Ok(LogFile { path: path.into(), file })
    }

    /// Goes on in the file that has the name now. If that cannot be had, it goes on in the old one.
    pub(super) fn reopen(&mut self) -> Result<(), LogFileError> {
        *self = LogFile::open(&self.path)?;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether it could be opened; nothing is made.
pub(in crate::cli) fn check(path: &Path) -> Result<(), LogFileError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let outcome = match open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => access(folder, AccessFlags::W_OK | AccessFlags::X_OK).map_err(io::Error::from),
        outcome => outcome.map(drop),
    };
    outcome.map_err(|source| LogFileError { path: path.into(), source })
}

/// Never waits: a pipe without a reader is an error.
fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new().append(true).create(create).mode(MODE).custom_flags(O_NONBLOCK | O_NOCTTY).open(path)
}
