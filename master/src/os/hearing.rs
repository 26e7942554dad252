//! What comes in over connections: who it is, what a worker says, and how a connection ends.

use std::os::fd::OwnedFd;

use dutch_master_protocol::limits::{HELLO_TIMEOUT_MS, JSON_MAX};
use dutch_master_protocol::message::{ErrorMessage, FromMaster, FromWorker, Listen, MAX_REQUESTS_REASON, codes};
use tracing::debug;

use super::clock;
use super::connection::{Connection, ConnectionId, End, Role};
use super::event_loop::EventLoop;
use super::line::bounded;
use super::listeners::Answer;
use super::report::about;
use crate::core::listeners::LISTENERS_MAX;
use crate::core::{Event, Recycle, Said, Time, WorkerId};

/// Most connections that have not said hello: a bound to what strangers on this machine can make us hold.
const STRANGERS_MAX: usize = 64;

impl EventLoop {
    /// A connection came in.
    pub(super) fn accepted(&mut self, socket: OwnedFd) {
        self.rest.put_off();
        let connection = match Connection::new(socket, clock::now().after(HELLO_TIMEOUT_MS)) {
            Ok(connection) => connection,
            Err(error) => return debug!(reason = %error, "Connection dropped"),
        };
        let is_allowed = connection.peer.may_speak(self.account.as_ref().map(|account| account.uid));
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
                Role::Worker(worker) if connection.returns.has_begun() => match connection.next_returned()? {
                    Some(returned) => self.returned(worker, returned),
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

    fn worker_says(&mut self, id: ConnectionId, worker: WorkerId, message: FromWorker) -> Result<(), End> {
        let said = match message {
            FromWorker::Listening(_) => Said::Listening,
            FromWorker::RequestRestart(request) => {
                about!(debug, self, worker, reason = request.reason, "Worker asks to be replaced");
                if request.reason.as_deref() == Some(MAX_REQUESTS_REASON) {
                    self.note(Event::RecycleDue { worker, why: Recycle::Requests });
                    return Ok(());
                }
                if let Some(process) = self.workers.get_mut(worker) {
                    process.asked_because = request.reason.as_deref().map(bounded);
                }
                Said::RequestRestart
            }
            FromWorker::Leaving(leaving) => {
                about!(debug, self, worker, reason = leaving.reason, "Worker says that it leaves");
                Said::Leaving
            }
            FromWorker::Disconnect(drained) => {
                self.say_cut(worker, drained.cut.unwrap_or_default());
                Said::Disconnect
            }
            FromWorker::Listen(request) => return self.answer_listen(id, worker, request),
            FromWorker::Close(close) => {
                self.listeners.closed(worker, &close.key);
                self.is_unwritten = true;
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
                if let Some(key) = error.seq.and_then(|seq| self.connection(id).ok()?.returns.refused(seq)) {
                    self.cannot_return(worker, &key);
                }
                if let Some(omitted) = self.connection(id)?.line(clock::now()) {
                    about!(debug, self, worker, code = error.code, reason = error.message, omitted = omitted.told(), "Worker reports an error");
                }
                return Ok(());
            }
            FromWorker::Heartbeat(_) => Said::Heartbeat,
            FromWorker::Unknown => return Ok(()),
            FromWorker::Hello(_) => return Err(unexpected("`hello` is the first message, and comes once")),
            FromWorker::Listener(listener) if self.connection(id)?.returns.begin(&listener) => return Ok(()),
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

    /// What a worker that asks for a listener gets.
    pub(super) fn answer_listen(&mut self, id: ConnectionId, worker: WorkerId, request: Listen) -> Result<(), End> {
        let error = |code: &str, message: String| ErrorMessage { seq: Some(request.seq), code: code.into(), message };
        if !self.may_listen(worker) {
            let error = error(codes::UNEXPECTED, "this worker is to go: it gets no listener any more".into());
            return self.connection(id)?.send(&FromMaster::Error(error));
        }
        let refusal = match self.listeners.answer(worker, &request) {
            Answer::HandedOver(listener, descriptor) => {
                self.is_unwritten = true;
                return self.connection(id)?.send_with(&FromMaster::Listener(listener), descriptor);
            }
            Answer::Later(key) if self.adoption.waiting_of(worker) < LISTENERS_MAX => {
                self.adoption.wait(id, worker, key, request);
                return Ok(());
            }
            Answer::Later(_) => error(codes::LIMIT, format!("{LISTENERS_MAX} requests wait for listeners")),
            Answer::Refused(error) => error,
        };
        let connection = self.connection(id)?;
        let omitted = connection.line(clock::now());
        let sent = connection.send(&FromMaster::Error(refusal.clone()));
        if let Some(omitted) = omitted {
            about!(warn, self, worker, code = refusal.code, reason = refusal.message, omitted = omitted.told(), "Listener refused");
        }
        sent
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

pub(super) fn refused(code: &'static str, message: impl Into<String>) -> End {
    End::Refused { code, message: message.into() }
}

fn unexpected(message: &str) -> End {
    refused(codes::UNEXPECTED, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::{connection, greeting, outbox};

    #[test]
    fn the_specification_tells_our_limits_as_they_are() {
        let specification = include_str!("../../../protocol/SPEC.md").replace(',', "");
        let told = [
            format!("| messages on one connection | {} at once and {} a second |", connection::MESSAGES_BURST, 1_000 / connection::MESSAGE_INTERVAL_MS),
            format!("| bytes that wait for a peer that does not read | {} |", outbox::BYTES_MAX),
            format!("| connections without `hello` | {STRANGERS_MAX};"),
            format!("| control clients | {};", greeting::CLIENTS_MAX),
            format!("| listeners | {LISTENERS_MAX} |"),
        ];
        for limit in told {
            assert!(specification.contains(&limit), "SPEC.md 9 does not say: {limit}");
        }
    }
}
