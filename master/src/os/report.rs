//! What the core reports, as log lines and for those who wait. The wording is that of the original and people's scripts look for it; every fact is told once.

use dutch_master_protocol::control::Progress;
use tracing::{Level, warn};

use super::control::Wait;
use super::event_loop::EventLoop;
use crate::core::{EndOfRestart, ExitStatus, Failure, GenerationId, HowStopped, Recycle, Report, WhyGo, Worker, WorkerId};

/// The target of the log lines about the lifecycle: each of them is a fact of its own that people's scripts look for, so none is ever held back as a repetition.
pub const LIFECYCLE: &str = "dutch_master::lifecycle";

/// Programs that start a Node app without the SDK, which the master preloads only where it is given the script itself.
const NODE_STARTERS: [&str; 4] = ["node", "nodejs", "npm", "npx"];

/// One log line. What is none is left out.
#[derive(Debug)]
struct Line {
    level: Level,
    message: &'static str,
    worker: Option<WorkerId>,
    generation: Option<GenerationId>,
    by: Option<GenerationId>,
    /// How many workers.
    workers: Option<u32>,
    code: Option<i32>,
    signal: Option<String>,
    reason: Option<String>,
    attempts: Option<u32>,
    delay_ms: Option<u64>,
}

impl Line {
    fn new(level: Level, message: &'static str) -> Line {
        Line { level, message, worker: None, generation: None, by: None, workers: None, code: None, signal: None, reason: None, attempts: None, delay_ms: None }
    }

    fn of(level: Level, message: &'static str, worker: WorkerId) -> Line {
        Line { worker: Some(worker), ..Line::new(level, message) }
    }

    /// What else there is to say, for people.
    fn detail(&self) -> Option<String> {
        let status = self.code.map(|code| format!("code {code}")).or_else(|| self.signal.clone());
        let count = self.workers.map(|workers| format!("{workers} worker{}", if workers == 1 { "" } else { "s" }));
        let superseded = self.generation.zip(self.by).map(|(generation, by)| format!("generation {generation} by {by}"));
        self.reason.clone().or(status).or(count).or(superseded)
    }
}

