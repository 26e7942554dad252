//! The listeners that this worker holds, with a copy of each, so that it can give them back to a master that took over from a dead one.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::listener::Listener;

/// Keys, and the copies that are still to be had.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<String, Option<Arc<OwnedFd>>>);

impl Held {
    /// Keeps a copy. Where the system has no descriptor left, the listener is held all the same, and cannot be given back.
    pub(super) fn keep(&mut self, listener: &Listener) {
        let copy = listener.as_fd().try_clone_to_owned().ok();
        self.0.insert(listener.key().to_owned(), copy.map(Arc::new));
    }

    pub(super) fn copy(&self, key: &str) -> Option<Arc<OwnedFd>> {
        self.0.get(key).cloned().flatten()
    }

    pub(super) fn close(&mut self, key: &str) {
        self.0.remove(key);
    }

    pub(super) fn close_all(&mut self) {
        self.0.clear();
    }

    /// Closes the copies, which would keep the listeners open when nobody accepts any more.
    pub(super) fn drop_copies(&mut self) {
        self.0.values_mut().for_each(|copy| *copy = None);
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}
