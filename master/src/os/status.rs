//! What the master tells about itself when it is asked: the pool as a whole, and each worker.

use dutch_master_protocol::control::{Failing, Phase, PoolStatus, WorkerStatus};

use super::clock;
use super::event_loop::EventLoop;
use super::line::{bounded, in_parts};
use crate::core::{self, Failure};

/// Most bytes of a command line in a status: it has to fit into a frame.
const COMMAND_BYTES_MAX: usize = 8 * 1024;

/// What each word counts in addition to its bytes: however short they are, 512 is the most, half of what a message may have.
const WORD_BYTES: usize = 16;

fn shortened(words: impl Iterator<Item = String>) -> Vec<String> {
    let (mut left, mut shown) = (COMMAND_BYTES_MAX, Vec::new());
    for word in words {
        let Some(rest) = left.checked_sub(word.len() + WORD_BYTES) else {
            shown.push("…".into());
            break;
        };
        left = rest;
        shown.push(word);
    }
    shown
}

impl EventLoop {
    pub(super) fn pool_status(&self) -> PoolStatus {
        let phase = match self.pool.phase() {
            core::Phase::Starting => Phase::Starting,
            core::Phase::Serving => Phase::Serving,
            core::Phase::Restarting => Phase::Restarting,
            core::Phase::Stopping => Phase::Stopping,
        };
        let options = self.options_of(self.pool.generation());
        let worker = options.worker.to_string_lossy().into_owned();
        PoolStatus {
            name: self.name.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            phase,
            size: self.pool.size(),
            running: self.pool.running(),
            generation: self.pool.generation(),
            committed: self.pool.committed(),
            mixed: self.pool.is_mixed(),
            given_up: self.pool.given_up().map(|(generation, why)| format!("generation {generation}: {}", self.in_words(why))),
            failing: self.pool.failing().map(|failing| self.failing(&failing)),
            restarts: self.pool.restarts_done(),
            crashes: Some(self.counts.crashes()),
            failed_starts: Some(self.counts.failed_starts()),
            command: shortened([worker].into_iter().chain(options.args.iter().cloned())),
            dir: self.directory_of(options).to_string_lossy().into_owned(),
            uptime_ms: clock::now().since(self.started_at),
        }
    }

    pub(super) fn worker_status(&self, worker: &core::Worker) -> WorkerStatus {
        let process = self.workers.get(worker.id);
        WorkerStatus {
            id: worker.id,
            slot: worker.slot,
            generation: worker.generation,
            state: worker.state_name().into(),
            pid: process.and_then(|process| process.pid),
            age_ms: clock::now().since(worker.ordered_at),
            sdk: process.and_then(|process| process.sdk.clone()),
            restarts: process.map(|process| process.predecessors),
        }
    }

    fn failing(&self, failing: &core::Failing<'_>) -> Failing {
        let (code, signal) = match failing.why {
            Failure::Exited(status) => in_parts(*status),
            Failure::StartTimeout { .. } | Failure::Spawn(_) | Failure::Disconnected | Failure::Blocked { .. } => (None, None),
        };
        Failing {
            failures: failing.failures,
            reason: bounded(&self.in_words(failing.why)),
            worker: failing.worker,
            code,
            signal,
            retry_in_ms: failing.retry_at.map(|at| at.since(clock::now())),
        }
    }
}
