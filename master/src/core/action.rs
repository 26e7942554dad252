//! Orders of the core, and what it reports.

use dutch_master_protocol::message::DisconnectReason;
use serde::{Deserialize, Serialize};

use super::event::{ExitStatus, Ticket};
use super::worker::{GenerationId, WorkerId};

/// Something is to be done. A failure comes back as an [`Event`](super::Event).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Remember configuration and environment as they are now under this number. It comes before the generation's first spawn, and again when a second request joins it.
    TakeSnapshot {
        /// The generation.
        generation: GenerationId,
    },
    /// Run the hook, resolve the directory, start a worker. Answered by `WorkerSpawned` or `SpawnFailed`.
    Spawn {
        /// Its id.
        worker: WorkerId,
        /// Its slot.
        slot: u32,
        /// Its generation.
        generation: GenerationId,
        /// Where it starts.
        directory: Directory,
    },
    /// Send the order to go.
    Disconnect {
        /// Whom.
        worker: WorkerId,
        /// Why.
        reason: DisconnectReason,
        /// How long it has.
        timeout_ms: u64,
    },
    /// Signal a worker. One that has no process yet: cancel its hook and answer `SpawnFailed`.
    Signal {
        /// Whom.
        worker: WorkerId,
        /// What.
        signal: Signal,
    },
    /// Close the master's listeners: the pool stops.
    CloseListeners,
    /// Tell people, waiting clients and subscribers.
    Report(Report),
    /// End the master. Nothing follows.
    Exit {
        /// The exit code.
        code: u8,
    },
}

/// Where a worker starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Directory {
    /// The configured directory, resolved anew.
    Live,
    /// What it resolved to when the worker's generation was committed; if that is gone, the live one, with a warning.
    Committed,
}

/// A signal to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Signal {
    /// SIGTERM to the connected peer, else to the group.
    Terminate,
    /// SIGKILL to the group.
    Kill,
}

/// Why a worker goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WhyGo {
    /// A rolling restart.
    Restart,
    /// It asked.
    Request,
    /// The pool stops.
    Stop,
    /// The pool became smaller.
    ScaleDown,
    /// It reached a limit of age, memory or requests.
    Recycle,
    /// It leaves by itself.
    Leaving,
    /// Its connection ended.
    Lost,
}

impl WhyGo {
    pub(super) fn on_the_wire(self) -> DisconnectReason {
        match self {
            WhyGo::Restart => DisconnectReason::Restart,
            // A worker without a connection is not told a reason; one that comes back is told to go because it must be replaced.
            WhyGo::Request | WhyGo::Leaving | WhyGo::Lost => DisconnectReason::Request,
            WhyGo::Stop => DisconnectReason::Stop,
            WhyGo::ScaleDown => DisconnectReason::ScaleDown,
            WhyGo::Recycle => DisconnectReason::Recycle,
        }
    }
}

/// What limit a worker reached, so that it is replaced although nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Recycle {
    /// It has run for long enough.
    Lifetime,
    /// It takes too much memory.
    Memory,
    /// It has answered enough requests.
    Requests,
}

/// Why a worker counts as failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Failure {
    /// Its process ended.
    Exited(ExitStatus),
    /// It did not say `listening` in time.
    StartTimeout {
        /// The limit.
        after_ms: u64,
        /// It had a connection.
        connected: bool,
    },
    /// It could not be spawned.
    Spawn(String),
    /// Its connection ended and it did not come back.
    Disconnected,
    /// It sent no heartbeat.
    Blocked {
        /// For how long.
        silent_ms: u64,
    },
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Exited(status) => write!(f, "the worker {status}"),
            Failure::StartTimeout { after_ms, connected: true } => {
                write!(f, "the worker connected, but did not say `listening` within {} s", *after_ms as f64 / 1000.0)
            }
            Failure::StartTimeout { after_ms, connected: false } => {
                write!(
                    f,
                    "the worker did not connect to the master within {} s: it does not speak the protocol, or has not come that far",
                    *after_ms as f64 / 1000.0
                )
            }
            Failure::Spawn(reason) => f.write_str(reason),
            Failure::Disconnected => f.write_str("the worker closed its connection"),
            Failure::Blocked { silent_ms } => write!(f, "the worker was blocked: no heartbeat for {:.1} s", *silent_ms as f64 / 1000.0),
        }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// The pool stops.
    Stopping,
}

