//! What comes in over connections: who it is, what a worker says, and how a connection ends.

use std::os::fd::OwnedFd;

use dutch_master_protocol::env;
use dutch_master_protocol::limits::{HELLO_TIMEOUT_MS, JSON_MAX};
use dutch_master_protocol::message::{ErrorMessage, FromMaster, FromWorker, Hello, MAX_REQUESTS_REASON, Role as Speaker, VERSION, Welcome, codes, features};
use tracing::debug;

use super::clock;
use super::connection::{Connection, ConnectionId, End, Role};
use super::event_loop::EventLoop;
use super::listeners::Answer;
use super::report::about;
use crate::core::{Event, Recycle, Said, Time, WorkerId, spread};
use crate::options::{Options, ReadyOn, millis};

/// Most connections that have not said hello: a bound to what strangers on this machine can make us hold.
const STRANGERS_MAX: usize = 64;

/// Longest name of an SDK that is kept: it is only shown, and a status of a thousand workers has to be sent.
const SDK_CHARS_MAX: usize = 64;

/// How often a heartbeat is asked for within the time after which a silent worker counts as blocked (SPEC 6.8).
const HEARTBEATS_PER_LIMIT: u64 = 3;

/// Most connections of control clients.
const CLIENTS_MAX: usize = 64;

impl EventLoop {
    /// A connection came in.
    pub(super) fn accepted(&mut self, socket: OwnedFd) {
        let connection = match Connection::new(socket, clock::now().after(HELLO_TIMEOUT_MS)) {
            Ok(connection) => connection,
            Err(error) => return debug!(reason = %error, "Connection dropped"),
        };
        let is_allowed = connection.peer.is_allowed();
        // The oldest makes room: whoever has something to say says it at once, and must not be kept out by those who say nothing.
        if is_allowed {
            self.make_room_for_a_stranger();
        }
        self.last_connection += 1;
        self.connections.insert(self.last_connection, connection);
        if !is_allowed {
            self.end(self.last_connection, &refused(codes::FORBIDDEN, "this user may not speak to this master"));
        }
    }

    fn make_room_for_a_stranger(&mut self) {
        let strangers = self.connections_that(|connection| connection.hello_by().is_some());
        let Some(oldest) = strangers.first().copied().filter(|_| strangers.len() >= STRANGERS_MAX) else { return };
        // A large pool's workers come faster than they are heard: this one may have said hello already.
        self.hear(oldest, 1);
        if self.connections.get(&oldest).is_some_and(|connection| connection.hello_by().is_some()) {
            self.end(oldest, &refused(codes::LIMIT, format!("{STRANGERS_MAX} connections have not said hello")));
        }
    }

    /// Reads a connection `reads` times at most and handles what came.
    pub(super) fn hear(&mut self, id: ConnectionId, reads: usize) {
        for _ in 0..reads {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let outcome = match connection.read() {
                Ok(false) => return,
                Ok(true) => self.handle_messages(id),
                Err(end) => Err(end),
            };
            if let Err(end) = outcome {
                return self.end(id, &end);
            }
        }
    }

    fn handle_messages(&mut self, id: ConnectionId) -> Result<(), End> {
        let now = clock::now();
        while let Some(connection) = self.connections.get_mut(&id) {
            match connection.role {
                Role::Unknown { .. } => match connection.next(now)? {
                    Some(FromWorker::Hello(hello)) => self.greet(id, hello)?,
                    Some(_) => return Err(unexpected("the first message is `hello`")),
                    None => return Ok(()),
                },
                Role::Worker(worker) => match connection.next(now)? {
                    Some(message) => self.worker_says(id, worker, message)?,
                    None => return Ok(()),
                },
                Role::Control => match connection.next(now)? {
                    Some(message) => self.client_asks(id, message)?,
                    None => return Ok(()),
                },
            }
        }
        Ok(())
    }

    fn greet(&mut self, id: ConnectionId, hello: Hello) -> Result<(), End> {
        if hello.protocol < VERSION {
            return Err(refused(codes::BAD_VERSION, format!("this master speaks version {VERSION}")));
        }
        match hello.role {
            Speaker::Control => self.greet_client(id),
            Speaker::Worker if hello.resume.is_some() => Err(refused(codes::RESUME_REFUSED, "this master takes no worker back")),
            Speaker::Worker => self.greet_worker(id, hello),
        }
    }

