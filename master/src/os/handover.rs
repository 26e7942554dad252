//! What a master hands over to the program that takes its place by exec: everything that the state file has, and what only a process that lives on can keep. Written into memory that both can read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::adoption::Adoption;
use super::connection::{self, ConnectionId};
use super::control::Clients;
use super::control_socket;
use super::hook;
use super::in_json;
use super::listeners;
use super::metrics;
use super::spawn::Limit;
use super::systemd::HandedTelling;
use crate::core::Time;
use crate::options::Options;

/// The version of what is handed over. A program of another version is refused, or refuses: keys may be added within one, and are ignored by those who do not know them.
pub(super) const VERSION: u32 = 1;

/// Most bytes that are read: every queue of every connection full is less.
const BYTES_MAX: u64 = 512 << 20;

/// With `S` the state as it is written, or as it is read.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handover<S> {
    pub(super) state: S,
    #[serde(with = "in_json::shared")]
    pub(super) options: Arc<Options>,
    pub(super) name: String,
    pub(super) here: PathBuf,
    pub(super) control_socket: control_socket::Handed,
    pub(super) listeners: listeners::Handed,
    pub(super) connections: BTreeMap<ConnectionId, connection::Handed>,
    pub(super) last_connection: ConnectionId,
    pub(super) clients: Clients,
    pub(super) hooks: hook::Handed,
    pub(super) adoption: Adoption,
    pub(super) metrics: Option<metrics::Handed>,
    pub(super) telling: HandedTelling,
    pub(super) started_at: Time,
    pub(super) started_at_unix: f64,
    pub(super) accept_again_at: Option<Time>,
    pub(super) look_at_memory_at: Option<Time>,
    /// That of open descriptors, as this process was started with it.
    pub(super) limit: Option<Limit>,
    /// What the program around the master wants its successor to know.
    pub(super) context: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Sealed<T> {
    /// The version.
    dutch_master_handover: u32,
    /// Version of the master that wrote it.
    from: String,
    /// Its process, which stays the same.
    #[serde(default)]
    pid: Option<u32>,
    descriptors: BTreeSet<RawFd>,
    handover: T,
}

/// What was handed over.
#[derive(Debug)]
pub(super) struct Received<S> {
    pub(super) handover: Handover<S>,
    /// Version of the master that wrote it.
    pub(super) from: String,
    /// Its process; `None`: it did not say.
    pub(super) pid: Option<u32>,
    pub(super) descriptors: BTreeSet<RawFd>,
}

