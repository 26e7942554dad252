//! What a successor needs to go on if this master dies: `NAME.state` in the runtime directory. It has to outlive the process, not the machine: nothing is synced, and after a boot it counts for nothing.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::Hasher;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use super::failpoint::{self, Place};
use super::metrics::Counts;
use super::missing::Dead;
use super::process::lives;
use super::regular_file;
use super::snapshots::Snapshots;
use super::workers::Workers;
use crate::core::listeners::{Key, Registry};
use crate::core::{Pool, WorkerId};
use crate::options::ListenSpec;

/// The version of what is written. Another one is not read: what a newer master wrote may mean what this one does not know.
const VERSION: u32 = 1;

/// Most bytes that are read: many times the state of the largest pool.
const BYTES_MAX: u64 = 64 << 20;

/// The state as it is written.
#[derive(Debug, Serialize)]
pub(super) struct Current<'a> {
    pub(super) pool: &'a Pool,
    pub(super) workers: &'a Workers,
    pub(super) snapshots: &'a Snapshots,
    pub(super) registry: &'a Registry,
    pub(super) backlogs: BTreeMap<Key, u32>,
    pub(super) listen: &'a [ListenSpec],
    pub(super) counts: &'a Counts,
}

/// The state as it is read: the same keys.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) pool: Pool,
    pub(super) workers: Workers,
    pub(super) snapshots: Snapshots,
    pub(super) registry: Registry,
    /// Lengths of accept queues.
    pub(super) backlogs: BTreeMap<Key, u32>,
    /// The configured listeners.
    pub(super) listen: Vec<ListenSpec>,
    pub(super) counts: Counts,
}

#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    version: u32,
    boot_id: String,
    state: T,
}

/// Why a state cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another version wrote it.
    #[error("{} is of version {version}, and this master reads version {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// It is no state.
    #[error("{} is no state of a master: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The file.
#[derive(Debug, Default)]
pub(super) struct StateFile {
    path: PathBuf,
    boot_id: String,
    /// A digest of what is in it.
    written: Option<u64>,
}

impl StateFile {
    pub(super) fn at(path: PathBuf) -> StateFile {
        StateFile { path, boot_id: boot_id(), written: None }
    }

    /// Writes it, if it is not what is there already: whole or not at all.
    pub(super) fn write(&mut self, state: &Current<'_>) -> io::Result<()> {
        let bytes = serde_json::to_vec(&Sealed { version: VERSION, boot_id: self.boot_id.clone(), state })?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let digest = Some(hasher.finish());
        if digest == self.written {
            return Ok(());
        }
        regular_file::replace(&self.path, 0o600, |file| {
            failpoint::reached(Place::StateOpened);
            file.write_all(&bytes)?;
            failpoint::reached(Place::StateWritten);
            Ok(())
        })?;
        failpoint::reached(Place::StateReplaced);
        self.written = digest;
        Ok(())
    }

    /// There is nothing to go on with any more.
    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl State {
    /// What a master of this boot left at this path, if some of its workers live.
    pub(super) fn left_at(path: &Path) -> Result<Option<State>, StateError> {
        let mut bytes = Vec::new();
        let failed = |source| StateError::Io { path: path.into(), source };
        match regular_file::open_no_link(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes)).map_err(failed)?,
        };
        let malformed = |source| StateError::Malformed { path: path.into(), source };
        // The envelope first: what another version put into it may be anything.
        let Sealed { version, boot_id: of, .. } = serde_json::from_slice::<Sealed<serde::de::IgnoredAny>>(&bytes).map_err(malformed)?;
        if of != boot_id() {
            return Ok(None);
        }
        if version != VERSION {
            return Err(StateError::Version { path: path.into(), version });
        }
        let Sealed { state, .. } = serde_json::from_slice::<Sealed<State>>(&bytes).map_err(malformed)?;
        if !state.pool.is_consistent() {
            return Err(malformed(serde_json::Error::custom("what it says of its workers cannot be")));
        }
        Ok(Some(state).filter(|state| !state.living().is_empty()))
    }

    /// The listeners, and who holds them.
    pub(super) fn take_listeners(&mut self) -> Dead {
        let living = self.living();
        let (registry, backlogs, listen) = (std::mem::take(&mut self.registry), std::mem::take(&mut self.backlogs), std::mem::take(&mut self.listen));
        Dead { registry, backlogs, listen, living }
    }

    /// The workers whose processes live.
    pub(super) fn living(&self) -> BTreeSet<WorkerId> {
        self.workers.iter().filter(|(_, worker)| worker.pid.zip(worker.began).is_some_and(|(pid, began)| lives(pid, began))).map(|(id, _)| id).collect()
    }
}

