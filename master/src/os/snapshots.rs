//! What a generation fixes for its workers: the options, the environment, and the directory once it is committed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dutch_master_protocol::env;
use serde::{Deserialize, Serialize};

use super::in_json;
use super::program::ProgramError;
use super::upgrade::HANDOVER;
use crate::core::{Directory, GenerationId};
use crate::options::Options;

/// Names and values.
pub(super) type Environment = BTreeMap<OsString, OsString>;

/// What belongs to the master's own parent and would mislead a worker: its service manager's, and a Node parent's channel.
const NOT_INHERITED: [&str; 12] = [
    "NOTIFY_SOCKET",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "FDSTORE",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
    HANDOVER,
];

/// What is fixed for one generation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Snapshot {
    #[serde(with = "in_json::shared")]
    pub(super) options: Arc<Options>,
    #[serde(with = "in_json::environment")]
    pub(super) environment: Environment,
    /// The directory of the pool, links and all.
    pub(super) live: PathBuf,
    /// What the live directory was when its last worker was started, until it was committed.
    directory: Option<PathBuf>,
    is_committed: bool,
}

/// The snapshots that can still be needed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Snapshots {
    by_generation: BTreeMap<GenerationId, Snapshot>,
}

impl Snapshots {
    /// Fixes a generation as things are now. Of the others the committed one stays, and those that still have workers: those that were given up or superseded would pile up.
    pub(super) fn take(
        &mut self,
        generation: GenerationId,
        options: Arc<Options>,
        environment: Environment,
        live: PathBuf,
        has_workers: impl Fn(GenerationId) -> bool,
    ) {
        self.by_generation.retain(|other, snapshot| snapshot.is_committed || has_workers(*other));
        let snapshot = Snapshot { options, environment, live, directory: None, is_committed: false };
        self.by_generation.insert(generation, snapshot);
    }

    pub(super) fn get(&self, generation: GenerationId) -> Option<&Snapshot> {
        self.by_generation.get(&generation)
    }

    /// What is live is another directory and environment now. Those of a committed generation are what its last worker was started with.
    pub(super) fn moved(&mut self, generation: GenerationId, live: PathBuf, environment: Environment) {
        if let Some(snapshot) = self.by_generation.get_mut(&generation) {
            (snapshot.live, snapshot.environment) = (live, environment);
        }
    }

    /// The generation is the one to fall back to; older ones never start a worker again.
    pub(super) fn commit(&mut self, generation: GenerationId) {
        self.by_generation.retain(|older, _| *older >= generation);
        if let Some(snapshot) = self.by_generation.get_mut(&generation) {
            snapshot.is_committed = true;
        }
    }

    /// Where a worker of this generation starts now, and whether that is another place than was wanted.
    pub(super) fn directory(&mut self, generation: GenerationId, wanted: Directory) -> Result<Place, ProgramError> {
        let snapshot = self.by_generation.get_mut(&generation).ok_or(ProgramError::NoSnapshot { generation })?;
        let committed = snapshot.directory.clone().filter(|_| wanted == Directory::Committed);
        if let Some(path) = committed.clone().filter(|path| path.is_dir()) {
            return Ok(Place { path, instead_of: None });
        }
        let path = resolve(&snapshot.live)?;
        if wanted == Directory::Live && !snapshot.is_committed {
            snapshot.directory = Some(path.clone());
        }
        Ok(Place { path, instead_of: committed })
    }
}

/// Where a worker starts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// The committed directory, if it is gone.
    pub(super) instead_of: Option<PathBuf>,
}

/// The directory without links, as it is now.
pub(super) fn resolve(directory: &Path) -> Result<PathBuf, ProgramError> {
    let failed = |source| ProgramError::Directory { path: directory.into(), source };
    let path = directory.canonicalize().map_err(failed)?;
    if path.is_dir() { Ok(path) } else { Err(failed(std::io::ErrorKind::NotADirectory.into())) }
}

/// The master's own environment with what the configuration adds.
pub(super) fn environment(own: impl Iterator<Item = (OsString, OsString)>, added: &[(String, String)]) -> Environment {
    let is_inherited = |name: &OsStr| name.to_str().is_none_or(|name| !NOT_INHERITED.contains(&name) && !env::ALL.contains(&name));
    let inherited = own.filter(|(name, _)| is_inherited(name));
    inherited.chain(added.iter().map(|(name, value)| (name.into(), value.into()))).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn workers_get_the_masters_environment_less_what_is_meant_for_it_alone() {
        let own = [("PATH", "/bin"), ("NOTIFY_SOCKET", "/run/notify"), ("LISTEN_FDS", "1"), ("DUTCH_MASTER_TOKEN", "other"), ("A", "1")];
        let own = own.into_iter().map(|(name, value)| (name.into(), value.into()));
        let expected: Environment = [("PATH", "/bin"), ("A", "2"), ("B", "3")].into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        assert_eq!(environment(own, &[("A".into(), "2".into()), ("B".into(), "3".into())]), expected);
    }

    #[test]
    fn what_was_given_up_is_forgotten_when_its_workers_are_gone() {
        let mut snapshots = Snapshots::default();
        for generation in 1..=4 {
            snapshots.take(generation, Arc::new(Options::new("app")), Environment::new(), "/".into(), |other| other == 3);
            if generation == 1 {
                snapshots.commit(1);
            }
        }
        assert_eq!(snapshots.by_generation.keys().copied().collect::<Vec<_>>(), [1, 3, 4]);
    }

    #[test]
    fn a_link_that_moved_is_followed_and_the_committed_directory_is_where_it_pointed_before() {
        let folder = std::env::temp_dir().join(format!("dm-snapshots-{}", std::process::id()));
        let (one, two, current) = (folder.join("one"), folder.join("two"), folder.join("current"));
        for release in [&one, &two] {
            std::fs::create_dir_all(release).unwrap();
        }
        let (one, two) = (one.canonicalize().unwrap(), two.canonicalize().unwrap());
        symlink(&one, &current).unwrap();
        let mut snapshots = Snapshots::default();
        let place = |snapshots: &mut Snapshots, generation, wanted| snapshots.directory(generation, wanted).unwrap();
        let options = Arc::new(Options::new("app"));
        snapshots.take(1, options.clone(), Environment::new(), current.clone(), |_| false);
        assert_eq!(place(&mut snapshots, 1, Directory::Live).path, one);
        snapshots.commit(1);
        std::fs::remove_file(&current).unwrap();
        symlink(&two, &current).unwrap();
        snapshots.take(2, options, Environment::new(), current, |_| false);
        assert_eq!(place(&mut snapshots, 2, Directory::Live).path, two);
        assert_eq!(place(&mut snapshots, 1, Directory::Live).path, two, "crash replacements follow it too");
        assert_eq!(place(&mut snapshots, 1, Directory::Committed), Place { path: one.clone(), instead_of: None });
        std::fs::remove_dir(&one).unwrap();
        assert_eq!(place(&mut snapshots, 1, Directory::Committed), Place { path: two, instead_of: Some(one) });
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(snapshots.directory(2, Directory::Live), Err(ProgramError::Directory { .. })));
    }
}
