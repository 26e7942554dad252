//! A lock file that is held for a master's life, so that two masters never serve one name. It says who holds it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};

use super::check::may_make;
use super::descriptors::{Inherited, Kept};
use super::regular_file;
use super::remedy::remedy;

/// What a dead master had is held for an instant longer, by its own end or by another master's sweep: how often and how long a start waits for it.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Longest content of a lock file that is read: a pid and a path.
const CONTENT_MAX: u64 = 4_200;

/// The lock. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

/// The lock as it is handed over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    file: RawFd,
    path: PathBuf,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    /// The process.
    pub(super) pid: u32,
    /// Its control socket.
    pub(super) socket: PathBuf,
}

/// Why a lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another master has it.
    #[error("a master {}already serves this name or socket{}; `dutch-master stop --name {}` ends it, and `start --name` gives this one another name", whose(.holder), at(.lock), lock.file_stem().unwrap_or_default().display())]
    Held {
        /// The lock file.
        lock: PathBuf,
        /// Its process, where the file says it.
        holder: Option<u32>,
    },
    /// The file cannot be opened or locked.
    #[error("cannot write the lock file {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn whose(pid: &Option<u32>) -> String {
    pid.map_or(String::new(), |pid| format!("(pid {pid}) "))
}

fn at(lock: &Path) -> String {
    format!(" ({})", lock.display())
}

impl Lock {
    /// Takes the lock and writes into it who holds it.
    pub(super) fn take(path: &Path, socket: &Path) -> Result<Lock, LockError> {
        let mut lock = patiently(|| Lock::try_take(path), |error| matches!(error, LockError::Held { .. }))?;
        lock.write(&Holder { pid: std::process::id(), socket: socket.into() }).map_err(|source| LockError::Io { path: path.into(), source })?;
        Ok(lock)
    }

    /// Whether its file could be written; whether somebody has the lock is not asked.
    pub(super) fn check(path: &Path) -> Result<(), LockError> {
        let checked = if path.exists() { access(path, AccessFlags::R_OK | AccessFlags::W_OK).map_err(io::Error::from) } else { may_make(path) };
        checked.map_err(|source| LockError::Io { path: path.into(), source })
    }

    /// Takes the lock if nobody has it.
    pub(super) fn try_take(path: &Path) -> Result<Lock, LockError> {
        Ok(Lock { file: Lock::open(path)?, path: path.into() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its file is still there, and no other has taken its place: else nobody finds it taken.
    pub(super) fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.path).unwrap_or(false)
    }

    /// Takes it again if its file was removed.
    pub(super) fn renew(&mut self, socket: &Path) -> Result<(), LockError> {
        if self.is_in_place() {
            return Ok(());
        }
        self.file = Lock::open(&self.path)?;
        self.write(&Holder { pid: std::process::id(), socket: socket.into() }).map_err(|source| LockError::Io { path: self.path.clone(), source })
    }

    pub(super) fn hand_over<'a>(&'a self, kept: &mut Kept<'a>) -> Handed {
        Handed { file: kept.keep(self.file.as_fd()), path: self.path.clone() }
    }

    pub(super) fn handed(Handed { file, path }: Handed, inherited: &mut Inherited) -> io::Result<Lock> {
        let file: OwnedFd = inherited.take(file)?;
        // It is held through this very descriptor, so this takes nothing from anybody.
        let file = Flock::lock(File::from(file), FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        Ok(Lock { file, path })
    }

    /// Gives it up and leaves its file, for the next one of the name.
    pub(super) fn leave(mut self) {
        self.path = PathBuf::new();
    }

    fn open(path: &Path) -> Result<Flock<File>, LockError> {
        let failed = |source| LockError::Io { path: path.into(), source };
        loop {
            let file = regular_file::open_or_make(path).map_err(failed)?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                    return Err(LockError::Held { lock: path.into(), holder: read_holder(path).map(|holder| holder.pid) });
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            // A predecessor may have removed the file between our opening and our locking it: then ours is no file that anybody else would find.
            if is_at(&file, path).map_err(failed)? {
                return Ok(file);
            }
        }
    }

    fn write(&mut self, holder: &Holder) -> io::Result<()> {
        let mut content = format!("{}\n", holder.pid).into_bytes();
        content.extend_from_slice(holder.socket.as_os_str().as_bytes());
        content.push(b'\n');
        self.file.set_len(0)?;
        self.file.write_all(&content)
    }
}

/// For a start, which may block: tries again while `is_passing` says of an error that it may be over in an instant.
pub(super) fn patiently<T, E>(mut attempt: impl FnMut() -> Result<T, E>, is_passing: impl Fn(&E) -> bool) -> Result<T, E> {
    for _ in 0..TRIES {
        match attempt() {
            Err(error) if is_passing(&error) => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    attempt()
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Another's is left alone.
        if self.is_in_place() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match path.symlink_metadata() {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a lock file says about its holder, who may be dead.
pub(super) fn read_holder(path: &Path) -> Option<Holder> {
    let mut content = Vec::new();
    regular_file::open(path).ok()?.take(CONTENT_MAX).read_to_end(&mut content).ok()?;
    let mut lines = content.split(|byte| *byte == b'\n');
    let pid = std::str::from_utf8(lines.next()?).ok()?.parse().ok()?;
    let socket = lines.next().filter(|path| !path.is_empty())?;
    Some(Holder { pid, socket: std::ffi::OsString::from_vec(socket.to_vec()).into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("dm-lock-{name}-{}.lock", std::process::id()))
    }

    #[test]
    fn a_lock_is_had_once_and_names_its_holder() {
        let path = path("once");
        let lock = Lock::take(&path, Path::new("/run/a.sock")).unwrap();
        let refused = Lock::take(&path, Path::new("/run/b.sock")).unwrap_err();
        assert!(refused.to_string().contains(&format!("(pid {})", std::process::id())), "{refused}");
        assert_eq!(read_holder(&path).unwrap().socket, Path::new("/run/a.sock"));
        drop(lock);
        assert!(!path.exists());
        drop(Lock::take(&path, Path::new("/run/b.sock")).unwrap());
    }

    #[test]
    fn a_lock_whose_file_was_removed_is_taken_again_unless_another_has_it() {
        let path = path("renew");
        let mut lock = Lock::take(&path, Path::new("/run/a.sock")).unwrap();
        std::fs::remove_file(&path).unwrap();
        lock.renew(Path::new("/run/a.sock")).unwrap();
        assert!(matches!(Lock::try_take(&path), Err(LockError::Held { .. })));
        assert_eq!(read_holder(&path).unwrap().socket, Path::new("/run/a.sock"));
        std::fs::remove_file(&path).unwrap();
        let other = Lock::take(&path, Path::new("/run/b.sock")).unwrap();
        assert!(matches!(lock.renew(Path::new("/run/a.sock")), Err(LockError::Held { .. })));
        drop(lock);
        assert!(path.exists(), "the other's file is left alone");
        drop(other);
    }

    #[test]
    fn a_lock_on_a_file_that_was_removed_meanwhile_is_none() {
        let path = path("removed");
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path).unwrap());
        let other = Lock::try_take(&path).unwrap();
        assert!(!is_at(&file, &path).unwrap());
        drop(other);
    }
}
