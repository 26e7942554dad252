//! The `before_fork` hook, a command or a callback: one run before each spawn, one after the other, as a hook that changes the directory expects it.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::callbacks::{Pending, Surroundings};
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
    work: Work,
    deadline: Time,
}

/// What runs.
#[derive(Debug)]
pub(super) enum Work {
    Command(Process),
    Callback(Pending<Surroundings>),
}

/// How it ended by itself.
#[derive(Debug)]
pub(super) enum Outcome {
    Command(ExitStatus),
    Callback(Result<Surroundings, String>),
}

/// Lengthens the core's guard: it counts from the order on, and hooks run one at a time.
pub(super) fn with_room_for_a_queue(config: Config) -> Config {
    Config { hook_timeout_ms: config.hook_timeout_ms.saturating_mul(QUEUE_GUARD), ..config }
}

/// The same as it is handed over: commands alone, by their pids.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    waiting: VecDeque<WorkerId>,
    running: Option<(WorkerId, u32, Time)>,
    killed: Vec<u32>,
}

impl Handed {
    /// Those that have no process yet.
    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.waiting.iter().copied().chain(self.running.map(|(worker, _, _)| worker))
    }
}

impl Hooks {
    pub(super) fn hand_over(&self) -> Handed {
        let running = self.running.as_ref().and_then(|run| match &run.work {
            Work::Command(process) => Some((run.worker, process.pid(), run.deadline)),
            // It would be the answer of a program that is no more; and no such program hands over.
            Work::Callback(_) => None,
        });
        Handed { waiting: self.waiting.clone(), running, killed: self.killed.iter().map(Process::pid).collect() }
    }

    pub(super) fn handed(Handed { waiting, running, killed }: Handed) -> io::Result<Hooks> {
        let run = |(worker, pid, deadline)| io::Result::Ok(Run { worker, work: Work::Command(Process::of_child(pid)?), deadline });
        let killed = killed.into_iter().map(Process::of_child).collect::<io::Result<_>>()?;
        Ok(Hooks { waiting, running: running.map(run).transpose()?, killed })
    }

    /// Kills a process that is no hook, and sees to it that it is reaped.
    pub(super) fn put_down(&mut self, process: Process) {
        process.signal_group(Signal::SIGKILL);
        self.killed.push(process);
    }

    /// The worker needs its hook run.
    pub(super) fn enqueue(&mut self, worker: WorkerId) {
        self.waiting.push_back(worker);
    }

    /// The worker whose hook is to be started now.
    pub(super) fn next(&mut self) -> Option<WorkerId> {
        if self.running.is_some() { None } else { self.waiting.pop_front() }
    }

    /// The worker's hook was started.
    pub(super) fn started(&mut self, worker: WorkerId, work: Work, deadline: Time) {
        self.running = Some(Run { worker, work, deadline });
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

    /// The processes that are still to be reaped here.
    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        let running = self.running.iter().filter_map(|run| match &run.work {
            Work::Command(process) => Some(process),
            Work::Callback(_) => None,
        });
        running.chain(&self.killed)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.running.as_ref().map(|run| run.deadline)
    }

    /// Ready when a hook has ended.
    pub(super) fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let running = self.running.as_mut().is_some_and(|run| match &mut run.work {
            Work::Command(process) => process.poll_exit(cx).is_ready(),
            Work::Callback(pending) => pending.poll(cx).is_ready(),
        });
        // All of them, so that each knows whom to wake.
        let killed = self.killed.iter().filter(|process| process.poll_exit(cx).is_ready()).count();
        if running || killed > 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reaps what has ended. Returns the hook that ended by itself.
    pub(super) fn reap(&mut self) -> Option<(WorkerId, Outcome)> {
        for process in self.killed.extract_if(.., |process| process.has_exited()) {
            process.reap();
        }
        let run = self.running.take_if(|run| match &mut run.work {
            Work::Command(process) => process.has_exited(),
            Work::Callback(pending) => pending.has_ended(),
        })?;
        Some((run.worker, run.work.outcome()))
    }

    fn kill_if(&mut self, condition: impl Fn(&Run) -> bool) -> Option<WorkerId> {
        let run = self.running.take_if(|run| condition(run))?;
        // The answer of a callback that comes later finds nobody.
        if let Work::Command(process) = run.work {
            self.put_down(process);
        }
        Some(run.worker)
    }
}

impl Work {
    /// It must have ended.
    fn outcome(self) -> Outcome {
        match self {
            Work::Command(process) => Outcome::Command(process.reap()),
            Work::Callback(pending) => Outcome::Callback(pending.answer()),
        }
    }
}
