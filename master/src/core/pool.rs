//! The pool: its state, and what each fact changes in it. What then has to be done is decided in `reconcile.rs`.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::action::{Action, EndOfRestart, Failure, Refusal, Report, WhyGo};
use super::backoff::Backoff;
use super::config::{Config, RECONNECT_MS, SIZE_MAX};
use super::event::{Event, ExitStatus, SizeChange, Ticket};
use super::restart::Restart;
use super::time::Time;
use super::worker::{GenerationId, State, Worker, WorkerId};

/// The workers of one master and what shall become of them. Serialisable as a whole: a successor goes on where this one was.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pool {
    pub(super) config: Config,
    pub(super) size: u32,
    /// `num_workers` as last evaluated: only a change of it overrides a size that was set by `scale`.
    evaluated_size: u32,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    pub(super) last_worker: WorkerId,
    last_generation: GenerationId,
    pub(super) restart: Option<Restart>,
    pub(super) committed: Option<GenerationId>,
    pub(super) given_up: Option<(GenerationId, Failure)>,
    pub(super) last_failure: Option<Failure>,
    /// Whose failure that was.
    #[serde(default)]
    pub(super) last_failed: Option<WorkerId>,
    pub(super) backoff: Backoff,
    pub(super) has_run: bool,
    pub(super) has_been_ready: bool,
    pub(super) restarts_done: u64,
    pub(super) stopping: Option<Stopping>,
    /// The workers of a dead master have until then to come back.
    pub(super) adopting_until: Option<Time>,
    pub(super) actions: VecDeque<Action>,
}

/// The end of a pool. Absorbing: nothing leads out of it, nothing is started in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Stopping {
    /// The first start failed: exit with 1 whatever happens.
    pub(super) failed: bool,
    /// A worker had to be sent SIGKILL.
    pub(super) killed: bool,
    /// Asked for a second time: no worker has any time left.
    #[serde(default)]
    pub(super) hurried: bool,
    /// `Exit` was ordered.
    pub(super) ended: bool,
}

/// What a pool is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The first start is under way.
    Starting,
    /// All is as it should be, or is being repaired.
    Serving,
    /// A rolling restart is under way.
    Restarting,
    /// It stops.
    Stopping,
}

impl Pool {
    /// A pool of `size` workers that does nothing until [`Event::StartRequested`].
    pub fn new(config: Config, size: u32) -> Pool {
        let size = size.clamp(1, SIZE_MAX);
        Pool {
            config,
            size,
            evaluated_size: size,
            workers: BTreeMap::new(),
            last_worker: 0,
            last_generation: 0,
            restart: None,
            committed: None,
            given_up: None,
            last_failure: None,
            last_failed: None,
            backoff: Backoff::default(),
            has_run: false,
            has_been_ready: false,
            restarts_done: 0,
            stopping: None,
            adopting_until: None,
            actions: VecDeque::new(),
        }
    }

