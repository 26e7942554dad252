//! The page as a file, for a collector that reads files of this machine. Written by rename: nobody reads half a page.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::os::check::may_make;

/// Such a file. Dropping it removes it, unless it is another's by now: of a master that has ended nothing is to be told.
#[derive(Debug)]
pub(in crate::os) struct PageFile {
    path: PathBuf,
    inode: Option<u64>,
}

impl PageFile {
    /// Whether it could be written; nothing is made.
    pub(super) fn check(path: &Path) -> io::Result<()> {
        may_make(path)
    }

    /// Sees whether it can be written; what stands there is left until there is a page.
    pub(super) fn prepare(path: &Path) -> io::Result<PageFile> {
        if path.is_dir() {
            return Err(Errno::EISDIR.into());
        }
        let file = PageFile { path: path.into(), inode: None };
        fs::write(file.new_path(), "")?;
        fs::remove_file(file.new_path())?;
        Ok(file)
    }

    pub(super) fn write(&mut self, page: &str) -> io::Result<()> {
        let new = self.new_path();
        let written = fs::write(&new, page).and_then(|()| fs::metadata(&new)).and_then(|metadata| {
            fs::rename(&new, &self.path)?;
            Ok(metadata.ino())
        });
        match written {
            Ok(inode) => self.inode = Some(inode),
            Err(_) => drop(fs::remove_file(&new)),
        }
        written.map(drop)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Collectors read `*.prom` only.
    fn new_path(&self) -> OsString {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".new");
        path
    }
}

impl Drop for PageFile {
    fn drop(&mut self) {
        if self.inode.is_some() && fs::metadata(&self.path).ok().map(|metadata| metadata.ino()) == self.inode {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("dm-metrics-{}-{name}.prom", std::process::id()))
    }

    #[test]
    fn it_is_removed_at_the_end_only_while_it_is_ours() {
        let path = path("ours");
        let mut file = PageFile::prepare(&path).unwrap();
        assert!(!path.exists(), "nothing is told before there is something to tell");
        file.write("a 1\n").unwrap();
        file.write("a 2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a 2\n");
        let mut other = PageFile::prepare(&path).unwrap();
        other.write("a 3\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a 3\n");
        drop(other);
        assert!(!path.exists());
    }

    #[test]
    fn what_cannot_be_written_is_an_error_that_leaves_nothing() {
        let folder = path("folder");
        fs::create_dir(&folder).unwrap();
        assert_eq!(PageFile::prepare(&folder).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert!(PageFile::prepare(&folder.join("missing/x.prom")).is_err());
        let mut file = PageFile::prepare(&folder.join("x.prom")).unwrap();
        fs::create_dir(folder.join("x.prom")).unwrap();
        assert!(file.write("a 1\n").is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
