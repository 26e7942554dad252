//! Taking over from a master that died: its workers are watched by pidfd, known by their tokens when they come back, and asked for the listeners, whose addresses cannot be bound while they hold them.

use dutch_master_protocol::message::{FromMaster, Listen, ReturnListener};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use super::clock;
use super::connection::{Connection, ConnectionId};
use super::event_loop::EventLoop;
use super::failpoint::{self, Place};
use super::line::Message;
use super::listeners::OutOfReach;
use super::orders::in_full;
use super::port_holder;
use super::process::Process;
use super::returns::Returned;
use super::workers::Stage;
use crate::core::listeners::Key;
use crate::core::{ADOPTION_MS, Event, ExitStatus, Phase, Time, WorkerId};

/// How often a listener is tried for that workers hold which cannot be asked for it, in milliseconds: they are being replaced meanwhile.
const RETRY_MS: u64 = 1_000;

/// What is still to come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Adoption {
    /// Until when workers may come back, and those that may have been spawned may come.
    until: Option<Time>,
    /// When the missing listeners are tried for next.
    try_at: Option<Time>,
    /// Requests for listeners that are missing.
    waiting: Vec<Waiting>,
}

/// A worker's request that is answered when the listener is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Waiting {
    connection: ConnectionId,
    worker: WorkerId,
    key: Key,
    request: Listen,
}

impl Adoption {
    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        [self.until, self.try_at].into_iter().flatten().min()
    }

    /// How many requests of a worker wait.
    pub(super) fn waiting_of(&self, worker: WorkerId) -> usize {
        self.waiting.iter().filter(|waiting| waiting.worker == worker).count()
    }

    /// Keeps a request until the listener is there.
    pub(super) fn wait(&mut self, connection: ConnectionId, worker: WorkerId, key: Key, request: Listen) {
        self.waiting.push(Waiting { connection, worker, key, request });
    }
}

impl EventLoop {
    /// The pool, the workers and what was written down of them are those of a master that died.
    pub(super) fn take_over(&mut self) {
        let until = clock::now().after(ADOPTION_MS);
        (self.adoption.until, self.adoption.try_at) = (Some(until), Some(until));
        self.note(Event::TakenOver);
        let mut gone: Vec<_> = self.pool.workers().map(|worker| worker.id).filter(|id| self.workers.get(*id).is_none()).collect();
        for (id, worker) in self.workers.iter_mut() {
            // One without a number may have been spawned or not.
            let Some((pid, began)) = worker.pid.zip(worker.began) else { continue };
            match Process::adopt(pid, began) {
                Some(process) => {
                    worker.lives(process);
                    failpoint::reached(Place::WorkerAdopted);
                }
                None => {
                    worker.stage = Stage::Gone;
                    gone.push(id);
                }
            }
        }
        info!(workers = self.workers.iter().filter(|(_, worker)| worker.process().is_some()).count(), "Taking over from a master that died");
        for worker in gone {
            self.listeners.worker_gone(worker);
            self.note(Event::WorkerExited { worker, status: ExitStatus::Unknown });
        }
        self.workers.iter().map(|(id, _)| id).collect::<Vec<_>>().into_iter().for_each(|id| self.begin_to_watch_memory(id));
        self.restart_if_options_changed();
    }

    /// Whoever starts a master with other options wants them. A pool that was stopping gets a new generation anyway.
    fn restart_if_options_changed(&mut self) {
        let is_as_wanted =
            self.snapshots.get(self.pool.generation()).is_some_and(|was| was.options == self.options && was.live == self.directory_of(&self.options));
        if !is_as_wanted && self.pool.phase() != Phase::Stopping {
            info!("Options have changed, replacing the workers");
            self.request_restart(0, None);
        }
    }

    /// A worker of which it was not known whether it came to be: it leads its session, as every worker does.
    pub(super) fn adopt_peer(&mut self, id: ConnectionId, worker: WorkerId) -> Option<()> {
        let (leader, began) = self.connections.get(&id)?.peer.session_leader()?;
        self.workers.get_mut(worker)?.lives(Process::adopt(leader, began)?);
        self.note(Event::WorkerSpawned { worker });
        Some(())
    }

    /// Asks somebody for each listener that is missing, unless that has been done.
    pub(super) fn ask_for_missing(&mut self) {
        for key in self.listeners.missing() {
            if self.is_asked_for(&key) {
                continue;
            }
            let can_be_asked = |worker| {
                let connection = self.workers.get(worker)?.connection?;
                self.connections.get(&connection)?.returns.is_offered.then_some(connection)
            };
            let Some(holder) = self.listeners.holders(&key).into_iter().find_map(can_be_asked) else { continue };
            let Some(connection) = self.connections.get_mut(&holder) else { continue };
            let seq = connection.returns.ask(key.clone());
            if let Err(end) = connection.send(&FromMaster::ReturnListener(ReturnListener { seq, key })) {
                self.end(holder, &end);
            }
        }
    }