    fn greet_client(&mut self, id: ConnectionId) -> Result<(), End> {
        let clients = self.connections_that(|connection| connection.role == Role::Control);
        if clients.len() >= CLIENTS_MAX {
            let full = || refused(codes::LIMIT, format!("{CLIENTS_MAX} control clients are connected"));
            // One that waits for nothing makes room.
            let idle = clients.into_iter().find(|client| self.clients.is_idle(*client)).ok_or_else(full)?;
            self.end(idle, &full());
        }
        let offered = [features::RELOAD].into_iter().filter(|_| self.can_reload()).chain([features::SUBSCRIBE, features::METRICS]).map(String::from).collect();
        let welcome = Welcome { generation: self.pool.generation(), features: offered, ..self.welcome(&self.options.clone()) };
        let connection = self.connection(id)?;
        connection.role = Role::Control;
        connection.send(&FromMaster::Welcome(welcome))
    }

    fn greet_worker(&mut self, id: ConnectionId, hello: Hello) -> Result<(), End> {
        let Some(worker) = hello.token.as_ref().and_then(|token| self.workers.by_token(token)) else {
            return Err(refused(codes::BAD_TOKEN, format!("{} is that of no living worker", env::TOKEN)));
        };
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
        let in_use = [heartbeat.map(|_| features::HEARTBEAT), max_requests.map(|_| features::MAX_REQUESTS)];
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
        Ok(())
    }

    fn welcome(&self, options: &Options) -> Welcome {
        Welcome {
            protocol: VERSION,
            size: self.pool.size(),
            names: self.listeners.names().to_vec(),
            orphan_timeout_ms: options.orphan_timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            ..Welcome::default()
        }
    }

    fn worker_says(&mut self, id: ConnectionId, worker: WorkerId, message: FromWorker) -> Result<(), End> {
        let said = match message {
            FromWorker::Listening(_) => Said::Listening,
            FromWorker::RequestRestart(request) => {
                about!(debug, self, worker, reason = request.reason, "Worker asks to be replaced");
                if request.reason.as_deref() == Some(MAX_REQUESTS_REASON) {
                    self.note(Event::RecycleDue { worker, why: Recycle::Requests });
                    return Ok(());
                }
                Said::RequestRestart
            }
            FromWorker::Leaving(leaving) => {
                about!(debug, self, worker, reason = leaving.reason, "Worker says that it leaves");
                Said::Leaving
            }
            FromWorker::Disconnect(_) => Said::Disconnect,
            FromWorker::Listen(request) if !self.may_listen(worker) => {
                let error = ErrorMessage {
                    seq: Some(request.seq),
                    code: codes::UNEXPECTED.into(),
                    message: "this worker is to go: it gets no listener any more".into(),
                };
                return self.connection(id)?.send(&FromMaster::Error(error));
            }
            FromWorker::Listen(request) => {
                let answer = self.listeners.answer(worker, &request);
                let connection = self.connection(id)?;
                return match answer {
                    Answer::HandedOver(listener, descriptor) => connection.send_with(&FromMaster::Listener(listener), descriptor),
                    Answer::Refused(error) => {
                        let omitted = connection.line(clock::now());
                        let sent = connection.send(&FromMaster::Error(error.clone()));
                        if let Some(omitted) = omitted {
                            about!(warn, self, worker, code = error.code, reason = error.message, omitted = omitted.told(), "Listener refused");
                        }
                        sent
                    }
                };
            }
            FromWorker::Close(close) => {
                self.listeners.closed(worker, &close.key);
                return Ok(());
            }
            FromWorker::Message(message) if message.json.len() > JSON_MAX => {
                return Err(refused(codes::TOO_LARGE, format!("a message of {} bytes; the limit is {JSON_MAX}", message.json.len())));
            }
            FromWorker::Message(message) => {
                if let Some(omitted) = self.connection(id)?.line(clock::now()) {
                    about!(debug, self, worker, json = message.json, omitted = omitted.told(), "Message from worker");
                }
                return Ok(());
            }
            FromWorker::Error(error) => {
                if let Some(omitted) = self.connection(id)?.line(clock::now()) {
                    about!(debug, self, worker, code = error.code, reason = error.message, omitted = omitted.told(), "Worker reports an error");
                }
                return Ok(());
            }
            FromWorker::Heartbeat(_) => Said::Heartbeat,
            FromWorker::Unknown => return Ok(()),
            FromWorker::Hello(_) => return Err(unexpected("`hello` is the first message, and comes once")),
            FromWorker::Listener(_) => return Err(unexpected("no listener was asked for")),
        };
        self.note(Event::WorkerSaid { worker, said });
        if said == Said::Listening {
            self.check_sockets();
            self.listeners.worker_serves();
            if self.workers.get(worker).is_some_and(|process| process.is_unfit) {
                self.note(Event::WorkerSaid { worker, said: Said::RequestRestart });
            }
        }
        Ok(())
    }

