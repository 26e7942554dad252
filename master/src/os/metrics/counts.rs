//! What the core is told and what it orders, folded into numbers. Pure: neither a clock nor a process is asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::{Action, EndOfRestart, Event, ExitStatus, Failure, Recycle, Report, Signal, Time, WorkerId};

/// Upper bounds of the buckets of a duration in milliseconds: from a program that listens at once to the longest drain that people wait for.
pub(super) const BUCKETS_MS: [u64; 12] = [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000];

/// The numbers since the master started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::os) struct Counts {
    pub(super) restarts: Restarts,
    pub(super) starts: u64,
    pub(super) failed_starts: u64,
    pub(super) crashes: u64,
    pub(super) leaves: u64,
    pub(super) kills: u64,
    pub(super) recycled: Recycled,
    pub(super) connections_refused: u64,
    /// Those that workers ended because their time to drain was over.
    #[serde(default)]
    pub(super) connections_cut: u64,
    /// What the stop that is under way cut off.
    #[serde(default)]
    unfinished: Unfinished,
    pub(super) start_duration: Histogram,
    pub(super) drain_duration: Histogram,
    /// Those that are not gone.
    workers: BTreeMap<WorkerId, Life>,
}

/// What did not finish in the time that workers have to drain, while no worker had to be killed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::os) struct Unfinished {
    /// Connections that workers ended.
    connections: u64,
    /// Workers that had not drained when they got SIGTERM.
    workers: u64,
}

impl Unfinished {
    /// In words, if there is something.
    pub(in crate::os) fn told(self) -> Option<String> {
        let counted = |number: u64, one: &str, many: &str| (number > 0).then(|| format!("{number} {}", if number == 1 { one } else { many }));
        let cut = counted(self.connections, "connection was cut", "connections were cut");
        let ended = counted(self.workers, "worker had not drained", "workers had not drained");
        let parts: Vec<_> = cut.into_iter().chain(ended).collect();
        (!parts.is_empty()).then(|| format!("{} when the time was over", parts.join(", and ")))
    }
}

/// Restarts by how they ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Restarts {
    pub(super) done: u64,
    pub(super) superseded: u64,
    pub(super) given_up: u64,
    pub(super) stopped: u64,
}

/// Workers that reached a limit, by which.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Recycled {
    pub(super) lifetime: u64,
    pub(super) memory: u64,
    pub(super) requests: u64,
}

impl Recycled {
    fn of(&mut self, why: Recycle) -> &mut u64 {
        match why {
            Recycle::Lifetime => &mut self.lifetime,
            Recycle::Memory => &mut self.memory,
            Recycle::Requests => &mut self.requests,
        }
    }
}

/// What has to be remembered of a worker until it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Life {
    /// Since when it has a process.
    spawned_at: Option<Time>,
    has_run: bool,
    going_since: Option<Time>,
}

/// How often a duration was how long.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Histogram {
    /// By bucket; what is longer than the last one is in `count` alone.
    pub(super) buckets: [u64; BUCKETS_MS.len()],
    pub(super) count: u64,
    pub(super) sum_ms: u64,
}

impl Histogram {
    fn observe(&mut self, ms: u64) {
        if let Some(bucket) = BUCKETS_MS.iter().position(|bound| ms <= *bound) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
    }
}

impl Counts {
    /// A connection to the control socket was refused.
    pub(in crate::os) fn connection_refused(&mut self) {
        self.connections_refused += 1;
    }

    /// How many running workers crashed.
    pub(in crate::os) fn crashes(&self) -> u64 {
        self.crashes
    }

    /// How many starts failed.
    pub(in crate::os) fn failed_starts(&self) -> u64 {
        self.failed_starts
    }

    /// A worker ended connections because its time to drain was over.
    pub(in crate::os) fn connections_cut(&mut self, connections: u32) {
        let connections = u64::from(connections);
        self.connections_cut = self.connections_cut.saturating_add(connections);
        self.unfinished.connections = self.unfinished.connections.saturating_add(connections);
    }

    /// What the stop that is under way, or over, cut off.
    pub(in crate::os) fn unfinished(&self) -> Unfinished {
        self.unfinished
    }

