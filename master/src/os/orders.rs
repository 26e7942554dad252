//! Carrying out what the core orders. What fails comes back to it as a fact.

use std::path::Path;

use dutch_master_protocol::message::{Disconnect, DisconnectReason, FromMaster};
use nix::sys::signal::Signal as Number;
use tracing::{debug, warn};

use super::callbacks::ask;
use super::clock;
use super::event_loop::EventLoop;
use super::exec_error::failed;
use super::failpoint::{self, Place};
use super::hook::{Outcome, Work};
use super::line::Message;
use super::program::Program;
use super::request::Request;
use super::rights::Rights;
use super::spawn::{self, Identity, Standing};
use super::workers::{Stage, Worker};
use crate::core::{Action, Directory, Event, ExitStatus, GenerationId, HOOK_TIMEOUT_MS, Phase, Signal, SizeChange, Ticket, Time, WorkerId};
use crate::options::NumWorkers;
use crate::told::Chain;

/// Most workers that are launched in one turn: each takes about a millisecond, in which nobody is answered.
const LAUNCHES_MAX: usize = 64;

/// In one turn, one in so many of those that are to be launched, but some at least: the first ones get their listeners while the last ones start, and each turn writes the state.
const LAUNCHES_SHARE: usize = 4;
const LAUNCHES_LEAST: usize = 4;

/// The ticket of requests that nobody waits for; connections count from 1.
const NOBODY: Ticket = 0;

