//! Facts that the shell tells the core.

use serde::{Deserialize, Serialize};

use super::action::Recycle;
use super::worker::WorkerId;

/// Identifies whoever asked for a restart, chosen by the shell.
pub type Ticket = u64;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// The pool is to come up. The first event of a pool's life.
    StartRequested,
    /// Someone wants a rolling restart.
    RestartRequested {
        /// Who; every report on this restart carries it.
        ticket: Ticket,
        /// `num_workers` as evaluated for this restart.
        size: u32,
    },
    /// Someone wants another size.
    ScaleRequested(SizeChange),
    /// Someone wants the end; the second time at once.
    StopRequested,
    /// The worker's process exists.
    WorkerSpawned {
        /// Which.
        worker: WorkerId,
    },
    /// There is no process: the hook failed or was cancelled, or the system refused.
    SpawnFailed {
        /// Which.
        worker: WorkerId,
        /// Why, for people.
        reason: String,
    },
    /// The worker's `hello` was accepted (again, after an interruption).
    WorkerConnected {
        /// Which.
        worker: WorkerId,
    },
    /// The worker said something that concerns its life.
    WorkerSaid {
        /// Which.
        worker: WorkerId,
        /// What.
        said: Said,
    },
    /// A running worker has reached a limit that the shell or the worker itself watches.
    RecycleDue {
        /// Which.
        worker: WorkerId,
        /// What limit.
        why: Recycle,
    },
    /// The worker's connection ended.
    ConnectionEnded {
        /// Which.
        worker: WorkerId,
    },
    /// The worker's process was reaped. Everything that it had said has been handled.
    WorkerExited {
        /// Which.
        worker: WorkerId,
        /// How.
        status: ExitStatus,
    },
    /// A deadline of [`poll_deadline`](super::Pool::poll_deadline) has come.
    DeadlineReached,
}

/// What a worker can say that concerns its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Said {
    /// It serves.
    Listening,
    /// It wants to be replaced.
    RequestRestart,
    /// It ends its service by itself.
    Leaving,
    /// It has drained and holds nothing any more.
    Disconnect,
    /// It is alive.
    Heartbeat,
}

/// A change of the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SizeChange {
    /// To this many.
    To(u32),
    /// By this many.
    By(i32),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Not known: it was no child of this master.
    Unknown,
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exited with code {code}"),
            ExitStatus::Signal(signal) => write!(f, "was ended by signal {signal}"),
            ExitStatus::Unknown => write!(f, "exited"),
        }
    }
}
