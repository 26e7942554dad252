//! The lines of the log about the lifecycle, which subscribers hear as well. The wording is that of the original and people's scripts look for it; docs/events.md promises them all, and a test compares.

use dutch_master_protocol::control::Progress;
use tracing::Level;

use crate::core::{ExitStatus, GenerationId, WorkerId};

/// The target of the log lines about the lifecycle: each of them is a fact of its own that people's scripts look for, so none is ever held back as a repetition.
pub const LIFECYCLE: &str = "dutch_master::lifecycle";

/// Most bytes of a reason that comes from outside: what the SDKs send at most, and much less than a frame.
const REASON_BYTES_MAX: usize = 1_024;

macro_rules! messages {
    ($($name:ident: $level:ident, $about:ident, $text:literal;)*) => {
        /// What is told.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Message {
            $(#[doc = $text] $name,)*
        }

        impl Message {
            #[cfg(test)]
            pub(super) const ALL: &[Message] = &[$(Message::$name),*];

            pub(super) fn text(self) -> &'static str {
                match self { $(Message::$name => $text,)* }
            }

            pub(super) fn level(self) -> Level {
                match self { $(Message::$name => Level::$level,)* }
            }

            pub(super) fn about(self) -> About {
                match self { $(Message::$name => About::$about,)* }
            }
        }
    };
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// A worker, which the line names.
    Worker,
    /// The pool, a restart or the master.
    Pool,
    /// A socket or a file that somebody broke.
    Socket,
}

messages! {
    CreatingNewWorker: INFO, Worker, "Creating new worker";
    RestartingWorker: INFO, Worker, "Restarting worker";
    WorkerListening: INFO, Worker, "Worker listening";
    CouldNotBeStarted: ERROR, Worker, "Worker could not be started";
    DisconnectedWhileStarting: WARN, Worker, "Worker disconnected unexpectedly while starting";
    DisconnectionWasUnexpected: WARN, Worker, "Worker disconnection was unexpected";
    WorkerDying: INFO, Worker, "Worker dying";
    WorkerDue: INFO, Worker, "Worker due to be recycled";
    WorkerBlocked: WARN, Worker, "Worker is blocked, killing it";
    WorkerLeaving: INFO, Worker, "Worker leaving";
    StartCancelled: INFO, Worker, "Start of worker cancelled";
    ReplacementAvailable: INFO, Worker, "Replacement worker available - disconnecting";
    WorkerToldToGo: INFO, Worker, "Worker told to go";
    WorkerCutConnections: WARN, Worker, "Worker cut connections that did not end in time";
    WorkerDisconnected: INFO, Worker, "Worker disconnected";
    WorkerNotDrained: WARN, Worker, "Worker did not drain in time, ending it";
    WorkerOverdue: WARN, Worker, "Worker did not end in time, killing it";
    KillingAtOnce: INFO, Worker, "Killing worker at once, as asked";
    WorkerExited: INFO, Worker, "Worker exited";

    ClusterReady: INFO, Pool, "Cluster ready";
    ClusterAdopted: INFO, Pool, "Cluster adopted";
    ClusterNotStarted: ERROR, Pool, "Cluster could not be started";
    BackingOff: WARN, Pool, "Waiting before the next start";
    RestartRequested: INFO, Pool, "Restart requested";
    RestartComplete: INFO, Pool, "Restart complete";
    RestartSuperseded: INFO, Pool, "Restart superseded";
    RestartGivenUp: ERROR, Pool, "Restart given up, the old workers stay";
    RestartStopped: WARN, Pool, "Restart ended, the master is stopping";
    RestartTooLate: WARN, Pool, "Restart refused, the master is stopping";
    RestartRefused: ERROR, Pool, "Restart refused, nothing changes";
    ReloadRequested: INFO, Pool, "Reload requested";
    ReloadRefused: ERROR, Pool, "Configuration refused, nothing changes";
    NeedsNewStart: WARN, Pool, "Some changes need a new start";
    PoolScaled: INFO, Pool, "Pool scaled";
    ScalingTooLate: WARN, Pool, "Scaling refused, the master is stopping";
    UpgradeRequested: INFO, Pool, "Upgrade requested";
    UpgradeRefused: ERROR, Pool, "Upgrade refused, nothing changes";
    MasterUpgraded: INFO, Pool, "Master upgraded";
    ShutdownRequested: INFO, Pool, "Shutdown requested";
    ShutdownCleanly: INFO, Pool, "Cluster shutdown cleanly";
    ShutdownUnfinished: WARN, Pool, "Cluster shutdown, not everything finished in time";
    ShutdownAtOnce: INFO, Pool, "Cluster shutdown at once, as asked";
    ShutdownOverdue: WARN, Pool, "Cluster did not shutdown cleanly";

    ListenerBlocking: WARN, Socket, "Listener was made blocking, put right";
    ListenerRevived: WARN, Socket, "Listener was shut down, listening again";
    ListenerBoundAnew: WARN, Socket, "Listener was shut down, bound anew";
    ListenerFileGone: WARN, Socket, "Socket file of a listener was removed, bound anew";
    ListenerHopeless: WARN, Socket, "Listener is broken and cannot be repaired";
    ListenerOutOfReach: WARN, Socket, "Listener of the dead master is not to be had yet";
    ControlSocketMade: WARN, Socket, "Control socket was removed, made again";
    ControlSocketHopeless: WARN, Socket, "Control socket was removed and cannot be made again";
    LockFileMade: WARN, Socket, "Lock file was removed, made again";
    LockFileHopeless: WARN, Socket, "Lock file was removed and cannot be made again";
}