    /// Whether it may still ask for listeners: it is not going, nor has it just said that it goes.
    fn may_listen(&self, worker: WorkerId) -> bool {
        let goes = |fact: &Event| matches!(fact, Event::WorkerSaid { worker: its, said: Said::Leaving | Said::Disconnect } if *its == worker);
        self.pool.worker(worker).is_some_and(|worker| worker.is_live()) && !self.facts.iter().any(goes)
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self, id: ConnectionId) {
        if let Some(Err(end)) = self.connections.get_mut(&id).map(Connection::flush) {
            self.end(id, &end);
        }
    }

    /// Ends a connection: says why where the peer can still hear it, and tells the core.
    pub(super) fn end(&mut self, id: ConnectionId, end: &End) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (worker, uid) = (connection.worker(), connection.peer.uid().as_raw());
        match end {
            End::Closed | End::Cut => about!(debug, self, worker, reason = %end, "Connection ended"),
            End::Failed(_) => about!(warn, self, worker, uid, reason = %end, "Connection ended"),
            End::Malformed(_) | End::Descriptors | End::Flood | End::Unread(_) | End::Refused { .. } => {
                self.counts.connection_refused();
                about!(warn, self, worker, uid, reason = %end, "Connection refused");
                if let Some(process) = worker.and_then(|worker| self.workers.get_mut(worker)) {
                    process.is_cut = true;
                }
            }
        }
        if let (Some(code), Some(connection)) = (end.code(), self.connections.get_mut(&id)) {
            let error = ErrorMessage { seq: None, code: code.into(), message: end.to_string() };
            // One that does not read does not read this either.
            let _ = connection.send(&FromMaster::Error(error));
            connection.flush_at_once();
        }
        self.forget_connection(id);
    }

    /// Closes a connection and tells the core, if it was a worker's.
    pub(super) fn forget_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.check_sockets();
        self.clients.gone(id);
        if let Some(worker) = connection.worker() {
            if let Some(process) = self.workers.get_mut(worker) {
                process.connection = None;
            }
            self.note(Event::ConnectionEnded { worker });
        }
    }

    /// Ends the connections that have not said hello in time.
    pub(super) fn hang_up_on_the_silent(&mut self, now: Time) {
        for id in self.connections_that(|connection| connection.hello_by().is_some_and(|at| at <= now)) {
            self.end(id, &refused(codes::LIMIT, format!("no `hello` within {} s", HELLO_TIMEOUT_MS / 1_000)));
        }
    }

    /// Ids of the connections of which this is true, the oldest first.
    pub(super) fn connections_that(&self, condition: impl Fn(&Connection) -> bool) -> Vec<ConnectionId> {
        self.connections.iter().filter(|(_, connection)| condition(connection)).map(|(id, _)| *id).collect()
    }

    pub(super) fn connection(&mut self, id: ConnectionId) -> Result<&mut Connection, End> {
        self.connections.get_mut(&id).ok_or(End::Closed)
    }
}

/// What a worker says of itself, as far as it is shown to people.
fn label(sdk: &str) -> String {
    sdk.chars().take(SDK_CHARS_MAX).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

pub(super) fn refused(code: &'static str, message: impl Into<String>) -> End {
    End::Refused { code, message: message.into() }
}

fn unexpected(message: &str) -> End {
    refused(codes::UNEXPECTED, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::listeners::LISTENERS_MAX;
    use crate::os::{connection, outbox};

    #[test]
    fn the_specification_tells_our_limits_as_they_are() {
        let specification = include_str!("../../../protocol/SPEC.md").replace(',', "");
        let told = [
            format!("| messages on one connection | {} at once and {} a second |", connection::MESSAGES_BURST, 1_000 / connection::MESSAGE_INTERVAL_MS),
            format!("| bytes that wait for a peer that does not read | {} |", outbox::BYTES_MAX),
            format!("| connections without `hello` | {STRANGERS_MAX};"),
            format!("| control clients | {CLIENTS_MAX};"),
            format!("| listeners | {LISTENERS_MAX} |"),
        ];
        for limit in told {
            assert!(specification.contains(&limit), "SPEC.md 9 does not say: {limit}");
        }
    }
}