    /// The core is told this.
    pub(in crate::os) fn happened(&mut self, now: Time, event: &Event) {
        match event {
            Event::WorkerSpawned { worker } => {
                if let Some(life) = self.workers.get_mut(worker) {
                    life.spawned_at = Some(now);
                }
            }
            Event::SpawnFailed { worker, .. } | Event::NeverSpawned { worker } => drop(self.workers.remove(worker)),
            Event::StartRequested
            | Event::TakenOver
            | Event::IsInTheWay { .. }
            | Event::RestartRequested { .. }
            | Event::ScaleRequested(_)
            | Event::StopRequested
            | Event::WorkerConnected { .. }
            | Event::RecycleDue { .. }
            | Event::WorkerSaid { .. }
            | Event::ConnectionEnded { .. }
            | Event::WorkerExited { .. }
            | Event::DeadlineReached => {}
        }
    }

    /// The core orders this.
    pub(in crate::os) fn ordered(&mut self, now: Time, action: &Action) {
        match action {
            Action::Spawn { worker, .. } => {
                self.starts += 1;
                self.workers.insert(*worker, Life::default());
            }
            // One that has no process yet cannot be killed.
            Action::Signal { worker, signal: Signal::Kill } => {
                self.kills += u64::from(self.workers.get(worker).is_some_and(|life| life.spawned_at.is_some()));
            }
            Action::Report(report) => self.reported(now, report),
            // A stop begins.
            Action::CloseListeners => self.unfinished = Unfinished::default(),
            Action::TakeSnapshot { .. } | Action::Disconnect { .. } | Action::Signal { signal: Signal::Terminate, .. } | Action::Exit { .. } => {}
        }
    }

    fn reported(&mut self, now: Time, report: &Report) {
        match report {
            Report::WorkerListening { worker } => {
                if let Some(life) = self.workers.get_mut(worker) {
                    life.has_run = true;
                    self.start_duration.observe(now.since(life.spawned_at.unwrap_or(now)));
                }
            }
            Report::WorkerToldToGo { worker, .. } => self.goes(now, *worker),
            Report::WorkerLeaving { worker } => {
                self.leaves += 1;
                self.goes(now, *worker);
            }
            Report::WorkerNotDrained { worker } => self.unfinished.workers += u64::from(self.workers.get(worker).is_some_and(|life| life.has_run)),
            Report::DisconnectedWhileStarting { .. } | Report::StartFailed { why: Failure::StartTimeout { .. } | Failure::Spawn(_), .. } => {
                self.failed_starts += 1
            }
            // An exit and a connection that ended while starting are told by reports of their own.
            Report::StartFailed { why: Failure::Exited(_) | Failure::Disconnected | Failure::Blocked { .. }, .. } => {}
            Report::WorkerLost { .. } | Report::WorkerBlocked { .. } => self.crashes += 1,
            Report::WorkerDue { why, .. } => *self.recycled.of(*why) += 1,
            Report::WorkerExited { worker, status, unexpected } => self.exited(now, *worker, *status, *unexpected),
            Report::RestartEnded { end, .. } => {
                let count = match end {
                    EndOfRestart::Done => &mut self.restarts.done,
                    EndOfRestart::Superseded { .. } => &mut self.restarts.superseded,
                    EndOfRestart::GivenUp { .. } => &mut self.restarts.given_up,
                    EndOfRestart::Stopped => &mut self.restarts.stopped,
                };
                *count += 1;
            }
            Report::ClusterReady { .. }
            | Report::ClusterAdopted { .. }
            | Report::CreatingWorker { .. }
            | Report::WorkerDying { .. }
            | Report::WorkerDisconnected { .. }
            | Report::BackingOff { .. }
            | Report::HardKill { .. }
            | Report::RestartAccepted { .. }
            | Report::RestartRefused { .. }
            | Report::Committed { .. }
            | Report::Scaled { .. }
            | Report::ScaleRefused { .. }
            | Report::FirstStartFailed { .. }
            | Report::ClusterShutdown { .. } => {}
        }
    }

    /// A start that is cancelled has nothing to drain.
    fn goes(&mut self, now: Time, worker: WorkerId) {
        if let Some(life) = self.workers.get_mut(&worker).filter(|life| life.has_run) {
            life.going_since = Some(now);
        }
    }

    fn exited(&mut self, now: Time, worker: WorkerId, status: ExitStatus, unexpected: bool) {
        let Some(life) = self.workers.remove(&worker) else { return };
        match (unexpected, life.has_run, status) {
            (false, _, _) => {}
            (true, false, _) => self.failed_starts += 1,
            // Rule 6: it ended its service by itself.
            (true, true, ExitStatus::Code(0)) => self.leaves += 1,
            (true, true, ExitStatus::Code(_) | ExitStatus::Signal(_) | ExitStatus::Unknown) => self.crashes += 1,
        }
        if let Some(since) = life.going_since {
            self.drain_duration.observe(now.since(since));
        }
    }
}

#[cfg(test)]
mod tests;
