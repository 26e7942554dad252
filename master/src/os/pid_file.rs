//! The file that tells other programs the master's pid.

use std::io;
use std::path::{Path, PathBuf};

use super::check::may_make;

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
        may_make(path)
    }

    /// Writes it whole, by rename: nobody reads half a number.
    pub(super) fn write(path: &Path) -> io::Result<PidFile> {
        let content = format!("{}\n", std::process::id());
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let written = std::fs::write(&new, &content).and_then(|()| std::fs::rename(&new, path));
        // Neither a full disk nor a directory of that name leaves anything behind.
        written.inspect_err(|_| drop(std::fs::remove_file(&new)))?;
        Ok(PidFile { path: std::path::absolute(path)?, content })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if std::fs::read_to_string(&self.path).is_ok_and(|content| content == self.content) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_removed_at_the_end_only_while_it_is_ours() {
        let path = std::env::temp_dir().join(format!("dm-pid-{}", std::process::id()));
        let file = PidFile::write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        std::fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
        drop(PidFile::write(&path).unwrap());
        assert!(!path.exists());
    }
}
