//! Listeners of a master that died: taken back from its workers as they return, or bound anew.

use std::io;
use std::os::fd::OwnedFd;

use super::super::listening_socket::{ListeningSocket, Unfit};
use super::super::missing::{Dead, Missing};
use super::{ListenError, Listeners, OUT_OF_BOUNDS};
use crate::core::WorkerId;
use crate::core::listeners::Key;

impl Listeners {
    /// What a dead master had, as far as its living workers hold it: bound by whoever comes back, not anew.
    pub(in super::super) fn of_the_dead(dead: Dead) -> Listeners {
        Listeners { missing: Missing::of(dead), ..Listeners::default() }
    }

    /// All configured listeners have been told: the others of a dead master's are only the workers'.
    pub(in super::super) fn inherit_the_rest(&mut self) {
        self.missing.inherit_the_rest(&mut self.registry);
    }

    pub(in super::super) fn missing(&self) -> Vec<Key> {
        self.missing.keys()
    }

    /// Who says that they hold a copy.
    pub(in super::super) fn holders(&self, key: &str) -> Vec<WorkerId> {
        self.registry.holders(key).collect()
    }

    /// A worker that came back tells what it holds.
    pub(in super::super) fn holds(&mut self, worker: WorkerId, keys: &[Key]) {
        self.registry.holds(worker, keys);
    }

    /// Takes a socket that is said to be the missing one.
    ///
    /// # Errors
    /// It is another one.
    pub(in super::super) fn take_back(&mut self, key: &str, fd: OwnedFd) -> Result<(), Unfit> {
        let (Some(entry), true) = (self.registry.get(key), self.missing.contains(key)) else { return Ok(()) };
        let socket = ListeningSocket::adopt(fd, &entry.address, self.missing.backlog(key), self.access_of(key))?;
        self.missing.found(key);
        self.hold(key.to_owned(), socket);
        Ok(())
    }

    /// Binds a missing one anew.
    ///
    /// # Errors
    /// Somebody has the address.
    pub(in super::super) fn bind_missing(&mut self, key: &str) -> Result<(), ListenError> {
        let (Some(entry), true) = (self.registry.get(key), self.missing.contains(key)) else { return Ok(()) };
        let address = entry.address.clone();
        if !entry.configured && self.is_out_of_bounds(&address) {
            return Err(ListenError::of(&address, io::Error::other(OUT_OF_BOUNDS)));
        }
        let socket = ListeningSocket::bind_for(&address, self.missing.backlog(key), self.access_of(key)).map_err(|source| ListenError::of(&address, source))?;
        self.missing.found(key);
        self.hold(key.to_owned(), socket);
        Ok(())
    }

    /// A missing one cannot be had: it is told once. One that only workers had asked for is forgotten when none of them lives.
    pub(in super::super) fn is_out_of_reach(&mut self, key: &str) -> OutOfReach {
        let is_forgotten = self.registry.get(key).is_none_or(|entry| !entry.configured) && self.registry.holders(key).next().is_none();
        if is_forgotten {
            self.registry.forget(key);
            self.missing.found(key);
        }
        OutOfReach { is_news: self.missing.tell(key) || is_forgotten, is_forgotten }
    }
}

/// A listener that could be had neither from a worker nor anew.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct OutOfReach {
    /// It has not been told.
    pub(in super::super) is_news: bool,
    /// Nobody needs it any more.
    pub(in super::super) is_forgotten: bool,
}
