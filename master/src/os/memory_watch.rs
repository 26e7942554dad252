//! Watching the memory of workers that have a limit. Without a limit nobody looks, and nothing wakes the master.

use std::collections::HashMap;

use super::clock;
use super::event_loop::EventLoop;
use crate::core::{Event, Recycle, Time, Worker, WorkerId};
use crate::memory;

/// Time between two looks in milliseconds: a leak is slower, and a look costs a read for every process of the machine.
const INTERVAL_MS: u64 = 5_000;

impl EventLoop {
    /// A worker runs: from now on somebody has to look, if it has a limit.
    pub(super) fn begin_to_watch_memory(&mut self, worker: WorkerId) {
        let limit = self.workers.get(worker).and_then(|process| self.options_of(process.generation).max_memory);
        if limit.is_some() && self.look_at_memory_at.is_none() {
            self.look_at_memory_at = Some(clock::now().after(INTERVAL_MS));
        }
    }

    /// Looks, if it is time to.
    pub(super) fn watch_memory(&mut self, now: Time) {
        if self.look_at_memory_at.is_none_or(|at| at > now) {
            return;
        }
        let of_worker = |worker: &Worker| {
            let process = self.workers.get(worker.id)?;
            Some((process.pid?, (worker.id, self.options_of(process.generation).max_memory?)))
        };
        let watched: HashMap<_, _> = self.pool.workers().filter(|worker| worker.is_running() && worker.due.is_none()).filter_map(of_worker).collect();
        let limits = watched.iter().map(|(pid, (_, limit))| (*pid, *limit)).collect();
        for (pid, memory) in memory::above(&limits) {
            let Some((worker, _)) = watched.get(&pid).copied() else { continue };
            if let Some(process) = self.workers.get_mut(worker) {
                process.memory_above_limit = Some(memory);
            }
            self.note(Event::RecycleDue { worker, why: Recycle::Memory });
        }
        self.look_at_memory_at = (!watched.is_empty()).then(|| clock::now().after(INTERVAL_MS));
    }
}
