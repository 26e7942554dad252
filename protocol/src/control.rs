//! Messages between a control client (`dutch-master status` and the like) and the master, in the order of SPEC 7.

use serde::{Deserialize, Serialize};

use crate::message::{Address, ErrorMessage, Hello, Welcome, nil_is_default};

/// What a control client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum FromControl {
    /// First message, with `role: control`.
    Hello(Hello),
    /// Answered by `pool`, one `worker` each, one `listener` each, then `done`.
    Status(Status),
    /// A rolling restart; answered by `accepted`, `progress`, then `done`.
    Restart(Restart),
    /// Read the configuration again, then restart; answered like `restart`.
    Reload(Reload),
    /// A graceful stop; answered by `accepted`, `progress`, then `done` or the end of the connection.
    Stop(Stop),
    /// Change the size; answered by `accepted`, then `done` once that many run.
    Scale(Scale),
    /// Answered by `accepted`, then `progress` until the connection ends.
    Subscribe(Subscribe),
    /// Answered by one or more `metrics-text`, then `done`.
    Metrics(Metrics),
    /// The master's program is replaced by another, in place; answered by `accepted`, then `done`.
    Upgrade(Upgrade),
    /// An event that this version does not know.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// What the master answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum ToControl {
    /// Answers `hello`.
    Welcome(Welcome),
    /// The pool as a whole.
    Pool(PoolStatus),
    /// One worker.
    Worker(WorkerStatus),
    /// One listener.
    Listener(ListenerStatus),
    /// The request was accepted.
    Accepted(Accepted),
    /// Something happened.
    Progress(Progress),
    /// A part of the metrics.
    MetricsText(MetricsText),
    /// The request ended.
    Done(Done),
    /// The request was refused, or the connection is about to end.
    Error(ErrorMessage),
    /// An event that this version does not know.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// Asks for the state of the pool (SPEC 7.1).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {}

/// Asks for a rolling restart (SPEC 7.2).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Restart {}

/// Asks for a reload (SPEC 7.3).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reload {}

/// Asks for a graceful stop (SPEC 7.4).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stop {
    /// Do not wait for requests in flight.
    #[serde(default, deserialize_with = "nil_is_default")]
    pub now: bool,
}

/// Asks for another size (SPEC 7.5). Exactly one of the two is given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scale {
    /// The new size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
    /// The change of the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<i32>,
}

/// Asks for everything that happens from now on (SPEC 7.6).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Subscribe {}

/// Asks for the metrics (SPEC 7.10).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metrics {}

/// A part of the metrics, to be put together in order (SPEC 7.11).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MetricsText {
    /// Whole lines of Prometheus' text format.
    pub text: String,
}

/// Asks the master to become another program, or the same one in a newer version (SPEC 7.12).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Upgrade {
    /// Absolute path of the program; nil: the path that the master was started by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
}

/// The pool as a whole (SPEC 7.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// The master's name.
    pub name: String,
    /// The master's process id.
    pub pid: u32,
    /// Version of the master.
    pub version: String,
    /// What the pool is doing.
    pub phase: Phase,
    /// How many workers it should have.
    pub size: u32,
    /// How many run.
    pub running: u32,
    /// The generation that new workers belong to.
    pub generation: u32,
    /// The last generation whose restart completed; nil before the first start completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<u32>,
    /// Running workers belong to more than one generation and no restart is under way.
    pub mixed: bool,
    /// Why the last restart was given up, until the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
    /// What fails again and again; nil: nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    /// Restarts that completed since the master started.
    pub restarts: u64,
    /// Running workers that crashed since the master started; nil from a master that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crashes: Option<u64>,
    /// Starts of workers that failed since the master started; nil from a master that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_starts: Option<u64>,
    /// The worker as configured.
    pub command: Vec<String>,
    /// The directory that new workers start in.
    pub dir: String,
    /// How long the master runs, in milliseconds.
    pub uptime_ms: u64,
}

/// Workers that fail one after the other: their starts, or soon after them (SPEC 7.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// Failures in a row.
    pub failures: u32,
    /// The last one, for people.
    pub reason: String,
    /// The worker that failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u32>,
    /// With what it exited; nil: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Name of the signal that ended it; nil: none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// When the next worker is tried, in milliseconds from now; nil: one is being tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
}

/// What a pool is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The first start is under way.
    Starting,
    /// Everything is as it should be, or is being repaired.
    Serving,
    /// A rolling restart is under way.
    Restarting,
    /// The master stops.
    Stopping,
}

/// One worker (SPEC 7.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its id.
    pub id: u32,
    /// Its slot.
    pub slot: u32,
    /// Its generation.
    pub generation: u32,
    /// `starting`, `running`, `draining`, `lost` or `killing`.
    pub state: String,
    /// Its process id; nil while its hook runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How long ago it was ordered, in milliseconds.
    pub age_ms: u64,
    /// Name and version of its SDK, once it said hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdk: Option<String>,
    /// How many workers its slot had before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
}

/// One listener (SPEC 7.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Its key.
    pub key: String,
    /// Its configured name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it listens.
    pub address: Address,
    /// Whether it comes from the configuration.
    pub configured: bool,
    /// Connections waiting to be accepted, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<u32>,
    /// Length of the accept queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<u32>,
}

/// The request was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Accepted {
    /// The generation that a restart makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The size that a `scale` asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
}

/// Something happened: a log line of the master as data.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The log message, e.g. `Worker listening`.
    pub message: String,
    /// The worker concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u32>,
    /// The generation concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// What else there is to say, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The outcome.
    pub outcome: Outcome,
    /// For a restart that was superseded: the newer generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<u32>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// A newer restart took its place.
    Superseded,
    /// The new workers failed; the old ones stay.
    GivenUp,
    /// The master stops.
    Stopped,
}
