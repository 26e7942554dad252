//! Who says `hello`: a control client, a worker for the first time, or one that comes back.

use dutch_master_protocol::env;
use dutch_master_protocol::message::{ErrorMessage, FromMaster, Hello, Resume, ResumeState, Role as Speaker, VERSION, Welcome, codes, features};
use tracing::debug;

use super::connection::{ConnectionId, End, Role};
use super::event_loop::{EventLoop, SWEEP_READS_MAX};
use super::failpoint::{self, Place};
use super::hearing::refused;
use super::report::about;
use super::workers::Stage;
use crate::core::{Event, Said, State, WorkerId, spread};
use crate::options::{Options, ReadyOn, millis};

/// Longest name of an SDK that is kept: it is only shown, and a status of a thousand workers has to be sent.
const SDK_CHARS_MAX: usize = 64;

/// How often a heartbeat is asked for within the time after which a silent worker counts as blocked (SPEC 6.8).
const HEARTBEATS_PER_LIMIT: u64 = 3;

/// Most connections of control clients.
pub(super) const CLIENTS_MAX: usize = 64;

impl EventLoop {
    pub(super) fn greet(&mut self, id: ConnectionId, hello: Hello) -> Result<(), End> {
        if hello.protocol < VERSION {
            return Err(refused(codes::BAD_VERSION, format!("this master speaks version {VERSION}")));
        }
        match hello.role {
            Speaker::Control => self.greet_client(id),
            Speaker::Worker => self.greet_worker(id, hello),
        }
    }

    fn greet_client(&mut self, id: ConnectionId) -> Result<(), End> {
        if !self.connection(id)?.peer.may_command() {
            return Err(refused(codes::FORBIDDEN, "only root and the master's own user may give it orders"));
        }
        let clients = self.connections_that(|connection| connection.role == Role::Control);
        if clients.len() >= CLIENTS_MAX {
            let full = || refused(codes::LIMIT, format!("{CLIENTS_MAX} control clients are connected"));
            // One that waits for nothing makes room, else one that only looks on: forgotten subscribers must not keep out who wants to stop the pool.
            let of_no_use = clients.into_iter().filter(|client| !self.clients.is_waiting(*client)).min_by_key(|client| self.clients.is_subscriber(*client));
            self.end(of_no_use.ok_or_else(full)?, &full());
        }
        let offered = [features::RELOAD]
            .into_iter()
            .filter(|_| self.can_reload())
            .chain([features::SUBSCRIBE, features::METRICS])
            .chain([features::UPGRADE].into_iter().filter(|_| self.upgrades.invocation.is_some()))
            .map(String::from)
            .collect();
        let welcome = Welcome { generation: self.pool.generation(), features: offered, ..self.welcome(&self.options.clone()) };
        let connection = self.connection(id)?;
        connection.role = Role::Control;
        connection.send(&FromMaster::Welcome(welcome))
    }

