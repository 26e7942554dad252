//! What `status --json` says: the words of the protocol as JSON.

use std::net::SocketAddr;

use dutch_master_protocol::control::{ListenerStatus, PoolStatus, WorkerStatus};
use serde::Deserialize;

/// Everything that a master tells about itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The pool as a whole.
    #[serde(flatten)]
    pub pool: PoolStatus,
    /// Every worker.
    pub workers: Vec<WorkerStatus>,
    /// Every listener.
    pub listeners: Vec<ListenerStatus>,
}

impl Status {
    /// Those that run.
    pub fn running(&self) -> impl Iterator<Item = &WorkerStatus> {
        self.workers.iter().filter(|worker| worker.state == "running")
    }

    /// The pids of those that run, in order.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let mut pids: Vec<_> = self.running().filter_map(|worker| i32::try_from(worker.pid?).ok()).collect();
        pids.sort_unstable();
        pids
    }

    /// Where the first listener really listens.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let address = &self.listeners.first().expect("there is a listener").address;
        SocketAddr::new(address.host.expect("a host"), address.port.expect("a port"))
    }
}
