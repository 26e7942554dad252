//! The `before_fork` hook: one run before each spawn, one after the other, as a hook that changes the directory expects it.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use nix::sys::signal::Signal;

use super::process::Process;
use crate::core::{Config, ExitStatus, Time, WorkerId};

/// Runs that may wait for their turn before the core's own guard ends the first of them as a failed start.
const QUEUE_GUARD: u64 = 64;

/// The hooks of workers that are to be spawned.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    waiting: VecDeque<WorkerId>,
    running: Option<Run>,
    /// Killed, and not reaped yet.
    killed: Vec<Process>,
}

#[derive(Debug)]
struct Run {
    worker: WorkerId,
    process: Process,
    deadline: Time,
}

/// Lengthens the core's guard: it counts from the order on, and hooks run one at a time.
pub(super) fn with_room_for_a_queue(config: Config) -> Config {
    Config { hook_timeout_ms: config.hook_timeout_ms.saturating_mul(QUEUE_GUARD), ..config }
}

impl Hooks {
    /// The worker needs its hook run.
    pub(super) fn enqueue(&mut self, worker: WorkerId) {
        self.waiting.push_back(worker);
    }

    /// The worker whose hook is to be started now.
    pub(super) fn next(&mut self) -> Option<WorkerId> {
        if self.running.is_some() { None } else { self.waiting.pop_front() }
    }

    /// The worker's hook was started.
    pub(super) fn started(&mut self, worker: WorkerId, process: Process, deadline: Time) {
        self.running = Some(Run { worker, process, deadline });
    }

    /// The worker is not wanted any more.
    pub(super) fn cancel(&mut self, worker: WorkerId) {
        self.waiting.retain(|waiting| *waiting != worker);
        self.kill_if(|run| run.worker == worker);
    }

    /// The worker whose hook has taken too long; it is killed.
    pub(super) fn expire(&mut self, now: Time) -> Option<WorkerId> {
        self.kill_if(|run| run.deadline <= now)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.running.as_ref().map(|run| run.deadline)
    }

    /// Ready when a hook has ended.
    pub(super) fn poll_exit(&self, cx: &mut Context<'_>) -> Poll<()> {
        let processes = self.running.iter().map(|run| &run.process).chain(&self.killed);
        // All of them, so that each knows whom to wake.
        let ended = processes.filter(|process| process.poll_exit(cx).is_ready()).count();
        if ended > 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reaps what has ended. Returns the hook that ended by itself.
    pub(super) fn reap(&mut self) -> Option<(WorkerId, ExitStatus)> {
        for process in self.killed.extract_if(.., |process| process.has_exited()) {
            process.reap();
        }
        let run = self.running.take_if(|run| run.process.has_exited())?;
        Some((run.worker, run.process.reap()))
    }

    fn kill_if(&mut self, condition: impl Fn(&Run) -> bool) -> Option<WorkerId> {
        let run = self.running.take_if(|run| condition(run))?;
        run.process.signal_group(Signal::SIGKILL);
        self.killed.push(run.process);
        Some(run.worker)
    }
}