    fn greet_worker(&mut self, id: ConnectionId, hello: Hello) -> Result<(), End> {
        let Some(worker) = hello.token.as_ref().and_then(|token| self.workers.by_token(token)) else {
            return Err(refused(codes::BAD_TOKEN, format!("{} is that of no living worker", env::TOKEN)));
        };
        if self.workers.get(worker).is_some_and(|process| matches!(process.stage, Stage::Awaited)) && self.adopt_peer(id, worker).is_none() {
            return Err(refused(codes::BAD_TOKEN, "it cannot be told which worker this is"));
        }
        self.supersede(worker, hello.resume.as_ref());
        let generation = self.workers.get(worker).map_or(0, |process| process.generation);
        let options = self.options_of(generation).clone();
        let size = self.pool.size();
        let offers = |feature: &str| hello.features.iter().any(|offered| offered == feature);
        let heartbeat = options.heartbeat.filter(|_| offers(features::HEARTBEAT));
        let max_requests = options.max_requests.filter(|_| offers(features::MAX_REQUESTS));
        let welcome = self.welcome(&options);
        let (Some(process), Some(connection)) = (self.workers.get_mut(worker), self.connections.get_mut(&id)) else { return Ok(()) };
        if process.connection.is_some() {
            return Err(refused(codes::LIMIT, "this worker is connected already"));
        }
        if process.is_cut {
            return Err(refused(codes::RESUME_REFUSED, "this worker was cut for what it sent before"));
        }
        process.connection = Some(id);
        process.sdk = hello.sdk.as_deref().map(label);
        connection.role = Role::Worker(worker);
        if let Some(pid) = process.pid {
            connection.peer.identify(pid);
        }
        debug!(workerId = worker, workerPid = process.pid, generation, sdk = process.sdk, "Worker connected");
        connection.returns.is_offered = offers(features::RESUME);
        let resume = connection.returns.is_offered.then_some(features::RESUME);
        let in_use = [resume, heartbeat.map(|_| features::HEARTBEAT), max_requests.map(|_| features::MAX_REQUESTS)];
        connection.send(&FromMaster::Welcome(Welcome {
            worker,
            generation,
            slot: process.slot,
            // Three beats in the time that the pool waits for one: a late one is no harm.
            heartbeat_ms: heartbeat.map(|limit| (millis(limit) / HEARTBEATS_PER_LIMIT).max(1)),
            max_requests: max_requests.map(|limit| spread(limit, process.slot, size)),
            features: in_use.into_iter().flatten().map(String::from).collect(),
            ..welcome
        }))?;
        self.check_sockets();
        self.note(Event::WorkerConnected { worker });
        if options.ready_on == ReadyOn::Hello {
            self.note(Event::WorkerSaid { worker, said: Said::Listening });
        }
        if let Some(resume) = hello.resume {
            self.resumed(worker, &resume);
        }
        self.ask_for_missing();
        Ok(())
    }

    /// A worker that comes back takes the place of its older connection, of whose end the master may not have heard.
    fn supersede(&mut self, worker: WorkerId, resume: Option<&Resume>) {
        let old = |event_loop: &EventLoop| event_loop.workers.get(worker)?.connection.filter(|_| resume.is_some());
        if let Some(connection) = old(self) {
            self.hear(connection, SWEEP_READS_MAX);
        }
        if let Some(id) = old(self)
            && let Some(connection) = self.connections.get_mut(&id)
        {
            let error = ErrorMessage { seq: None, code: codes::SUPERSEDED.into(), message: "another connection of this worker took over".into() };
            // It may be broken.
            let _ = connection.send(&FromMaster::Error(error));
            connection.flush_at_once();
            self.forget_connection(id);
        }
    }

    /// What a worker that came back says of itself can be newer than what is known of it.
    fn resumed(&mut self, worker: WorkerId, resume: &Resume) {
        self.listeners.holds(worker, &resume.keys);
        let state = self.pool.worker(worker).map(|worker| worker.state);
        let said = match (resume.state, state) {
            (ResumeState::Running, Some(State::Starting { .. })) => Some(Said::Listening),
            (ResumeState::Draining, Some(State::Starting { .. } | State::Running { .. } | State::Lost)) => Some(Said::Leaving),
            (ResumeState::Starting | ResumeState::Running | ResumeState::Draining, _) => None,
        };
        failpoint::reached(Place::WorkerBack);
        about!(info, self, worker, "Worker came back");
        said.into_iter().for_each(|said| self.note(Event::WorkerSaid { worker, said }));
    }

    fn welcome(&self, options: &Options) -> Welcome {
        Welcome {
            protocol: VERSION,
            size: self.pool.size(),
            names: self.listeners.names().to_vec(),
            orphan_timeout_ms: options.orphan_timeout.map(millis),
            ..Welcome::default()
        }
    }
}

/// What a worker says of itself, as far as it is shown to people.
fn label(sdk: &str) -> String {
    sdk.chars().take(SDK_CHARS_MAX).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
