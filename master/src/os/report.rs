//! What the core reports, as log lines and for those who wait; every fact is told once.

use tracing::warn;

use super::control::Wait;
use super::event_loop::EventLoop;
use super::line::{Line, Message, in_parts};
use crate::core::{EndOfRestart, ExitStatus, Failure, GenerationId, HowStopped, Recycle, Report, WhyGo, Worker, WorkerId};

/// Programs that start a Node app without the SDK, which the master preloads only where it is given the script itself.
const NODE_STARTERS: [&str; 4] = ["node", "nodejs", "npm", "npx"];

/// Logs a line about a worker, if it is about one, with all that people know it by.
macro_rules! about {
    ($level:ident, $event_loop:expr, $worker:expr, $($rest:tt)*) => {{
        let (worker, (pid, generation)) = (Option::from($worker), $event_loop.known_by(Option::from($worker)));
        let worker: Option<$crate::core::WorkerId> = worker;
        tracing::$level!(workerId = worker, workerPid = pid, generation, $($rest)*)
    }};
}
pub(super) use about;

impl EventLoop {
    /// Tells the log and all who wait, and answers those who waited for this.
    pub(super) fn report(&mut self, report: &Report) {
        match report {
            Report::CreatingWorker { worker, instead_of } => {
                if let Some(old) = instead_of {
                    self.say(&Line::of(Message::RestartingWorker, *old));
                }
                self.say(&Line::of(Message::CreatingNewWorker, *worker));
            }
            Report::WorkerListening { worker } => {
                if let Some(process) = self.workers.get_mut(*worker) {
                    process.has_run = true;
                }
                self.begin_to_watch_memory(*worker);
                self.say(&Line::of(Message::WorkerListening, *worker));
            }
            Report::ClusterReady { workers } => {
                self.telling.is_ready = true;
                self.say(&Line { workers: Some(*workers), ..Line::new(Message::ClusterReady) });
                self.warn_of_untaken_listeners();
            }
            Report::ClusterAdopted { workers } => self.say_adopted(*workers),
            Report::WorkerDying { worker } => {
                let reason = self.workers.get_mut(*worker).and_then(|process| process.asked_because.take());
                self.say(&Line { reason, ..Line::of(Message::WorkerDying, *worker) });
            }
            Report::WorkerDue { worker, why } => {
                let reason = match why {
                    Recycle::Lifetime => "lifetime",
                    Recycle::Memory => "memory",
                    Recycle::Requests => "requests",
                };
                let memory = self.workers.get_mut(*worker).and_then(|process| process.memory_above_limit.take());
                let max_memory = memory.and_then(|_| self.options_of(self.workers.get(*worker)?.generation).max_memory);
                self.say(&Line { reason: Some(reason.into()), memory, max_memory, ..Line::of(Message::WorkerDue, *worker) });
            }
            Report::WorkerBlocked { worker, silent_ms } => {
                let reason = format!("no heartbeat for {:.1} s", *silent_ms as f64 / 1000.0);
                self.say(&Line { reason: Some(reason), ..Line::of(Message::WorkerBlocked, *worker) });
            }
            Report::WorkerToldToGo { worker, why } => self.say_told_to_go(*worker, *why),
            Report::WorkerLeaving { worker } => self.say(&Line::of(Message::WorkerLeaving, *worker)),
            Report::WorkerDisconnected { worker } => self.say(&Line::of(Message::WorkerDisconnected, *worker)),
            Report::WorkerNotDrained { worker } if !self.has_run(*worker) => {}
            Report::WorkerNotDrained { worker } => self.say(&Line::of(Message::WorkerNotDrained, *worker)),
            Report::DisconnectedWhileStarting { worker } => self.say(&Line::of(Message::DisconnectedWhileStarting, *worker)),
            Report::WorkerLost { worker } => self.say(&Line::of(Message::DisconnectionWasUnexpected, *worker)),
            Report::WorkerExited { worker, status, unexpected } => self.say_exited(*worker, *status, *unexpected),
            Report::StartFailed { worker, why } => self.say(&Line { reason: Some(self.in_words(why)), ..Line::of(Message::CouldNotBeStarted, *worker) }),
            Report::BackingOff { failures, delay_ms } => {
                self.draw_jitter();
                self.say(&Line { attempts: Some(*failures), delay_ms: Some(*delay_ms), ..Line::new(Message::BackingOff) });
            }
            Report::HardKill { worker, as_asked: false } => self.say(&Line::of(Message::WorkerOverdue, *worker)),
            Report::HardKill { worker, as_asked: true } => self.say(&Line::of(Message::KillingAtOnce, *worker)),
            Report::RestartAccepted { ticket, generation } => self.restart_accepted(*ticket, *generation),
            Report::RestartRefused { ticket, why: _ } => {
                self.say(&Line::new(Message::RestartTooLate));
                self.restart_refused(*ticket);
            }
            Report::RestartEnded { generation, end } => self.say_restart_ended(*generation, end),
            Report::Committed { generation } => self.snapshots.commit(*generation),
            Report::Scaled { size } => {
                self.say(&Line { workers: Some(*size), ..Line::new(Message::PoolScaled) });
                self.scaled(*size);
            }
            Report::ScaleRefused { why: _ } => {
                self.say(&Line::new(Message::ScalingTooLate));
                self.scale_refused();
            }
            Report::FirstStartFailed { attempts, why } => {
                self.say(&Line { attempts: Some(*attempts), reason: Some(self.in_words(why)), ..Line::new(Message::ClusterNotStarted) });
            }
            Report::ClusterShutdown { how } => {
                let unfinished = self.counts.unfinished().told();
                self.say(&match how {
                    HowStopped::Cleanly if unfinished.is_some() => Line { reason: unfinished, ..Line::new(Message::ShutdownUnfinished) },
                    HowStopped::Cleanly => Line::new(Message::ShutdownCleanly),
                    HowStopped::AtOnce => Line::new(Message::ShutdownAtOnce),
                    HowStopped::Overdue => Line::new(Message::ShutdownOverdue),
                });
                self.stopped(*how);
            }
        }
    }

