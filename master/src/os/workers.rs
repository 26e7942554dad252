//! The workers as the system knows them: process, token, connection. Where they are in their lives is the core's to know.

use std::collections::BTreeMap;

use super::connection::ConnectionId;
use super::process::Process;
use crate::core::{Directory, GenerationId, WorkerId};

/// A worker from the order to spawn it until everybody has been told of its end.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) slot: u32,
    pub(super) generation: GenerationId,
    pub(super) directory: Directory,
    pub(super) token: String,
    pub(super) stage: Stage,
    pub(super) pid: Option<u32>,
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
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    /// There is no process: its hook runs or waits to run.
    Hook,
    /// Its process has not been reaped.
    Alive(Process),
    /// There is no process any more.
    Gone,
}

impl Worker {
    pub(super) fn process(&self) -> Option<&Process> {
        match &self.stage {
            Stage::Alive(process) => Some(process),
            Stage::Hook | Stage::Gone => None,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
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

    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.by_id.iter().map(|(id, worker)| (*id, worker))
    }

    /// The living worker that was given this token.
    pub(super) fn by_token(&self, token: &str) -> Option<WorkerId> {
        self.iter().find(|(_, worker)| worker.process().is_some() && worker.token == token).map(|(id, _)| id)
    }

    /// Takes the process of a worker that has exited.
    pub(super) fn take_process(&mut self, id: WorkerId) -> Option<Process> {
        let worker = self.by_id.get_mut(&id)?;
        match std::mem::replace(&mut worker.stage, Stage::Gone) {
            Stage::Alive(process) => Some(process),
            Stage::Hook | Stage::Gone => None,
        }
    }

    /// Everybody has been told: forget those that are gone.
    pub(super) fn forget_the_gone(&mut self) {
        self.by_id.retain(|_, worker| !matches!(worker.stage, Stage::Gone));
    }
}
