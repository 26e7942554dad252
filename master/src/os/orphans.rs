//! Orphans: the first process of a PID namespace inherits whatever in it has lost its parent, and nobody else can reap that. Workers and hooks are left to those who wait for them.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tracing::debug;

use super::event_loop::EventLoop;

impl EventLoop {
    /// Reaps every child that has ended and is not ours. By number, since asking for any child would take the exit status from a worker.
    pub(super) fn reap_orphans(&mut self) {
        let workers = self.workers.iter().filter_map(|(_, worker)| worker.process());
        let ours: BTreeSet<_> = workers.chain(self.hooks.processes()).chain(self.upgrades.process()).map(|process| process.pid().cast_signed()).collect();
        let reaped = children().into_iter().filter(|pid| !ours.contains(pid)).filter(|pid| reap(*pid)).count();
        if reaped > 0 {
            debug!(reaped, "Orphans reaped");
        }
    }
}

/// An unreaped child keeps its number: it cannot be another's by now.
fn reap(pid: i32) -> bool {
    waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some())
}

/// The children of every thread: orphans go to any of them.
fn children() -> Vec<i32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}