/// One log line. What is none is left out.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) message: Message,
    pub(super) worker: Option<WorkerId>,
    pub(super) generation: Option<GenerationId>,
    pub(super) by: Option<GenerationId>,
    /// How many workers.
    pub(super) workers: Option<u32>,
    /// How many connections.
    pub(super) connections: Option<u32>,
    pub(super) code: Option<i32>,
    pub(super) signal: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) attempts: Option<u32>,
    pub(super) delay_ms: Option<u64>,
    /// What a worker takes in bytes.
    pub(super) memory: Option<u64>,
    /// What it may take.
    pub(super) max_memory: Option<u64>,
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
            connections = line.connections,
            code = line.code,
            signal = line.signal,
            reason = line.reason,
            attempts = line.attempts,
            delayMs = line.delay_ms,
            memory = line.memory,
            maxMemory = line.max_memory,
            "{}",
            line.message.text()
        )
    }};
}

impl Line {
    pub(super) fn new(message: Message) -> Line {
        Line {
            message,
            worker: None,
            generation: None,
            by: None,
            workers: None,
            connections: None,
            code: None,
            signal: None,
            reason: None,
            attempts: None,
            delay_ms: None,
            memory: None,
            max_memory: None,
        }
    }

    pub(super) fn of(message: Message, worker: WorkerId) -> Line {
        Line { worker: Some(worker), ..Line::new(message) }
    }

    /// Logs it, with the pid of the worker.
    pub(super) fn log(&self, pid: Option<u32>) {
        debug_assert_eq!(self.worker.is_some(), self.message.about() == About::Worker, "{self:?}");
        match self.message.level() {
            Level::ERROR => log!(error, self, pid),
            Level::WARN => log!(warn, self, pid),
            Level::INFO => log!(info, self, pid),
            Level::DEBUG | Level::TRACE => log!(debug, self, pid),
        }
    }

    /// The same for clients.
    pub(super) fn progress(&self) -> Progress {
        Progress { message: self.message.text().into(), worker: self.worker, generation: self.generation, detail: self.detail() }
    }

    /// What else there is to say, for people.
    fn detail(&self) -> Option<String> {
        let counted = |number: u32, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let status = self.code.map(|code| format!("code {code}")).or_else(|| self.signal.clone());
        let count = self.workers.map(|number| counted(number, "worker")).or(self.connections.map(|number| counted(number, "connection")));
        let superseded = self.generation.zip(self.by).map(|(generation, by)| format!("generation {generation} by {by}"));
        let backoff =
            self.attempts.zip(self.delay_ms).map(|(failures, ms)| format!("{failures} failures in a row, the next start in {:.1} s", ms as f64 / 1_000.0));
        self.reason.clone().or(status).or(count).or(superseded).or(backoff)
    }
}

/// As much of a reason as has a place in one line.
pub(super) fn bounded(reason: &str) -> String {
    if reason.len() <= REASON_BYTES_MAX {
        return reason.into();
    }
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= REASON_BYTES_MAX;
    reason.char_indices().take_while(fits).map(|(_, c)| c).chain(['…']).collect()
}

/// The exit code, or the name of the signal, where one is known.
pub(super) fn in_parts(status: ExitStatus) -> (Option<i32>, Option<String>) {
    match status {
        ExitStatus::Code(code) => (Some(code), None),
        ExitStatus::Signal(signal) => (None, Some(name_of(signal))),
        ExitStatus::Unknown => (None, None),
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
        let line = Line { generation: Some(2), by: Some(3), ..Line::new(Message::RestartSuperseded) };
        assert_eq!(line.detail().as_deref(), Some("generation 2 by 3"));
    }

    #[test]
    fn a_reason_is_cut_between_letters_and_shows_it() {
        assert_eq!(bounded("why"), "why");
        assert_eq!(bounded(&"x".repeat(REASON_BYTES_MAX)).len(), REASON_BYTES_MAX);
        let cut = bounded(&format!("x{}", "ä".repeat(REASON_BYTES_MAX)));
        assert_eq!((cut.chars().count(), cut.ends_with("ä…")), (1 + (REASON_BYTES_MAX - 1) / 2 + 1, true));
    }

    #[test]
    fn the_documentation_lists_exactly_what_is_told_with_level_and_whether_it_names_a_worker() {
        let text = include_str!("../../../docs/events.md");
        let (mut documented, mut about) = (Vec::new(), None);
        for line in text.lines() {
            match line {
                "## Of a worker" => about = Some(About::Worker),
                "## Of the pool" => about = Some(About::Pool),
                "## Of what somebody broke" => about = Some(About::Socket),
                _ if line.starts_with("## ") => about = None,
                _ => {}
            }
            let row = line.strip_prefix("| `").and_then(|row| row.split_once("` | "));
            if let Some(((message, row), about)) = row.zip(about) {
                documented.push((message, row.split(' ').next().unwrap_or_default().to_owned(), about));
            }
        }
        let told = Message::ALL.iter().map(|message| (message.text(), message.level().as_str().to_ascii_lowercase(), message.about()));
        assert_eq!(documented, told.collect::<Vec<_>>());
    }
}