/// Why a master cannot take another's place.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// What is handed over cannot be read.
    #[error("cannot read what is handed over: {0}")]
    Io(#[from] io::Error),
    /// It means something else than this program knows.
    #[error("a master {from} hands over in version {version}, and this one, {}, takes over version {VERSION} alone", env!("CARGO_PKG_VERSION"))]
    Version {
        /// The version of the master.
        from: String,
        /// The version of what it hands over.
        version: u32,
    },
    /// It would not be this program that is in the master's place.
    #[error("it is another program that runs this one, and that one would be in the master's place: a script has to run it by `exec`")]
    Wrapped,
    /// It does not say what this program needs.
    #[error("what is handed over makes no sense: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Memory to write it into, at whose beginning the next program reads it.
pub(super) fn memory() -> io::Result<OwnedFd> {
    Ok(memfd_create("dutch-master-handover", MFdFlags::MFD_CLOEXEC)?)
}

/// Writes it.
pub(super) fn write<S: Serialize>(memory: &OwnedFd, handover: &Handover<S>, descriptors: BTreeSet<RawFd>) -> io::Result<()> {
    let sealed = Sealed { dutch_master_handover: VERSION, from: env!("CARGO_PKG_VERSION").into(), pid: Some(std::process::id()), descriptors, handover };
    let mut file = File::from(memory.try_clone()?);
    file.write_all(&serde_json::to_vec(&sealed)?)?;
    file.rewind()
}

/// Reads it.
///
/// # Errors
/// [`HandoverError`]: then nothing has happened.
pub(super) fn read<S: DeserializeOwned>(from: impl Read) -> Result<Received<S>, HandoverError> {
    let mut bytes = Vec::new();
    from.take(BYTES_MAX).read_to_end(&mut bytes)?;
    // The envelope first: what another version put into it may be anything.
    let Sealed { dutch_master_handover: version, from, .. } = serde_json::from_slice::<Sealed<IgnoredAny>>(&bytes)?;
    if version != VERSION {
        return Err(HandoverError::Version { from, version });
    }
    let Sealed { handover, descriptors, from, pid, .. } = serde_json::from_slice::<Sealed<Handover<S>>>(&bytes)?;
    Ok(Received { handover, from, pid, descriptors })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::state::State;
    use super::*;

    /// What version 1 hands over, as a master in the middle of a restart has written it. It stays as it is: whoever changes what is handed over sees here whether the masters that run already can be upgraded.
    const FIXTURE: &str = include_str!("../../tests/fixtures/handover-1.json");

    fn fixture() -> Value {
        serde_json::from_str(FIXTURE).unwrap()
    }

    fn read(value: &Value) -> Result<Received<State>, HandoverError> {
        super::read(value.to_string().as_bytes())
    }

    #[test]
    fn the_fixture_of_version_1_is_read_whole() {
        let Received { handover, from, descriptors, .. } = super::read::<State>(FIXTURE.as_bytes()).unwrap();
        assert_eq!((from.as_str(), handover.name.as_str(), descriptors.len()), ("0.1.0", "shop", 12));
        assert_eq!(handover.state.pool.size(), 2);
        assert_eq!(handover.hooks.workers().collect::<Vec<_>>(), [3]);
        assert_eq!(handover.connections.keys().copied().collect::<Vec<_>>(), [1, 2, 5, 6, 7, 9]);
        // Nothing that was written is forgotten when it is written again: a key that lost its meaning would be.
        let again = serde_json::to_value(&handover.connections).unwrap();
        assert_eq!(again, fixture()["handover"]["connections"]);
        for part in ["clients", "hooks", "adoption", "metrics", "telling", "listeners", "control_socket", "options", "limit"] {
            let again = match part {
                "clients" => serde_json::to_value(&handover.clients),
                "hooks" => serde_json::to_value(&handover.hooks),
                "adoption" => serde_json::to_value(&handover.adoption),
                "metrics" => serde_json::to_value(&handover.metrics),
                "telling" => serde_json::to_value(&handover.telling),
                "listeners" => serde_json::to_value(&handover.listeners),
                "control_socket" => serde_json::to_value(&handover.control_socket),
                "options" => serde_json::to_value(handover.options.as_ref()),
                _ => serde_json::to_value(handover.limit),
            };
            assert_eq!(again.unwrap(), fixture()["handover"][part], "{part}");
        }
    }

    #[test]
    fn keys_that_a_later_version_adds_to_the_fixture_are_ignored() {
        for place in [
            "",
            "/handover",
            "/handover/state",
            "/handover/state/pool",
            "/handover/state/pool/config",
            "/handover/state/workers",
            "/handover/state/workers/by_id/1",
            "/handover/options",
            "/handover/control_socket",
            "/handover/listeners",
            "/handover/listeners/sockets/web",
            "/handover/connections/1",
            "/handover/connections/1/returns",
            "/handover/clients",
            "/handover/hooks",
            "/handover/adoption",
            "/handover/metrics",
        ] {
            let mut later = fixture();
            later.pointer_mut(place).unwrap_or_else(|| panic!("{place}"))["of-a-later-version"] = json!({ "a": [1] });
            read(&later).unwrap_or_else(|error| panic!("{place}: {error}"));
        }
    }

    #[test]
    fn a_fixture_of_another_version_or_without_what_is_needed_is_refused_with_a_reason() {
        let mut newer = fixture();
        (newer["dutch_master_handover"], newer["from"], newer["handover"]) = (json!(VERSION + 1), json!("9.0.0"), json!("of another kind"));
        assert_eq!(
            read(&newer).unwrap_err().to_string(),
            format!("a master 9.0.0 hands over in version 2, and this one, {}, takes over version 1 alone", env!("CARGO_PKG_VERSION"))
        );
        let mut lacking = fixture();
        lacking["handover"].as_object_mut().unwrap().remove("connections");
        assert!(read(&lacking).unwrap_err().to_string().contains("missing field `connections`"));
        assert!(super::read::<State>(&b"{"[..]).is_err() && super::read::<State>(&b""[..]).is_err());
    }
}
