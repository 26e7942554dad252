//! What a master can be upgraded to: itself, and programs that are none.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::offers;
use crate::harness::binary;

/// One in so many of the broken ones hangs: that takes as long as a master waits for it.
const HANGS_ONE_IN: usize = 8;

pub(super) struct Upgrades {
    folder: TempDir,
}

impl Upgrades {
    /// None: the master offers no upgrade.
    pub(super) fn offered() -> Option<Upgrades> {
        let folder = offers("upgrade").then(TempDir::new)?.ok()?;
        let script = |name: &str, text: &str, mode| {
            let file = folder.path().join(name);
            fs::write(&file, text).and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(mode)))
        };
        script("fails", "#!/bin/sh\nexit 1\n", 0o755).ok()?;
        script("lies", "#!/bin/sh\necho yes\n", 0o755).ok()?;
        script("is-not-executable", "#!/bin/sh\n", 0o644).ok()?;
        script("hangs", "#!/bin/sh\nexec sleep 600\n", 0o755).ok()?;
        Some(Upgrades { folder })
    }

    pub(super) fn good(&self) -> String {
        binary("dutch-master").to_string_lossy().into_owned()
    }

    pub(super) fn broken(&self, random: &mut fastrand::Rng) -> String {
        let names = ["fails", "lies", "is-not-executable", "is-missing"];
        let name = if random.usize(0..HANGS_ONE_IN) == 0 { "hangs" } else { names[random.usize(0..names.len())] };
        self.folder.path().join(name).to_string_lossy().into_owned()
    }
}
