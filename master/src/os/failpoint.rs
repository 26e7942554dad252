//! Places at which a test lets this master die as by SIGKILL, one system call before or after another. A release build has none of it.
//!
//! `DUTCH_MASTER_FAILPOINT` names a file; while that says `NAME N`, the Nth time that the place of this name is reached is the end. Looked up anew each time, so that a test chooses the moment.

#[cfg(not(debug_assertions))]
pub(super) const fn reached(_place: Place) {}

/// The places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A worker's process is there, and nobody has noted its number.
    Spawned,
    /// A listener is about to be handed over.
    BeforeFrame,
    /// The worker has been told that a listener comes, and it has not been sent.
    BeforeDescriptor,
    /// The new state is empty.
    StateOpened,
    /// The new state is written, and the old one in its place.
    StateWritten,
    /// The new state is in place.
    StateReplaced,
    /// A worker of the dead master is watched.
    WorkerAdopted,
    /// A worker of the dead master has come back.
    WorkerBack,
    /// A listener of the dead master has come back.
    ListenerBack,
    /// Another program is about to take this one's place.
    BeforeExec,
    /// It has.
    AfterExec,
    /// It has everything, and nobody has been told.
    Upgraded,
}

#[cfg(debug_assertions)]
pub(super) use armed::reached;

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    use super::Place;

    /// Dies, if this is the place.
    pub(in crate::os) fn reached(place: Place) {
        static FILE: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
        static HITS: AtomicU64 = AtomicU64::new(0);
        let Some(file) = FILE.get_or_init(|| std::env::var_os("DUTCH_MASTER_FAILPOINT").map(Into::into)) else { return };
        let Ok(chosen) = std::fs::read_to_string(file) else { return };
        let (name, nth) = chosen.trim().split_once(' ').unwrap_or((chosen.trim(), "1"));
        if format!("{place:?}") == name && HITS.fetch_add(1, Ordering::Relaxed) + 1 == nth.parse().unwrap_or(1) {
            let _ = raise(Signal::SIGKILL);
        }
    }
}