    /// What is still missing is had now in another way.
    fn say_adopted(&mut self, workers: u32) {
        self.telling.is_ready = true;
        self.say(&Line { workers: Some(workers), ..Line::new(Message::ClusterAdopted) });
        self.try_for_missing_soon();
    }

    /// Someone asked for a stop, maybe one that waits for nobody.
    pub(super) fn report_stop_request(&mut self, signal: Option<&str>, at_once: bool) {
        let reason = at_once.then(|| "at once".into());
        self.say(&Line { signal: signal.map(str::to_owned), reason, ..Line::new(Message::ShutdownRequested) });
    }

    /// Someone asked for something.
    pub(super) fn report_request(&mut self, message: Message, signal: Option<&str>) {
        self.say(&Line { signal: signal.map(str::to_owned), ..Line::new(message) });
    }

    /// The configuration is wrong, or cannot be had.
    pub(super) fn say_reload_refused(&mut self, why: &str) {
        self.telling.reload_refused(why);
        let line = Line { reason: Some(why.into()), ..Line::new(Message::ReloadRefused) };
        self.say_to_others(&line, |wait| wait == Wait::Restart(None));
    }

    /// Another program cannot or does not take this one's place.
    pub(super) fn say_upgrade_refused(&mut self, why: &str) {
        let line = Line { reason: Some(why.into()), ..Line::new(Message::UpgradeRefused) };
        self.say_to_others(&line, |wait| wait == Wait::Upgrade);
    }

    /// This program has taken another's place.
    pub(super) fn say_upgraded(&mut self, became: &str) {
        let line = Line { reason: Some(became.into()), ..Line::new(Message::MasterUpgraded) };
        self.say_to_others(&line, |wait| wait == Wait::Upgrade);
    }

    /// Somebody has broken a socket that is shared with the master.
    pub(super) fn say_broken(&mut self, message: Message, reason: String) {
        self.say(&Line { reason: Some(reason), ..Line::new(message) });
    }

    /// The embedding program does not say what a restart is to be like.
    pub(super) fn say_restart_refused(&mut self, why: &str) {
        self.say(&Line { reason: Some(why.into()), ..Line::new(Message::RestartRefused) });
    }

    /// A worker says that it ended so many connections because its time was over. Once: nothing follows its `disconnect`.
    pub(super) fn say_cut(&mut self, worker: WorkerId, connections: u32) {
        let Some(process) = self.workers.get_mut(worker).filter(|process| process.cut == 0 && connections > 0) else { return };
        process.cut = connections;
        self.counts.connections_cut(connections);
        self.say(&Line { connections: Some(connections), ..Line::of(Message::WorkerCutConnections, worker) });
    }

    /// Some of what was changed stays as it is.
    pub(super) fn say_needs_new_start(&mut self, keys: &[&str]) {
        self.say(&Line { reason: Some(keys.join(", ")), ..Line::new(Message::NeedsNewStart) });
    }

