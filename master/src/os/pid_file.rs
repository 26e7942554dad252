//! The file that tells other programs the master's pid.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::check::may_make;
use super::{regular_file, runtime_dir};

/// More than any process id has digits.
const CONTENT_MAX: u64 = 32;

/// Such a file. Dropping it removes it, unless another pid has been written into it since.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    content: String,
}

impl PidFile {
    /// The one that this process wrote, under another program.
    pub(super) fn written(path: &Path) -> io::Result<PidFile> {
        Ok(PidFile { path: std::path::absolute(path)?, content: format!("{}\n", std::process::id()) })
    }

    /// Whether it could be written.
    pub(super) fn check(path: &Path) -> io::Result<()> {
        may_make(path)?;
        named_in(path).map(drop)
    }

    /// Writes it whole, by rename: nobody reads half a number. What is no pid file, or another master's, is left alone.
    pub(super) fn write(path: &Path) -> io::Result<PidFile> {
        if let Some(pid) = named_in(path)?.filter(|pid| *pid != std::process::id() && is_master(*pid)) {
            return Err(io::Error::other(format!("a running master (pid {pid}) has it; stop that one, or name another file by --pid-file")));
        }
        let content = format!("{}\n", std::process::id());
        regular_file::replace(path, 0o644, |file| file.write_all(content.as_bytes()))?;
        Ok(PidFile { path: std::path::absolute(path)?, content })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if read(&self.path).is_ok_and(|content| content == self.content) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The process that a pid file names, if there is such a file; an error for what is none.
fn named_in(path: &Path) -> io::Result<Option<u32>> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => return Err(Errno::EISDIR.into()),
        Ok(_) => {}
        // Nothing is there; or it cannot be looked at, and then it cannot be replaced either.
        Err(_) => return Ok(None),
    }
    match read(path) {
        Ok(content) if content.trim().is_empty() => Ok(None),
        content => content.ok().and_then(|content| content.trim().parse().ok()).map(Some).ok_or_else(no_pid_file),
    }
}

fn no_pid_file() -> io::Error {
    io::Error::other("what is there is no pid file, for it holds no number; move it away, or name another file by --pid-file")
}

fn read(path: &Path) -> io::Result<String> {
    let mut content = String::new();
    regular_file::open(path)?.take(CONTENT_MAX).read_to_string(&mut content)?;
    Ok(content)
}

/// Whether a process lives and is a master. A pid file that was left behind may name any other process by now.
fn is_master(pid: u32) -> bool {
    let is_ours = || fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.file_name() == Some(OsStr::new("dutch-master")));
    is_ours() || runtime_dir::running().is_ok_and(|running| running.iter().any(|master| master.pid == pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_removed_at_the_end_only_while_it_is_ours() {
        let path = std::env::temp_dir().join(format!("dm-pid-{}", std::process::id()));
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
        drop(PidFile::write(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn what_never_ends_in_its_place_is_not_read_to_its_end() {
        let path = std::env::temp_dir().join(format!("dm-pid-endless-{}", std::process::id()));
        let file = PidFile::write(&path).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        drop(file);
        assert!(path.is_symlink(), "another's is left alone");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn only_what_is_a_pid_file_is_overwritten() {
        let path = std::env::temp_dir().join(format!("dm-pid-other-{}", std::process::id()));
        // A process that lives and is no master, one that cannot live, our own, and a file that was made beforehand.
        for content in ["1\n", "4194305", &format!("{}\n", std::process::id()), ""] {
            fs::write(&path, content).unwrap();
            drop(PidFile::write(&path).unwrap());
        }
        for content in ["worker = \"app.js\"\n", "12 13\n", "-1\n", "\u{0}"] {
            fs::write(&path, content).unwrap();
            let refused = PidFile::write(&path).unwrap_err().to_string();
            assert!(refused.contains("no pid file") && refused.contains("--pid-file"), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::remove_file(&path).unwrap();
        assert!(PidFile::write(Path::new("/dev/null")).is_err());
    }
}