/// How a restart ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndOfRestart {
    /// Every replacement runs, every older worker was told to go.
    Done,
    /// A newer restart took its place.
    Superseded {
        /// The newer one's generation.
        by: GenerationId,
    },
    /// The new workers failed; the old ones stay.
    GivenUp {
        /// Failed waves in a row.
        attempts: u32,
        /// The last failure.
        why: Failure,
    },
    /// The pool stops.
    Stopped,
}

/// A fact worth telling.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Report {
    /// All first workers run.
    ClusterReady {
        /// How many.
        workers: u32,
    },
    /// The workers of a master that died are back, or their time to come back is over.
    ClusterAdopted {
        /// How many are back.
        workers: u32,
    },
    /// A spawn was ordered.
    CreatingWorker {
        /// The new worker.
        worker: WorkerId,
        /// The running worker whose slot it takes over.
        instead_of: Option<WorkerId>,
    },
    /// A worker runs.
    WorkerListening {
        /// Which.
        worker: WorkerId,
    },
    /// A running worker asked to be replaced.
    WorkerDying {
        /// Which.
        worker: WorkerId,
    },
    /// A running worker has reached a limit and is going to be replaced.
    WorkerDue {
        /// Which.
        worker: WorkerId,
        /// What limit.
        why: Recycle,
    },
    /// A running worker showed no sign of life and gets SIGKILL.
    WorkerBlocked {
        /// Which.
        worker: WorkerId,
        /// For how long.
        silent_ms: u64,
    },
    /// A worker was told to go.
    WorkerToldToGo {
        /// Which.
        worker: WorkerId,
        /// Why.
        why: WhyGo,
    },
    /// A running worker leaves by itself.
    WorkerLeaving {
        /// Which.
        worker: WorkerId,
    },
    /// A worker that was told to go has drained.
    WorkerDisconnected {
        /// Which.
        worker: WorkerId,
    },
    /// A worker that was told to go has not drained when its announced time is over, and gets SIGTERM.
    WorkerNotDrained {
        /// Which.
        worker: WorkerId,
    },
    /// A worker's connection ended before it ran.
    DisconnectedWhileStarting {
        /// Which.
        worker: WorkerId,
    },
    /// A running worker's connection ended and it did not come back.
    WorkerLost {
        /// Which.
        worker: WorkerId,
    },
    /// A worker's process ended.
    WorkerExited {
        /// Which.
        worker: WorkerId,
        /// How.
        status: ExitStatus,
        /// Nobody had told it to.
        unexpected: bool,
    },
    /// A start failed otherwise than by an exit.
    StartFailed {
        /// Which.
        worker: WorkerId,
        /// Why.
        why: Failure,
    },
    /// The next start waits.
    BackingOff {
        /// Failures in a row.
        failures: u32,
        /// How long.
        delay_ms: u64,
    },
    /// A worker that was told to go gets SIGKILL.
    HardKill {
        /// Which.
        worker: WorkerId,
        /// Its time was cut short by a second request to stop; otherwise it is over.
        as_asked: bool,
    },
    /// A request for a restart was taken up.
    RestartAccepted {
        /// Whose.
        ticket: Ticket,
        /// The target that it made or joined.
        generation: GenerationId,
    },
    /// A request for a restart was refused.
    RestartRefused {
        /// Whose.
        ticket: Ticket,
        /// Why.
        why: Refusal,
    },
    /// A restart ended.
    RestartEnded {
        /// Its target.
        generation: GenerationId,
        /// How.
        end: EndOfRestart,
    },
    /// The generation is the one to fall back to from now on.
    Committed {
        /// Which.
        generation: GenerationId,
    },
    /// The size changed.
    Scaled {
        /// To this.
        size: u32,
    },
    /// A change of the size was refused.
    ScaleRefused {
        /// Why.
        why: Refusal,
    },
    /// The first start failed for good; `Exit` follows.
    FirstStartFailed {
        /// Failed waves in a row.
        attempts: u32,
        /// The last failure.
        why: Failure,
    },
    /// Every worker has gone; `Exit` follows.
    ClusterShutdown {
        /// In which way.
        how: HowStopped,
    },
}

/// How the workers of a pool that stopped came to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HowStopped {
    /// None had to be sent SIGKILL.
    Cleanly,
    /// Those that were left got SIGKILL because a second request to stop asked for it.
    AtOnce,
    /// Some got SIGKILL because their time was over.
    Overdue,
}