    /// Takes in a fact. Afterwards [`poll_action`](Self::poll_action) has to be called until it is empty. Facts on workers that are gone are ignored.
    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::StartRequested => {
                if self.last_generation == 0 {
                    self.begin_generation();
                }
            }
            Event::TakenOver => self.taken_over(now),
            Event::RestartRequested { ticket, size } => self.restart_requested(ticket, size),
            Event::ScaleRequested(change) => self.scale_requested(change),
            Event::StopRequested => self.stop_requested(now),
            Event::WorkerSpawned { worker } => self.worker_spawned(now, worker),
            Event::SpawnFailed { worker, reason } => self.spawn_failed(now, worker, reason),
            Event::NeverSpawned { worker } => self.never_spawned(worker),
            Event::IsInTheWay { worker } => self.is_in_the_way(now, worker),
            Event::WorkerConnected { worker } => self.worker_connected(now, worker),
            Event::WorkerSaid { worker, said } => self.worker_said(now, worker, said),
            Event::RecycleDue { worker, why } => self.recycle_due(now, worker, why),
            Event::ConnectionEnded { worker } => self.connection_ended(now, worker),
            Event::WorkerExited { worker, status } => self.worker_exited(now, worker, status),
            Event::DeadlineReached => self.expire(now),
        }
        self.reconcile(now);
    }

    /// Whether it may have been written by a pool: one that was read and is not must not be gone on with.
    pub fn is_consistent(&self) -> bool {
        let known = |generation: GenerationId| generation <= self.last_generation;
        let workers = self.workers.iter().all(|(id, worker)| *id == worker.id && *id <= self.last_worker && worker.generation > 0 && known(worker.generation));
        workers && (1..=SIZE_MAX).contains(&self.size) && self.restart.as_ref().is_none_or(|restart| known(restart.target)) && self.committed.is_none_or(known)
    }

    /// The next order, in the order in which they have to be carried out.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The part of a thousand (at most 250 is sensible) by which the next backoff delay is longer, so that pools do not move in step. Drawn by the shell.
    pub fn set_jitter(&mut self, permille: u16) {
        self.backoff.set_jitter(permille);
    }

    /// All workers, by id.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// A worker that has not been forgotten.
    pub fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// How many workers the pool should have.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// How many run.
    pub fn running(&self) -> u32 {
        self.count(Worker::is_running)
    }

    /// The time limits and policies.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes time limits and policies from now on; deadlines that are set stay.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        match (&self.stopping, &self.restart) {
            (Some(_), _) => Phase::Stopping,
            (None, Some(restart)) if self.has_been_ready || restart.target > 1 => Phase::Restarting,
            (None, Some(_)) => Phase::Starting,
            (None, None) => Phase::Serving,
        }
    }

    /// The generation that new workers belong to; 0 before the start.
    pub fn generation(&self) -> GenerationId {
        self.restart.as_ref().map(|restart| restart.target).or(self.committed).unwrap_or(self.last_generation)
    }

    /// The last generation whose restart completed.
    pub fn committed(&self) -> Option<GenerationId> {
        self.committed
    }

    /// Workers of more than one generation run and no restart is under way.
    pub fn is_mixed(&self) -> bool {
        let mut generations = self.workers.values().filter(|w| w.is_running()).map(|w| w.generation);
        let first = generations.next();
        self.restart.is_none() && generations.any(|generation| Some(generation) != first)
    }

    /// The target that was given up, and why, until the next restart.
    pub fn given_up(&self) -> Option<(GenerationId, &Failure)> {
        self.given_up.as_ref().map(|(generation, why)| (*generation, why))
    }

    /// How many restarts were completed.
    pub fn restarts_done(&self) -> u64 {
        self.restarts_done
    }

    pub(super) fn order(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn report(&mut self, report: Report) {
        self.order(Action::Report(report));
    }

    pub(super) fn count(&self, condition: impl Fn(&Worker) -> bool) -> u32 {
        self.workers.values().filter(|worker| condition(worker)).count().try_into().unwrap_or(u32::MAX)
    }

    pub(super) fn begin_generation(&mut self) {
        self.last_generation += 1;
        self.restart = Some(Restart::to(self.last_generation));
        self.order(Action::TakeSnapshot { generation: self.last_generation });
    }

    /// Rule 3: never ignored. Joins the target while none of its workers was ordered, else makes the next one.
    fn restart_requested(&mut self, ticket: Ticket, size: u32) {
        if self.stopping.is_some() {
            return self.report(Report::RestartRefused { ticket, why: Refusal::Stopping });
        }
        self.backoff.clear();
        self.given_up = None;
        if size != self.evaluated_size {
            self.evaluated_size = size;
            self.size = size.clamp(1, SIZE_MAX);
        }
        match &self.restart {
            Some(restart) if !restart.begun => self.order(Action::TakeSnapshot { generation: restart.target }),
            Some(_) => {
                self.end_restart(EndOfRestart::Superseded { by: self.last_generation + 1 });
                self.begin_generation();
            }
            None => self.begin_generation(),
        }
        self.report(Report::RestartAccepted { ticket, generation: self.last_generation });
    }

    fn scale_requested(&mut self, change: SizeChange) {
        if self.stopping.is_some() {
            return self.report(Report::ScaleRefused { why: Refusal::Stopping });
        }
        let wanted = match change {
            SizeChange::To(size) => size,
            SizeChange::By(by) => self.size.saturating_add_signed(by),
        };
        self.size = wanted.clamp(1, SIZE_MAX);
        self.backoff.clear();
        self.report(Report::Scaled { size: self.size });
    }

    /// Rule 11.
    fn stop_requested(&mut self, now: Time) {
        match &mut self.stopping {
            None => {
                self.stop(false);
                for id in self.ids() {
                    self.tell_to_go(now, id, WhyGo::Stop);
                }
            }
            Some(stopping) => {
                stopping.hurried = true;
                for worker in self.workers.values_mut() {
                    if let State::Draining { kill_at, .. } = &mut worker.state {
                        *kill_at = (*kill_at).min(now);
                    }
                }
                self.expire(now);
            }
        }
    }

    pub(super) fn stop(&mut self, failed: bool) {
        self.stopping = Some(Stopping { failed, killed: false, hurried: false, ended: false });
        self.order(Action::CloseListeners);
        self.end_restart(EndOfRestart::Stopped);
    }

    pub(super) fn ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    fn worker_spawned(&mut self, now: Time, id: WorkerId) {
        let limit = self.config.start_timeout_ms;
        if let Some(Worker { state: State::Starting { deadline }, .. }) = self.workers.get_mut(&id) {
            *deadline = now.after(limit);
        }
    }

    fn spawn_failed(&mut self, now: Time, id: WorkerId, reason: String) {
        let Some(worker) = self.workers.remove(&id) else { return };
        if let State::Starting { .. } = worker.state {
            let why = Failure::Spawn(reason);
            self.report(Report::StartFailed { worker: id, why: why.clone() });
            self.worker_failed(now, &worker, why);
        }
    }

    fn worker_connected(&mut self, now: Time, id: WorkerId) {
        let margin = self.config.kill_timeout_ms - self.config.announced_ms();
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.connected = true;
        worker.heard_at = worker.heard_at.map(|_| now);
        worker.reconnect_by = None;
        if let State::Draining { why, terminate_at, kill_at } = &mut worker.state {
            // It was told to go when it could not hear it.
            let announced = Time(kill_at.0.saturating_sub(margin)).max(now);
            *terminate_at = Some(announced);
            let (reason, timeout_ms) = (why.on_the_wire(), announced.since(now));
            self.order(Action::Disconnect { worker: id, reason, timeout_ms });
        }
    }

    fn connection_ended(&mut self, now: Time, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.connected = false;
            if worker.is_live() {
                worker.reconnect_by = Some(now.after(RECONNECT_MS));
            }
        }
    }

    /// Rules 5 to 7: the exit alone makes a worker forgotten, whether its connection ended before or not.
    fn worker_exited(&mut self, now: Time, id: WorkerId, status: ExitStatus) {
        let Some(worker) = self.workers.remove(&id) else { return };
        self.report(Report::WorkerExited { worker: id, status, unexpected: worker.is_live() });
        match worker.state {
            State::Starting { .. } => self.worker_failed(now, &worker, Failure::Exited(status)),
            State::Running { since, .. } => self.worker_died(now, &worker, since, Failure::Exited(status)),
            State::Draining { .. } | State::Lost | State::Killing => {}
        }
    }

    /// The restart under way ends; nobody waits for the first start.
    pub(super) fn end_restart(&mut self, end: EndOfRestart) {
        if let Some(Restart { target, .. }) = self.restart.take()
            && target > 1
        {
            self.report(Report::RestartEnded { generation: target, end });
        }
    }
}
