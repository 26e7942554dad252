//! The page as a file, for a collector that reads files of this machine. Written by rename: nobody reads half a page.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::os::check::may_make;
use crate::os::regular_file;

/// A collector is another user.
const MODE: u32 = 0o644;

/// What every page of a master begins with.
const BEGINNING: &[u8] = b"# HELP dutch_master_";

/// Such a file. Dropping it removes it, unless it is another's by now: of a master that has ended nothing is to be told.
#[derive(Debug)]
pub(in crate::os) struct PageFile {
    path: PathBuf,
    inode: Option<u64>,
}

impl PageFile {
    /// Whether it could be written; nothing is made.
    pub(super) fn check(path: &Path) -> io::Result<()> {
        may_make(path)?;
        may_be_replaced(path)
    }

    /// Sees whether it can be written; what stands there is left until there is a page.
    pub(super) fn prepare(path: &Path) -> io::Result<PageFile> {
        may_be_replaced(path)?;
        // Collectors read `*.prom` only, and not this one.
        let new = regular_file::new_path(path);
        drop(regular_file::make(&new, MODE)?);
        fs::remove_file(new)?;
        Ok(PageFile { path: path.into(), inode: None })
    }

    pub(super) fn write(&mut self, page: &str) -> io::Result<()> {
        let file = regular_file::replace(&self.path, MODE, |file| file.write_all(page.as_bytes()))?;
        self.inode = Some(file.metadata()?.ino());
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Only a page of a master is, or an empty file.
fn may_be_replaced(path: &Path) -> io::Result<()> {
    let is_file = match path.metadata() {
        Ok(metadata) if metadata.is_dir() => return Err(Errno::EISDIR.into()),
        Ok(metadata) => metadata.is_file(),
        // Nothing is there; or it cannot be looked at, and then it cannot be replaced either.
        Err(_) => return Ok(()),
    };
    let mut beginning = Vec::new();
    let read = is_file && regular_file::open(path)?.take(BEGINNING.len() as u64).read_to_end(&mut beginning).is_ok();
    if read && (beginning.is_empty() || beginning == BEGINNING) {
        return Ok(());
    }
    Err(io::Error::other("what is there is no page of metrics; move it away, or name another file by --metrics"))
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
        file.write("# HELP dutch_master_size 1\n").unwrap();
        file.write("# HELP dutch_master_size 2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# HELP dutch_master_size 2\n");
        let mut other = PageFile::prepare(&path).unwrap();
        other.write("# HELP dutch_master_size 3\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "# HELP dutch_master_size 3\n");
        drop(other);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_page_of_metrics_is_not_overwritten() {
        let path = path("other");
        fs::write(&path, "").unwrap();
        assert!(PageFile::prepare(&path).is_ok(), "an empty file that was made beforehand");
        for content in ["node_load1 0.5\n", "# HELP", "worker = \"app.js\"\n"] {
            fs::write(&path, content).unwrap();
            let refused = PageFile::prepare(&path).unwrap_err().to_string();
            assert!(refused.contains("no page of metrics") && refused.contains("--metrics"), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::remove_file(&path).unwrap();
        assert!(PageFile::prepare(Path::new("/dev/null")).is_err());
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
