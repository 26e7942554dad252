//! A disk that is small enough to fill, which nobody else sees.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Mounts one of 1 MiB for this process and those that it starts. To be called before there are threads. None: the system does not let it.
#[must_use]
pub fn small_disk() -> Option<PathBuf> {
    let folder = PathBuf::from(format!("/tmp/dmc{}", std::process::id()));
    let nothing: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).ok()?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).ok()?;
    fs::create_dir(&folder).ok()?;
    mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("size=1m")).ok()?;
    Some(folder)
}

/// A disk that is full while this lives.
pub(super) struct Filled(PathBuf);

impl Filled {
    pub(super) fn fill(disk: &Path) -> Filled {
        let file = disk.join("filler");
        if let Ok(mut filler) = fs::File::create(&file) {
            // Until there is no room for a byte more.
            for size in [4_096, 1] {
                while filler.write_all(&vec![0; size]).is_ok() {}
            }
        }
        Filled(file)
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