impl EventLoop {
    /// Carries out one order.
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::TakeSnapshot { generation } => {
                let has_workers = |other| self.workers.iter().any(|(_, worker)| worker.generation == other);
                let environment = self.environment_of(&self.options);
                self.snapshots.take(generation, self.options.clone(), environment, self.directory_of(&self.options), has_workers);
            }
            Action::Spawn { worker, slot, generation, directory } => self.order_worker(worker, slot, generation, directory),
            Action::Disconnect { worker, reason, timeout_ms } => self.disconnect(worker, reason, timeout_ms),
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::CloseListeners => self.listeners.close_all(),
            Action::Report(report) => self.report(&report),
            Action::Exit { code } => self.exit_code = Some(code),
        }
    }

    /// A request from within this process.
    pub(super) fn requested(&mut self, request: Request) {
        match request {
            Request::Restart { signal } => self.request_restart(NOBODY, signal.as_deref()),
            // Refused, it has been logged.
            Request::Reload { signal } => drop(self.request_reload(NOBODY, signal.as_deref())),
            Request::Stop { signal } => self.request_stop(signal.as_deref(), false),
            Request::Scale { change } => self.request_scale(None, change),
            // Refused, it has been logged.
            Request::Upgrade { program, signal } => drop(self.request_upgrade(program, signal.as_deref())),
            Request::ReapOrphans => self.reap_orphans(),
            Request::Abandon => self.abandon(),
        }
    }

    pub(super) fn request_restart(&mut self, ticket: Ticket, signal: Option<&str>) {
        self.report_request(Message::RestartRequested, signal);
        // To the service manager, SIGHUP is a reload whatever it is here.
        if signal == Some("SIGHUP") {
            self.telling.reload_begins();
        }
        if !self.evaluate_first(ticket) {
            self.begin_restart(ticket, evaluate(self.options.num_workers));
        }
    }

    /// The size is known.
    pub(super) fn begin_restart(&mut self, ticket: Ticket, size: u32) {
        self.apply_policies(&self.options.clone());
        self.note(Event::RestartRequested { ticket, size });
    }

    /// The second request makes the core hurry; one that wants it `now` is both.
    pub(super) fn request_stop(&mut self, signal: Option<&str>, now: bool) {
        let is_second = self.is_stopping();
        self.report_stop_request(signal, now || is_second);
        self.note(Event::StopRequested);
        if now && !is_second {
            self.note(Event::StopRequested);
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.pool.phase() == Phase::Stopping
    }

    pub(super) fn request_scale(&mut self, client: Option<super::connection::ConnectionId>, change: SizeChange) {
        self.clients.scaling_asked(client);
        self.note(Event::ScaleRequested(change));
    }

    fn order_worker(&mut self, id: WorkerId, slot: u32, generation: GenerationId, directory: Directory) {
        let token = match spawn::new_token() {
            Ok(token) => token,
            Err(error) => return self.note(Event::SpawnFailed { worker: id, reason: format!("no random bytes for a token: {error}") }),
        };
        let worker = Worker {
            slot,
            generation,
            directory,
            token,
            stage: Stage::Hook,
            pid: None,
            began: None,
            connection: None,
            sdk: None,
            predecessors: 0,
            has_run: false,
            is_cut: false,
            is_unfit: false,
            asked_because: None,
            memory_above_limit: None,
            cut: 0,
        };
        self.workers.insert(id, worker);
        self.launches.push_back(id);
    }

    /// Starts some of what was ordered, or its hook. Its token has been written down by now: if this master dies, the next one knows the worker by it.
    pub(super) fn launch_ordered(&mut self) {
        let some = (self.launches.len() / LAUNCHES_SHARE).clamp(LAUNCHES_LEAST, LAUNCHES_MAX).min(self.launches.len());
        for id in self.launches.drain(..some).collect::<Vec<_>>() {
            let Some(worker) = self.workers.get(id).filter(|worker| matches!(worker.stage, Stage::Hook)) else { continue };
            if self.callbacks.before_fork.is_some() || self.options_of(worker.generation).before_fork.is_some() {
                self.hooks.enqueue(id);
            } else {
                self.launch(id);
            }
        }
        self.start_hooks();
    }

    fn start_hooks(&mut self) {
        while let Some(id) = self.hooks.next() {
            if let Err(reason) = self.start_hook(id) {
                self.give_up_spawn(id, reason);
            }
        }
    }

    fn start_hook(&mut self, id: WorkerId) -> Result<(), String> {
        let Some(worker) = self.workers.get(id) else { return Ok(()) };
        if let Some(callback) = &mut self.callbacks.before_fork {
            self.hooks.started(id, Work::Callback(ask(callback)), clock::now().after(HOOK_TIMEOUT_MS));
            return Ok(());
        }
        let place = self.snapshots.directory(worker.generation, worker.directory).map_err(in_full)?;
        let snapshot = self.snapshots.get(worker.generation);
        let Some((snapshot, line)) = snapshot.and_then(|snapshot| Some((snapshot, snapshot.options.before_fork.as_ref()?))) else { return Ok(()) };
        let process = spawn::hook(line, &place.path, &snapshot.environment)
            .map_err(|error| format!("before_fork: {}", failed(Path::new("/bin/sh"), &place.path, None, &error)))?;
        self.hooks.started(id, Work::Command(process), clock::now().after(HOOK_TIMEOUT_MS));
        Ok(())
    }

    /// A hook has ended, by itself or killed.
    pub(super) fn hook_ended(&mut self) {
        match self.hooks.reap() {
            Some((worker, Outcome::Command(ExitStatus::Code(0)))) => self.launch(worker),
            Some((worker, Outcome::Command(status))) => self.give_up_spawn(worker, format!("before_fork {status}")),
            Some((worker, Outcome::Callback(Ok(surroundings)))) => {
                self.moved(worker, surroundings);
                self.launch(worker);
            }
            Some((worker, Outcome::Callback(Err(reason)))) => self.give_up_spawn(worker, reason),
            None => {}
        }
        self.start_hooks();
    }

    pub(super) fn hook_expired(&mut self, now: Time) {
        if let Some(worker) = self.hooks.expire(now) {
            self.give_up_spawn(worker, format!("before_fork did not end within {} s", HOOK_TIMEOUT_MS / 1_000));
            self.start_hooks();
        }
    }

    fn launch(&mut self, id: WorkerId) {
        match self.try_launch(id) {
            Ok(()) => self.note(Event::WorkerSpawned { worker: id }),
            Err(reason) => self.give_up_spawn(id, reason),
        }
    }

    fn try_launch(&mut self, id: WorkerId) -> Result<(), String> {
        // It has to find the control socket, and is to get listeners that serve.
        self.check_sockets();
        let Some(worker) = self.workers.get_mut(id) else { return Ok(()) };
        let place = self.snapshots.directory(worker.generation, worker.directory).map_err(in_full)?;
        if let Some(gone) = place.instead_of {
            warn!(workerId = id, generation = worker.generation, directory = %gone.display(), "Directory of the committed generation is gone, using the live one");
        }
        let Some(snapshot) = self.snapshots.get(worker.generation) else { return Ok(()) };
        let program = Program::find(&snapshot.options, &place.path, &snapshot.environment).map_err(in_full)?;
        let identity = Identity { id, slot: worker.slot, token: &worker.token, control_socket: &self.control_path };
        let account = self.account.as_ref();
        let standing = Standing { account, rights: Rights::new(account, &snapshot.options) };
        let spawned = spawn::worker(&program, &place.path, &snapshot.environment, &identity, standing);
        let process = spawned.map_err(|error| failed(&program.path, &place.path, account, &error))?;
        failpoint::reached(Place::Spawned);
        debug!(workerId = id, workerPid = process.pid(), generation = worker.generation, directory = %place.path.display(), "Worker spawned");
        worker.lives(process);
        Ok(())
    }

    fn give_up_spawn(&mut self, id: WorkerId, reason: String) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.stage = Stage::Gone;
        }
        self.note(Event::SpawnFailed { worker: id, reason });
    }

    /// The embedding program ends, and cannot wait.
    fn abandon(&mut self) {
        let alive: Vec<_> = self.workers.iter().filter(|(_, worker)| worker.process().is_some()).map(|(id, _)| id).collect();
        for worker in alive {
            self.signal(worker, Signal::Terminate);
        }
        self.exit_code = Some(1);
    }

    fn disconnect(&mut self, id: WorkerId, reason: DisconnectReason, timeout_ms: u64) {
        let Some(connection) = self.workers.get(id).and_then(|worker| worker.connection) else { return };
        let sent = self.connection(connection).and_then(|connection| connection.send(&FromMaster::Disconnect(Disconnect { reason, timeout_ms })));
        if let Err(end) = sent {
            self.end(connection, &end);
        }
    }

    fn signal(&mut self, id: WorkerId, signal: Signal) {
        let Some(worker) = self.workers.get(id) else { return };
        match &worker.stage {
            Stage::Hook => {
                self.hooks.cancel(id);
                self.give_up_spawn(id, "cancelled while before_fork ran".into());
                self.start_hooks();
            }
            Stage::Alive(process) => match signal {
                Signal::Kill => process.signal_group(Number::SIGKILL),
                // The peer is the program itself, behind whatever wrappers lead the group; they end when it does.
                Signal::Terminate => {
                    let peer = worker.connection.and_then(|connection| self.connections.get(&connection)).map(|connection| &connection.peer);
                    if !peer.is_some_and(|peer| peer.terminate()) {
                        process.signal_group(Number::SIGTERM);
                    }
                }
            },
            // What it was told to do it does when it has come, or it never does.
            Stage::Awaited | Stage::Gone => {}
        }
    }
}

/// The size that the configuration asks for, as things are now.
pub(super) fn evaluate(num_workers: NumWorkers) -> u32 {
    match num_workers {
        NumWorkers::Fixed(size) => size,
        NumWorkers::Auto => std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
    }
}

/// [`Chain`] as a reason.
pub(super) fn in_full(error: impl std::error::Error + 'static) -> String {
    Chain(&error).to_string()
}