/// Whether a master of this boot left living workers.
pub(super) fn has_living_workers(path: &Path) -> bool {
    matches!(State::left_at(path), Ok(Some(_)))
}

/// Whether workers may wait for a successor of the master that wrote this.
pub(super) fn may_be_needed(path: &Path) -> bool {
    // One that cannot be read may be another version's.
    path.exists() && !matches!(State::left_at(path), Ok(None))
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Config;
    use crate::os::process::began_at;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("dm-state-{name}-{}.state", std::process::id()))
    }

    fn write(path: &Path, workers: &Workers) -> StateFile {
        let (pool, registry) = (Pool::new(Config::default(), 2), Registry::default());
        let mut file = StateFile::at(path.into());
        let (snapshots, counts) = (Snapshots::default(), Counts::default());
        let state = Current { pool: &pool, workers, snapshots: &snapshots, registry: &registry, backlogs: BTreeMap::new(), listen: &[], counts: &counts };
        file.write(&state).unwrap();
        file
    }

    fn worker(pid: u32, began: Option<u64>) -> Workers {
        let worker = serde_json::json!({
            "slot": 0, "generation": 1, "directory": "Live", "token": "t", "pid": pid, "began": began, "sdk": null,
            "predecessors": 0, "has_run": true, "is_cut": false, "is_unfit": false
        });
        serde_json::from_value(serde_json::json!({ "by_id": { "1": worker }, "by_slot": { "0": 1 } })).unwrap()
    }

    #[test]
    fn a_state_counts_while_a_worker_of_it_lives_and_a_number_alone_is_no_worker() {
        let path = path("living");
        let us = std::process::id();
        let began = began_at(us);
        write(&path, &worker(us, began));
        assert_eq!(State::left_at(&path).unwrap().unwrap().living(), [1].into());
        write(&path, &worker(us, began.map(|began| began - 1)));
        assert!(State::left_at(&path).unwrap().is_none());
        assert!(!may_be_needed(&path));
        write(&path, &Workers::default()).remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_state_of_another_boot_counts_for_nothing_and_of_another_version_is_left_alone() {
        let path = path("other");
        write(&path, &worker(std::process::id(), began_at(std::process::id())));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen(&boot_id(), "other", 1)).unwrap();
        assert!(State::left_at(&path).unwrap().is_none());
        fs::write(&path, text.replacen("\"version\":1", "\"version\":99", 1).replacen("\"pool\"", "\"puddle\"", 1)).unwrap();
        assert!(matches!(State::left_at(&path), Err(StateError::Version { version: 99, .. })));
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(matches!(State::left_at(&path), Err(StateError::Malformed { .. })));
        assert!(may_be_needed(&path));
        fs::remove_file(&path).unwrap();
    }

    /// What version 1 wrote in the middle of a restart. It stays as it is: whoever changes the state sees here whether what masters have left already is still read.
    #[test]
    fn the_fixture_of_version_1_is_read_and_keys_of_later_versions_are_ignored() {
        let mut fixture: serde_json::Value = serde_json::from_str(include_str!("../../tests/fixtures/state-1.json")).unwrap();
        fixture["boot_id"] = boot_id().into();
        // Somebody of it has to live.
        let us = std::process::id();
        (fixture["state"]["workers"]["by_id"]["1"]["pid"], fixture["state"]["workers"]["by_id"]["1"]["began"]) = (us.into(), began_at(us).into());
        for place in ["", "/state", "/state/pool", "/state/workers/by_id/1", "/state/counts", "/state/snapshots/by_generation/1/options"] {
            fixture.pointer_mut(place).unwrap()["of-a-later-version"] = 1.into();
        }
        let path = path("fixture");
        fs::write(&path, fixture.to_string()).unwrap();
        let state = State::left_at(&path).unwrap().unwrap();
        assert_eq!((state.living(), state.pool.size(), state.workers.iter().count()), ([1].into(), 2, 3));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let path = path("blocked");
        let new = PathBuf::from(format!("{}.new", path.display()));
        let mut file = write(&path, &Workers::default());
        let before = fs::read(&path).unwrap();
        fs::create_dir(&new).unwrap();
        let (pool, registry) = (Pool::new(Config::default(), 3), Registry::default());
        let (workers, snapshots, counts) = (Workers::default(), Snapshots::default(), Counts::default());
        let state =
            Current { pool: &pool, workers: &workers, snapshots: &snapshots, registry: &registry, backlogs: BTreeMap::new(), listen: &[], counts: &counts };
        file.write(&state).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::remove_dir(&new).unwrap();
        file.write(&state).unwrap();
        assert_ne!(fs::read(&path).unwrap(), before);
        file.remove();
    }
}
