//! Release folders and a link `current` that is switched between them. What a worker of a release does is written in its file `behaviour`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder of releases.
#[derive(Debug)]
pub struct Releases {
    folder: TempDir,
}

impl Releases {
    /// One release, that `current` points to.
    ///
    /// # Panics
    /// When the system does not let it.
    #[must_use]
    pub fn new(name: &str, behaviour: &str) -> Releases {
        let releases = Releases { folder: TempDir::new().expect("a temporary folder can be made") };
        releases.add(name, behaviour);
        releases.switch(name);
        releases
    }

    /// Writes a release, or changes what it does.
    ///
    /// # Panics
    /// When the system does not let it.
    pub fn add(&self, name: &str, behaviour: &str) {
        let release = self.folder.path().join(name);
        fs::create_dir_all(&release).expect("a folder can be made");
        fs::write(release.join("behaviour.new"), behaviour).expect("a file can be written");
        fs::rename(release.join("behaviour.new"), release.join("behaviour")).expect("a file can be renamed");
    }

    /// Points `current` to another release, in one step.
    ///
    /// # Panics
    /// When the system does not let it.
    pub fn switch(&self, name: &str) {
        let new = self.folder.path().join("current.new");
        symlink(name, &new).expect("a link can be made");
        fs::rename(new, self.current()).expect("a link can be renamed");
    }

    /// The link.
    #[must_use]
    pub fn current(&self) -> PathBuf {
        self.path().join("current")
    }

    /// The folder of all releases.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}