    fn is_asked_for(&self, key: &str) -> bool {
        self.connections.values().any(|connection: &Connection| connection.returns.is_asked_for(key))
    }

    /// A worker gave a listener back.
    pub(super) fn returned(&mut self, worker: WorkerId, Returned { key, fd }: Returned) {
        let Some(fd) = fd else {
            warn!(workerId = worker, listener = key, "Listener could not be taken back: this process may open no more files; asking again");
            self.adoption.try_at = Some(clock::now().after(RETRY_MS));
            return;
        };
        match self.listeners.take_back(&key, fd) {
            Ok(()) => {
                failpoint::reached(Place::ListenerBack);
                debug!(workerId = worker, listener = key, "Listener came back");
                self.answer_waiting();
            }
            Err(unfit) => {
                warn!(workerId = worker, listener = key, reason = in_full(unfit), "Worker gave back another socket");
                self.cannot_return(worker, &key);
            }
        }
    }

    /// A worker does not hold it after all: another may.
    pub(super) fn cannot_return(&mut self, worker: WorkerId, key: &str) {
        self.listeners.closed(worker, key);
        self.ask_for_missing();
        self.try_for_missing_soon();
    }

    /// Something has changed: what is still missing may be had now.
    pub(super) fn try_for_missing_soon(&mut self) {
        if !self.listeners.missing().is_empty() {
            self.adoption.try_at = Some(clock::now());
        }
    }

    /// Does what is due.
    pub(super) fn adoption_expired(&mut self, now: Time) {
        if self.adoption.until.take_if(|until| *until <= now).is_some() {
            let mut never = Vec::new();
            for (id, worker) in self.workers.iter_mut().filter(|(_, worker)| matches!(worker.stage, Stage::Awaited)) {
                worker.stage = Stage::Gone;
                never.push(id);
            }
            for worker in never {
                debug!(workerId = worker, "Worker was never started");
                self.note(Event::NeverSpawned { worker });
            }
        }
        if self.adoption.try_at.take_if(|at| *at <= now).is_some() {
            self.try_for_missing(now);
        }
    }

    /// Has what is missing from a worker, else anew, else from a worker that does not know of it.
    fn try_for_missing(&mut self, now: Time) {
        self.ask_for_missing();
        for key in self.listeners.missing() {
            let is_on_its_way = self.adoption.until.is_some() && self.is_asked_for(&key);
            if is_on_its_way {
                continue;
            }
            match self.listeners.bind_missing(&key) {
                Ok(()) => debug!(listener = key, "Listener bound anew"),
                Err(_) if self.fetch(&key) => debug!(listener = key, "Listener taken from a worker that cannot be asked"),
                Err(error) => self.is_out_of_reach(&key, in_full(error)),
            }
        }
        if !self.listeners.missing().is_empty() {
            self.adoption.try_at = Some(now.after(RETRY_MS));
        }
        self.answer_waiting();
    }

    /// Copies a listener out of a worker that cannot be asked for it. The system lets root do it, and where it is not locked down also the same user.
    fn fetch(&mut self, key: &str) -> bool {
        let Some(address) = self.listeners.registry().get(key).map(|entry| entry.address.clone()) else { return false };
        let sockets = port_holder::sockets(&address);
        let processes = self.listeners.holders(key).into_iter().filter_map(|worker| self.workers.get(worker)?.process());
        let members: Vec<_> = processes.flat_map(Process::members).collect();
        members.iter().flat_map(|member| port_holder::descriptors(member.pid, &sockets).into_iter().map(move |number| (member, number))).any(
            |(member, number)| {
                let copy = pidfd_getfd(member, number, PidfdGetfdFlags::empty());
                copy.is_ok_and(|fd| self.listeners.take_back(key, fd).is_ok())
            },
        )
    }

    fn is_out_of_reach(&mut self, key: &str, reason: String) {
        let OutOfReach { is_news, is_forgotten } = self.listeners.is_out_of_reach(key);
        if is_news {
            self.say_broken(Message::ListenerOutOfReach, reason);
        }
        if is_forgotten || !self.adoption.waiting.iter().any(|waiting| waiting.key == key) {
            return;
        }
        // Its replacement waits for what it holds.
        for worker in self.listeners.holders(key) {
            self.note(Event::IsInTheWay { worker });
        }
    }

    fn answer_waiting(&mut self) {
        for Waiting { connection, worker, request, .. } in std::mem::take(&mut self.adoption.waiting) {
            if self.workers.get(worker).is_some_and(|process| process.connection == Some(connection))
                && let Err(end) = self.answer_listen(connection, worker, request)
            {
                self.end(connection, &end);
            }
        }
    }
}
