//! One worker as the core knows it.

use serde::{Deserialize, Serialize};

use super::action::{Recycle, WhyGo};
use super::time::Time;

/// Number of a worker: 1, 2, 3…, never reused.
pub type WorkerId = u32;

/// Number of a generation: 1, 2, 3…, never reused.
pub type GenerationId = u32;

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Worker {
    /// Its id.
    pub id: WorkerId,
    /// Its slot.
    pub slot: u32,
    /// Its generation.
    pub generation: GenerationId,
    /// When it was ordered.
    pub ordered_at: Time,
    /// Where it is in its life; see the drawing at the top of this module.
    pub state: State,
    /// It has a connection.
    pub connected: bool,
    /// It asked to be replaced.
    pub asked: bool,
    /// It has reached a limit: since when, and what.
    pub due: Option<(Time, Recycle)>,
    /// When it last sent a heartbeat, from `listening` on. `None`: it sends none.
    pub(super) heard_at: Option<Time>,
    /// Its connection ended; it has until then to come back.
    pub(super) reconnect_by: Option<Time>,
}

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Ordered, not `listening` yet.
    Starting {
        /// The start timeout.
        deadline: Time,
    },
    /// Said `listening`.
    Running {
        /// When.
        since: Time,
        /// It has lasted.
        settled: bool,
    },
    /// Told to go, or leaving.
    Draining {
        /// Why.
        why: WhyGo,
        /// When it gets SIGTERM; `None`: it has got it.
        terminate_at: Option<Time>,
        /// When it gets SIGKILL.
        kill_at: Time,
    },
    /// Its connection ended while the process lives; nobody has told it to go yet.
    Lost,
    /// It got SIGKILL.
    Killing,
}

impl Worker {
    /// Whether it counts against size + surge.
    pub fn is_live(&self) -> bool {
        match self.state {
            State::Starting { .. } | State::Running { .. } => true,
            State::Draining { .. } | State::Lost | State::Killing => false,
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Whether it has run long enough to show that it works.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, State::Running { settled: true, .. })
    }

    /// Its state in one word.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Starting { .. } => "starting",
            State::Running { .. } => "running",
            State::Draining { .. } => "draining",
            State::Lost => "lost",
            State::Killing => "killing",
        }
    }
}