    fn say_told_to_go(&mut self, worker: WorkerId, why: WhyGo) {
        let reason = match why {
            WhyGo::Restart => "restart",
            WhyGo::Request => "request",
            WhyGo::Stop => "stop",
            WhyGo::ScaleDown => "scale-down",
            WhyGo::Recycle => "recycle",
            WhyGo::Leaving => "leaving",
            WhyGo::Lost => "lost",
        };
        let message = match why {
            _ if !self.has_run(worker) => Message::StartCancelled,
            WhyGo::Restart | WhyGo::Request | WhyGo::Recycle | WhyGo::Lost => Message::ReplacementAvailable,
            WhyGo::Stop | WhyGo::ScaleDown | WhyGo::Leaving => Message::WorkerToldToGo,
        };
        self.say(&Line { reason: Some(reason.into()), ..Line::of(message, worker) });
    }

    fn say_exited(&mut self, worker: WorkerId, status: ExitStatus, unexpected: bool) {
        if unexpected {
            let message = if self.has_run(worker) { Message::DisconnectionWasUnexpected } else { Message::DisconnectedWhileStarting };
            self.say(&Line::of(message, worker));
        }
        let (code, signal) = in_parts(status);
        self.say(&Line { code, signal, ..Line::of(Message::WorkerExited, worker) });
    }

    fn say_restart_ended(&mut self, generation: GenerationId, end: &EndOfRestart) {
        let line = |message| Line { generation: Some(generation), ..Line::new(message) };
        let line = match end {
            EndOfRestart::Done => line(Message::RestartComplete),
            EndOfRestart::Superseded { by } => Line { by: Some(*by), ..line(Message::RestartSuperseded) },
            EndOfRestart::GivenUp { attempts, why } => Line { attempts: Some(*attempts), reason: Some(self.in_words(why)), ..line(Message::RestartGivenUp) },
            EndOfRestart::Stopped => line(Message::RestartStopped),
        };
        self.say_to_others(&line, |wait| wait == Wait::Restart(Some(generation)));
        if *end == EndOfRestart::Done {
            self.warn_of_untaken_listeners();
            self.listeners.restart_completed();
        }
        if let EndOfRestart::GivenUp { .. } = end {
            self.apply_policies(&self.options_of(self.pool.generation()).clone());
        }
        self.restart_ended(generation, end);
    }

    /// The system takes connections there all the same, and nobody would ever answer them.
    fn warn_of_untaken_listeners(&self) {
        let serves = |worker| self.pool.worker(worker).is_some_and(Worker::is_running);
        for listener in self.listeners.untaken(serves) {
            warn!(listener, "No worker has taken this listener so far: whoever connects there waits");
        }
    }

    /// Why a worker failed, and what to do about it where that can be guessed.
    pub(super) fn in_words(&self, why: &Failure) -> String {
        let runs_node = self.options.worker.file_name().is_some_and(|name| NODE_STARTERS.iter().any(|starter| name == *starter));
        match why {
            Failure::StartTimeout { connected: false, .. } if runs_node => format!("{why}; name the script itself: `start app.js`, not `start node app.js`"),
            Failure::StartTimeout { .. } | Failure::Exited(_) | Failure::Spawn(_) | Failure::Disconnected | Failure::Blocked { .. } => why.to_string(),
        }
    }

    fn has_run(&self, worker: WorkerId) -> bool {
        self.workers.get(worker).is_some_and(|process| process.has_run)
    }

    fn say(&mut self, line: &Line) {
        self.say_to_others(line, |_| false);
    }

    /// Tells the log and all but those who get an answer that says the same.
    fn say_to_others(&mut self, line: &Line, is_answered: impl Fn(Wait) -> bool) {
        let (pid, of_worker) = self.known_by(line.worker);
        let line = &Line { generation: line.generation.or(of_worker), signal: line.signal.clone(), reason: line.reason.clone(), ..*line };
        line.log(pid);
        self.progress(line.progress(), |wait| !is_answered(wait));
    }

    /// Pid and generation of a worker, as far as it has them already.
    pub(super) fn known_by(&self, worker: Option<WorkerId>) -> (Option<u32>, Option<GenerationId>) {
        let process = worker.and_then(|id| self.workers.get(id));
        let generation = worker.and_then(|id| process.map(|process| process.generation).or_else(|| self.pool.worker(id).map(|worker| worker.generation)));
        (process.and_then(|process| process.pid), generation)
    }

    /// So that the next delay of this pool differs from that of other pools, and of this one's last.
    pub(super) fn draw_jitter(&mut self) {
        let mut byte = [0];
        if rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK).is_ok() {
            self.pool.set_jitter(byte[0].into());
        }
    }
}
