//! Files at places where somebody may have put something else: a pipe would keep whoever opens it waiting for its other end, for ever, and what a link leads to may never end.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

/// Opens the regular file that is there, or that a link leads to, for reading.
///
/// # Errors
/// There is none, or it is something else.
pub(super) fn open(path: &Path) -> io::Result<File> {
    checked(OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?)
}

/// The same where a link is as good as nothing.
pub(super) fn open_no_link(path: &Path) -> io::Result<File> {
    checked(OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOFOLLOW).open(path)?)
}

/// Opens the regular file that is there for reading and writing; makes it, for us alone, where there is none.
///
/// # Errors
/// Something else is there, or it cannot be made.
pub(super) fn open_or_make(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    checked(options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(O_NONBLOCK | O_NOFOLLOW).open(path)?)
}

/// Makes a file that was not there, instead of whatever is, to be renamed over another when it is whole.
///
/// # Errors
/// It cannot be made, or what is there cannot be removed.
pub(super) fn make(path: &Path, mode: u32) -> io::Result<File> {
    let make = || OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    make().or_else(|error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error);
        }
        fs::remove_file(path)?;
        make()
    })
}

/// Writes a file whole or not at all, by rename: nobody reads half of it, and neither a full disk nor a directory at its path leaves anything behind. Returns it, open.
///
/// # Errors
/// Whatever kept it from being made, filled or put in its place.
pub(super) fn replace(path: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let new = new_path(path);
    let mut file = make(&new, mode)?;
    let written = fill(&mut file).and_then(|()| fs::rename(&new, path));
    written.inspect_err(|_| drop(fs::remove_file(&new)))?;
    Ok(file)
}

/// Under what name it is made.
pub(super) fn new_path(path: &Path) -> PathBuf {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    new.into()
}

fn checked(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file; move away what is there")) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("dm-regular-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn a_pipe_a_device_and_a_folder_are_refused_and_keep_nobody_waiting() {
        let folder = folder("open");
        let (pipe, link) = (folder.join("pipe"), folder.join("link"));
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        symlink("/dev/zero", &link).unwrap();
        for path in [&pipe, &link, &folder, &folder.join("missing")] {
            assert!(open(path).is_err() && open_no_link(path).is_err(), "{}", path.display());
        }
        assert!(open_or_make(&pipe).is_err() && open_or_make(&link).is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_made_is_a_new_file_whatever_was_there() {
        let folder = folder("make");
        let (path, other) = (folder.join("a"), folder.join("b"));
        fs::write(&other, "theirs").unwrap();
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        drop(make(&path, 0o600).unwrap());
        assert!(path.metadata().unwrap().is_file());
        fs::remove_file(&path).unwrap();
        symlink(&other, &path).unwrap();
        drop(make(&path, 0o600).unwrap());
        assert_eq!(fs::read_to_string(&other).unwrap(), "theirs", "a link is not followed");
        let mut content = String::new();
        open_no_link(&path).unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "");
        assert!(make(&folder, 0o600).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
