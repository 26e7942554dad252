//! Workers that are replaced although nothing is wrong with them (age, memory, requests), and those that show no sign of life.
//!
//! Recycling goes through the same door as `request-restart`: a replacement first, then the order to go. Two things keep workers from going together: their limits are spread over the slots
//! ([`spread`]), and of those that are due one is replaced at a time, and none while a restart is under way.

use super::action::{Failure, Recycle, Report};
use super::pool::Pool;
use super::time::Time;
use super::worker::{State, Worker, WorkerId};

/// The part of a limit over which the slots are spread: the first slot has the whole of it, the others less, and none less than three quarters, so that workers that were started together are not due together.
const SPREAD: u64 = 4;

/// A slot's share of a limit (age, memory, requests), at least 1.
pub fn spread(limit: u64, slot: u32, size: u32) -> u64 {
    let (slot, size) = (u64::from(slot.min(size.saturating_sub(1))), u64::from(size.max(1)));
    (limit - (limit / SPREAD).saturating_mul(slot) / size).max(1)
}

impl Pool {
    /// A worker is due to be recycled. Repeats change nothing, and neither does one from a worker that does not run.
    pub(super) fn recycle_due(&mut self, now: Time, id: WorkerId, why: Recycle) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.is_running() && worker.due.is_none() {
            worker.due = Some((now, why));
            self.report(Report::WorkerDue { worker: id, why });
        }
    }

    /// The one that is being recycled: of those that are due, the one that has been so for longest. None while a restart is under way, which replaces everybody anyway or is bringing the pool up.
    pub(super) fn recycling(&self) -> Option<WorkerId> {
        let due = self.workers.values().filter(|w| w.is_running() && !w.asked && self.restart.is_none());
        due.filter_map(|w| Some((w.due?.0, w.id))).min().map(|(_, id)| id)
    }

    /// When a running worker is too old.
    pub(super) fn lifetime_ends(&self, worker: &Worker) -> Option<Time> {
        match (worker.state, self.config.max_lifetime_ms) {
            (State::Running { since, .. }, Some(limit)) if worker.due.is_none() => Some(since.after(spread(limit, worker.slot, self.size))),
            _ => None,
        }
    }

    /// When a running worker that sends heartbeats has been silent for too long. One that cannot be heard is not blamed for it.
    pub(super) fn silence_ends(&self, worker: &Worker) -> Option<Time> {
        let (heard, limit) = (worker.heard_at?, self.config.heartbeat_ms?);
        (worker.is_running() && worker.connected).then(|| heard.after(limit))
    }

    /// It shows a sign of life. With the first one after `listening` the watch begins: who never sends any is not watched.
    pub(super) fn heard_from(&mut self, now: Time, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.is_running()) {
            worker.heard_at = Some(now);
        }
    }

    pub(super) fn expire_lifetime(&mut self, now: Time, id: WorkerId) {
        if self.workers.get(&id).and_then(|worker| self.lifetime_ends(worker)).is_some_and(|at| at <= now) {
            self.recycle_due(now, id, Recycle::Lifetime);
        }
    }

    /// A worker that has been silent for too long is replaced like one that crashed. If the deadline comes a whole period late, it was the master that slept (a suspend, SIGSTOP), and the worker gets another one.
    pub(super) fn expire_silence(&mut self, now: Time, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let (Some(at), Some(limit_ms), Some(heard)) = (self.silence_ends(worker), self.config.heartbeat_ms, worker.heard_at) else { return };
        let State::Running { since, .. } = worker.state else { return };
        if now >= at.after(limit_ms) {
            self.heard_from(now, id);
        } else if now >= at {
            let (before, silent_ms) = (worker.clone(), now.since(heard));
            self.report(Report::WorkerBlocked { worker: id, silent_ms });
            self.kill(id);
            self.worker_died(now, &before, since, Failure::Blocked { silent_ms });
        }
    }
}