/// Logs one line; tracing wants the level to be known when it compiles.
macro_rules! log {
    ($level:ident, $line:expr, $pid:expr) => {{
        let line: &Line = $line;
        tracing::$level!(
            target: LIFECYCLE,
            workerId = line.worker,
            workerPid = $pid,
            generation = line.generation,
            by = line.by,
            workers = line.workers,
            code = line.code,
            signal = line.signal,
            reason = line.reason,
            attempts = line.attempts,
            delayMs = line.delay_ms,
            "{}",
            line.message
        )
    }};
}

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
                    self.say(&Line::of(Level::INFO, "Restarting worker", *old));
                }
                self.say(&Line::of(Level::INFO, "Creating new worker", *worker));
            }
            Report::WorkerListening { worker } => {
                if let Some(process) = self.workers.get_mut(*worker) {
                    process.has_run = true;
                }
                self.begin_to_watch_memory(*worker);
                self.say(&Line::of(Level::INFO, "Worker listening", *worker));
            }
            Report::ClusterReady { workers } => {
                self.telling.is_ready = true;
                self.say(&Line { workers: Some(*workers), ..Line::new(Level::INFO, "Cluster ready") });
                self.warn_of_untaken_listeners();
            }
            Report::ClusterAdopted { workers } => self.say_adopted(*workers),
            Report::WorkerDying { worker } => self.say(&Line::of(Level::INFO, "Worker dying", *worker)),
            Report::WorkerDue { worker, why } => {
                let reason = match why {
                    Recycle::Lifetime => "lifetime",
                    Recycle::Memory => "memory",
                    Recycle::Requests => "requests",
                };
                self.say(&Line { reason: Some(reason.into()), ..Line::of(Level::INFO, "Worker due to be recycled", *worker) });
            }
            Report::WorkerBlocked { worker, silent_ms } => {
                let reason = format!("no heartbeat for {:.1} s", *silent_ms as f64 / 1000.0);
                self.say(&Line { reason: Some(reason), ..Line::of(Level::WARN, "Worker is blocked, killing it", *worker) });
            }
            Report::WorkerToldToGo { worker, why } => self.say_told_to_go(*worker, *why),
            Report::WorkerLeaving { worker } => self.say(&Line::of(Level::INFO, "Worker leaving", *worker)),
            Report::WorkerDisconnected { worker } => self.say(&Line::of(Level::INFO, "Worker disconnected", *worker)),
            Report::DisconnectedWhileStarting { worker } => self.say(&Line::of(Level::WARN, "Worker disconnected unexpectedly while starting", *worker)),
            Report::WorkerLost { worker } => self.say(&Line::of(Level::WARN, "Worker disconnection was unexpected", *worker)),
            Report::WorkerExited { worker, status, unexpected } => self.say_exited(*worker, *status, *unexpected),
            Report::StartFailed { worker, why } => {
                self.say(&Line { reason: Some(self.in_words(why)), ..Line::of(Level::ERROR, "Worker could not be started", *worker) })
            }
            Report::BackingOff { failures, delay_ms } => {
                self.draw_jitter();
                self.say(&Line { attempts: Some(*failures), delay_ms: Some(*delay_ms), ..Line::new(Level::WARN, "Waiting before the next start") });
            }
            Report::HardKill { worker, as_asked: false } => self.say(&Line::of(Level::WARN, "Worker did not end in time, killing it", *worker)),
            Report::HardKill { worker, as_asked: true } => self.say(&Line::of(Level::INFO, "Killing worker at once, as asked", *worker)),
            Report::RestartAccepted { ticket, generation } => self.restart_accepted(*ticket, *generation),
            Report::RestartRefused { ticket, why: _ } => {
                self.say(&Line::new(Level::WARN, "Restart refused, the master is stopping"));
                self.restart_refused(*ticket);
            }
            Report::RestartEnded { generation, end } => self.say_restart_ended(*generation, end),
            Report::Committed { generation } => self.snapshots.commit(*generation),
            Report::Scaled { size } => {
                self.say(&Line { workers: Some(*size), ..Line::new(Level::INFO, "Pool scaled") });
                self.scaled(*size);
            }
            Report::ScaleRefused { why: _ } => {
                self.say(&Line::new(Level::WARN, "Scaling refused, the master is stopping"));
                self.scale_refused();
            }
            Report::FirstStartFailed { attempts, why } => {
                self.say(&Line { attempts: Some(*attempts), reason: Some(self.in_words(why)), ..Line::new(Level::ERROR, "Cluster could not be started") });
            }
            Report::ClusterShutdown { how } => {
                self.say(&match how {
                    HowStopped::Cleanly => Line::new(Level::INFO, "Cluster shutdown cleanly"),
                    HowStopped::AtOnce => Line::new(Level::INFO, "Cluster shutdown at once, as asked"),
                    HowStopped::Overdue => Line::new(Level::WARN, "Cluster did not shutdown cleanly"),
                });
                self.stopped(*how);
            }
        }
    }

    /// What is still missing is had now in another way.
    fn say_adopted(&mut self, workers: u32) {
        self.telling.is_ready = true;
        self.say(&Line { workers: Some(workers), ..Line::new(Level::INFO, "Cluster adopted") });
        self.try_for_missing_soon();
    }

    /// Someone asked for a stop, maybe one that waits for nobody.
    pub(super) fn report_stop_request(&mut self, signal: Option<&str>, at_once: bool) {
        let reason = at_once.then(|| "at once".into());
        self.say(&Line { signal: signal.map(str::to_owned), reason, ..Line::new(Level::INFO, "Shutdown requested") });
    }

    /// Someone asked for something.
    pub(super) fn report_request(&mut self, message: &'static str, signal: Option<&str>) {
        self.say(&Line { signal: signal.map(str::to_owned), ..Line::new(Level::INFO, message) });
    }

    /// The configuration is wrong, or cannot be had.
    pub(super) fn say_reload_refused(&mut self, why: &str) {
        self.telling.reload_refused(why);
        let line = Line { reason: Some(why.into()), ..Line::new(Level::ERROR, "Configuration refused, nothing changes") };
        self.say_to_others(&line, |wait| wait == Wait::Restart(None));
    }

    /// Another program cannot or does not take this one's place.
    pub(super) fn say_upgrade_refused(&mut self, why: &str) {
        let line = Line { reason: Some(why.into()), ..Line::new(Level::ERROR, "Upgrade refused, nothing changes") };
        self.say_to_others(&line, |wait| wait == Wait::Upgrade);
    }

    /// This program has taken another's place.
    pub(super) fn say_upgraded(&mut self, became: &str) {
        let line = Line { reason: Some(became.into()), ..Line::new(Level::INFO, "Master upgraded") };
        self.say_to_others(&line, |wait| wait == Wait::Upgrade);
    }

    /// Somebody has broken a socket that is shared with the master.
    pub(super) fn say_broken(&mut self, message: &'static str, reason: String) {
        self.say(&Line { reason: Some(reason), ..Line::new(Level::WARN, message) });
    }

    /// The embedding program does not say what a restart is to be like.
    pub(super) fn say_restart_refused(&mut self, why: &str) {
        self.say(&Line { reason: Some(why.into()), ..Line::new(Level::ERROR, "Restart refused, nothing changes") });
    }

    /// Some of what was changed stays as it is.
    pub(super) fn say_needs_new_start(&mut self, keys: &[&str]) {
        self.say(&Line { reason: Some(keys.join(", ")), ..Line::new(Level::WARN, "Some changes need a new start") });
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
            _ if !self.has_run(worker) => "Start of worker cancelled",
            WhyGo::Restart | WhyGo::Request | WhyGo::Recycle | WhyGo::Lost => "Replacement worker available - disconnecting",
            WhyGo::Stop | WhyGo::ScaleDown | WhyGo::Leaving => "Worker told to go",
        };
        self.say(&Line { reason: Some(reason.into()), ..Line::of(Level::INFO, message, worker) });
    }

    fn say_exited(&mut self, worker: WorkerId, status: ExitStatus, unexpected: bool) {
        if unexpected {
            let message = if self.has_run(worker) { "Worker disconnection was unexpected" } else { "Worker disconnected unexpectedly while starting" };
            self.say(&Line::of(Level::WARN, message, worker));
        }
        let (code, signal) = match status {
            ExitStatus::Code(code) => (Some(code), None),
            ExitStatus::Signal(signal) => (None, Some(name_of(signal))),
            ExitStatus::Unknown => (None, None),
        };
        self.say(&Line { code, signal, ..Line::of(Level::INFO, "Worker exited", worker) });
    }

    fn say_restart_ended(&mut self, generation: GenerationId, end: &EndOfRestart) {
        let line = |level, message| Line { generation: Some(generation), ..Line::new(level, message) };
        let line = match end {
            EndOfRestart::Done => line(Level::INFO, "Restart complete"),
            EndOfRestart::Superseded { by } => Line { by: Some(*by), ..line(Level::INFO, "Restart superseded") },
            EndOfRestart::GivenUp { attempts, why } => {
                Line { attempts: Some(*attempts), reason: Some(self.in_words(why)), ..line(Level::ERROR, "Restart given up, the old workers stay") }
            }
            EndOfRestart::Stopped => line(Level::WARN, "Restart ended, the master is stopping"),
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
        match line.level {
            Level::ERROR => log!(error, line, pid),
            Level::WARN => log!(warn, line, pid),
            Level::INFO => log!(info, line, pid),
            Level::DEBUG | Level::TRACE => log!(debug, line, pid),
        }
        let progress = Progress { message: line.message.into(), worker: line.worker, generation: line.generation, detail: line.detail() };
        self.progress(progress, |wait| !is_answered(wait));
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

fn name_of(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| signal.to_string(), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_that_was_superseded_says_which_one_and_by_which() {
        let line = Line { generation: Some(2), by: Some(3), ..Line::new(Level::INFO, "Restart superseded") };
        assert_eq!(line.detail().as_deref(), Some("generation 2 by 3"));
    }
}
