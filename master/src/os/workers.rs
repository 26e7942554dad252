//! The workers as the system knows them: process, token, connection. Where they are in their lives is the core's to know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::connection::ConnectionId;
use super::process::Process;
use crate::core::{Directory, GenerationId, WorkerId};

/// A worker from the order to spawn it until everybody has been told of its end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Worker {
    pub(super) slot: u32,
    pub(super) generation: GenerationId,
    pub(super) directory: Directory,
    pub(super) token: String,
    #[serde(skip)]
    pub(super) stage: Stage,
    pub(super) pid: Option<u32>,
    /// When its process began, as the system tells: with it the pid means one process for as long as the machine runs.
    pub(super) began: Option<u64>,
    #[serde(skip)]
    pub(super) connection: Option<ConnectionId>,
    /// Name and version of its SDK, as it says.
    pub(super) sdk: Option<String>,
    /// How many workers its slot had before it.
    pub(super) predecessors: u32,
    /// It has said `listening`.
    pub(super) has_run: bool,
    /// The master ended its connection for what it sent, and does not take it back.
    pub(super) is_cut: bool,
    /// It holds a socket that is dead, and is replaced as soon as it runs.
    pub(super) is_unfit: bool,
    /// Why it asked to be replaced, until that was told.
    #[serde(default)]
    pub(super) asked_because: Option<String>,
    /// How many bytes it took when that was found to be too much; told in the same turn of the loop, so no state needs it.
    #[serde(skip)]
    pub(super) memory_above_limit: Option<u64>,
    /// How many connections it cut, as it says.
    #[serde(default)]
    pub(super) cut: u32,
}

/// How far it is.
#[derive(Debug, Default)]
pub(super) enum Stage {
    /// There is no process: its hook runs or waits to run.
    Hook,
    /// A master that died had ordered it and may have started it: its `hello` will tell.
    #[default]
    Awaited,
    /// Its process has not been reaped.
    Alive(Process),
    /// There is no process any more.
    Gone,
}

impl Worker {
    pub(super) fn process(&self) -> Option<&Process> {
        match &self.stage {
            Stage::Alive(process) => Some(process),
            Stage::Hook | Stage::Awaited | Stage::Gone => None,
        }
    }

    /// It has a process now.
    pub(super) fn lives(&mut self, process: Process) {
        (self.pid, self.began) = (Some(process.pid()), process.began());
        self.stage = Stage::Alive(process);
    }
}

/// All of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Workers {
    by_id: BTreeMap<WorkerId, Worker>,
    /// How many each slot has had.
    by_slot: BTreeMap<u32, u32>,
}

impl Workers {
    /// Adds one, and counts it among those of its slot.
    pub(super) fn insert(&mut self, id: WorkerId, mut worker: Worker) {
        let so_far = self.by_slot.entry(worker.slot).or_default();
        worker.predecessors = *so_far;
        *so_far = so_far.saturating_add(1);
        self.by_id.insert(id, worker);
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (WorkerId, &mut Worker)> {
        self.by_id.iter_mut().map(|(id, worker)| (*id, worker))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.by_id.iter().map(|(id, worker)| (*id, worker))
    }

    /// The living worker that was given this token.
    pub(super) fn by_token(&self, token: &str) -> Option<WorkerId> {
        self.iter().find(|(_, worker)| matches!(worker.stage, Stage::Alive(_) | Stage::Awaited) && worker.token == token).map(|(id, _)| id)
    }

    /// Takes the process of a worker that has exited.
    pub(super) fn take_process(&mut self, id: WorkerId) -> Option<Process> {
        let worker = self.by_id.get_mut(&id)?;
        match std::mem::replace(&mut worker.stage, Stage::Gone) {
            Stage::Alive(process) => Some(process),
            Stage::Hook | Stage::Awaited | Stage::Gone => None,
        }
    }

    /// Everybody has been told: forget those that are gone.
    pub(super) fn forget_the_gone(&mut self) {
        self.by_id.retain(|_, worker| !matches!(worker.stage, Stage::Gone));
    }
}
