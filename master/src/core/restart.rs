//! A rolling restart under way: its target and how often it failed (rules 3 and 9). The first start is one too.

use serde::{Deserialize, Serialize};

use super::worker::{GenerationId, WorkerId};

/// The restart under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Restart {
    /// The generation that every worker shall belong to.
    pub(super) target: GenerationId,
    /// One of the target's workers was ordered: later requests make a new target.
    pub(super) begun: bool,
    /// One of the target's workers has lasted: older workers may be told to go.
    pub(super) settled: bool,
    /// Failed waves in a row.
    pub(super) failed_waves: u32,
    /// Workers up to this id belong to a wave that has been counted.
    counted_up_to: WorkerId,
}

impl Restart {
    pub(super) fn to(target: GenerationId) -> Restart {
        Restart { target, begun: false, settled: false, failed_waves: 0, counted_up_to: 0 }
    }

    /// One of the target's workers failed; `newest` is the last worker that was ordered.
    /// Those ordered before the last counted failure were started together with it: a wave counts once.
    pub(super) fn worker_failed(&mut self, worker: WorkerId, newest: WorkerId) {
        if worker > self.counted_up_to {
            self.failed_waves += 1;
            self.counted_up_to = newest;
        }
    }

    /// One of the target's workers has lasted.
    pub(super) fn worker_lasted(&mut self) {
        self.settled = true;
        self.failed_waves = 0;
    }
}
