//! Workers that fail: what counts as a failure, and what is told of several in a row (rules 7 and 9).

use super::action::Failure;
use super::event::ExitStatus;
use super::pool::Pool;
use super::time::Time;
use super::worker::{Worker, WorkerId};

/// Failures in a row: of starts, and of workers that ended soon after they had said `listening`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing<'a> {
    /// How many.
    pub failures: u32,
    /// The last one.
    pub why: &'a Failure,
    /// Whose that was. `None`: an older master counted it.
    pub worker: Option<WorkerId>,
    /// When the next worker is tried. `None`: one is being tried.
    pub retry_at: Option<Time>,
}

impl Pool {
    /// What fails, until a worker that began after the last failure has lasted, or somebody intervened.
    pub fn failing(&self) -> Option<Failing<'_>> {
        let failures = Some(self.backoff.failures).filter(|failures| *failures > 0 && self.stopping.is_none())?;
        Some(Failing { failures, why: self.last_failure.as_ref()?, worker: self.last_failed, retry_at: self.backoff.deadline() })
    }

    /// A worker that had been running since `since` ended its service. A clean end counts only if it came before the worker had lasted: else a program that ends at once would be started again for ever without delay.
    pub(super) fn worker_died(&mut self, now: Time, worker: &Worker, since: Time, why: Failure) {
        let clean = matches!(why, Failure::Exited(ExitStatus::Code(0)));
        let proven_ms = if clean { self.config.settle_ms } else { super::config::PROVEN_MS };
        if now.since(since) < proven_ms && !(clean && worker.is_settled()) {
            self.count_failure(now, worker, why.clone());
        }
        if !worker.is_settled() {
            self.count_wave(worker, why);
        }
    }

    /// A start failed.
    pub(super) fn worker_failed(&mut self, now: Time, worker: &Worker, why: Failure) {
        self.count_failure(now, worker, why.clone());
        self.count_wave(worker, why);
    }

    fn count_failure(&mut self, now: Time, worker: &Worker, why: Failure) {
        (self.last_failure, self.last_failed) = (Some(why), Some(worker.id));
        self.backoff.failed(now);
    }

    fn count_wave(&mut self, worker: &Worker, why: Failure) {
        let newest = self.last_worker;
        if let Some(restart) = self.restart.as_mut().filter(|restart| restart.target == worker.generation) {
            restart.worker_failed(worker.id, newest);
            (self.last_failure, self.last_failed) = (Some(why), Some(worker.id));
        }
    }
}
