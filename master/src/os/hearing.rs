//! What comes in over connections: who it is, what a worker says, and how a connection ends.

use std::os::fd::OwnedFd;

use dutch_master_protocol::env;
use dutch_master_protocol::limits::{HELLO_TIMEOUT_MS, JSON_MAX};
use dutch_master_protocol::message::{ErrorMessage, FromMaster, FromWorker, Hello, Role as Speaker, VERSION, Welcome, codes};
use tracing::{debug, warn};

use super::clock;
use super::connection::{Connection, ConnectionId, End, Role};
use super::event_loop::EventLoop;
use super::listeners::Answer;
use crate::core::{Event, Said, Time, WorkerId};
use crate::options::{Options, ReadyOn};

/// Most connections that have not said hello: a bound to what strangers on this machine can make us hold.
const STRANGERS_MAX: usize = 64;

/// Longest name of an SDK that is kept: it is only shown, and a status of a thousand workers has to be sent.
const SDK_CHARS_MAX: usize = 64;

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
        let strangers = self.connections_that(|connection| connection.hello_by().is_some());
        if let Some(oldest) = strangers.first().filter(|_| is_allowed && strangers.len() >= STRANGERS_MAX) {
            self.end(*oldest, &refused(codes::LIMIT, format!("{STRANGERS_MAX} connections have not said hello")));
        }
        self.last_connection += 1;
        self.connections.insert(self.last_connection, connection);
        if !is_allowed {
            self.end(self.last_connection, &refused(codes::FORBIDDEN, "this user may not speak to this master"));
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
        while let Some(connection) = self.connections.get_mut(&id) {
            match connection.role {
                Role::Unknown { .. } => match connection.next()? {
                    Some(FromWorker::Hello(hello)) => self.greet(id, hello)?,
                    Some(_) => return Err(unexpected("the first message is `hello`")),
                    None => return Ok(()),
                },
                Role::Worker(worker) => match connection.next()? {
                    Some(message) => self.worker_says(id, worker, message)?,
                    None => return Ok(()),
                },
                Role::Control => match connection.next()? {
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
        let features = ["reload"].into_iter().filter(|_| self.can_reload()).chain(["subscribe"]).map(String::from).collect();
        let welcome = Welcome { generation: self.pool.generation(), features, ..self.welcome(&self.options.clone()) };
        let connection = self.connection(id)?;
        connection.role = Role::Control;
        connection.send(&FromMaster::Welcome(welcome))
    }

    fn greet_worker(&mut self, id: ConnectionId, hello: Hello) -> Result<(), End> {
        let Some(worker) = hello.token.as_ref().and_then(|token| self.workers.by_token(token)) else {
            return Err(refused(codes::BAD_TOKEN, format!("{} is that of no living worker", env::TOKEN)));
        };
        let generation = self.workers.get(worker).map_or(0, |process| process.generation);
        let welcome = self.welcome(&self.options_of(generation).clone());
        let (Some(process), Some(connection)) = (self.workers.get_mut(worker), self.connections.get_mut(&id)) else { return Ok(()) };
        if process.connection.is_some() {
            return Err(refused(codes::LIMIT, "this worker is connected already"));
        }
        process.connection = Some(id);
        process.sdk = hello.sdk.as_deref().map(label);
        connection.role = Role::Worker(worker);
        if let Some(pid) = process.pid {
            connection.peer.identify(pid);
        }
        debug!(workerId = worker, workerPid = process.pid, sdk = process.sdk, "Worker connected");
        connection.send(&FromMaster::Welcome(Welcome { worker, generation, slot: process.slot, ..welcome }))?;
        self.note(Event::WorkerConnected { worker });
        if self.options_of(generation).ready_on == ReadyOn::Hello {
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
                debug!(workerId = worker, reason = request.reason, "Worker asks to be replaced");
                Said::RequestRestart
            }
            FromWorker::Leaving(leaving) => {
                debug!(workerId = worker, reason = leaving.reason, "Worker says that it leaves");
                Said::Leaving
            }
            FromWorker::Disconnect(_) => Said::Disconnect,
            FromWorker::Listen(request) => {
                let answer = self.listeners.answer(worker, &request);
                let connection = self.connection(id)?;
                return match answer {
                    Answer::HandedOver(listener, descriptor) => connection.send_with(&FromMaster::Listener(listener), descriptor),
                    Answer::Refused(error) => {
                        let sent = connection.send(&FromMaster::Error(error.clone()));
                        warn!(workerId = worker, code = error.code, reason = error.message, "Listener refused");
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
                debug!(workerId = worker, json = message.json, "Message from worker");
                return Ok(());
            }
            FromWorker::Error(error) => {
                debug!(workerId = worker, code = error.code, reason = error.message, "Worker reports an error");
                return Ok(());
            }
            FromWorker::Heartbeat(_) | FromWorker::Unknown => return Ok(()),
            FromWorker::Hello(_) => return Err(unexpected("`hello` is the first message, and comes once")),
            FromWorker::Listener(_) => return Err(unexpected("no listener was asked for")),
        };
        if said == Said::Listening {
            self.listeners.worker_serves();
        }
        self.note(Event::WorkerSaid { worker, said });
        Ok(())
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self, id: ConnectionId) {
        if let Some(Err(end)) = self.connections.get_mut(&id).map(Connection::flush) {
            self.end(id, &end);
        }
    }

    /// Ends a connection: says why where the peer can still hear it, and tells the core.
    pub(super) fn end(&mut self, id: ConnectionId, end: &End) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (worker, uid) = (connection.worker(), connection.peer.uid().as_raw());
        match end {
            End::Closed | End::Cut => debug!(workerId = worker, reason = %end, "Connection ended"),
            End::Failed(_) => warn!(workerId = worker, uid, reason = %end, "Connection ended"),
            End::Malformed(_) | End::Descriptors | End::Unread(_) | End::Refused { .. } => {
                warn!(workerId = worker, uid, reason = %end, "Connection refused");
            }
        }
        if let Some(code) = end.code() {
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
