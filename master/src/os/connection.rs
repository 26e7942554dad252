//! One connection to the control socket, whoever is at the other end: bytes in, messages out, and back.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use dutch_master_protocol::codec::{self, FrameDecoder, Malformed};
use dutch_master_protocol::message::codes;
use dutch_master_protocol::socket::{self, Received};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptors::{Inherited, Kept};
use super::in_json;
use super::outbox::{self, Outbox, Refused};
use super::peer::Peer;
use super::readiness::{clear_if_empty, register};
use super::returns::{self, Returned, Returns};
use super::token_bucket::TokenBucket;
use crate::core::{Time, WorkerId};

/// Bytes of one read, and with it the most that one peer gets done in a turn of the loop before the others have theirs.
pub(super) const TURN_MAX: usize = 16 * 1024;

/// Most messages that a peer may send at once: an application that reports every request it serves has such bursts, and they take the master some milliseconds.
pub(super) const MESSAGES_BURST: u64 = 10_000;

/// One more message for each of these intervals, in milliseconds: a thousand in a second for ever cost the master less than a hundredth of a processor.
pub(super) const MESSAGE_INTERVAL_MS: u64 = 1;

/// Most lines that what one peer says makes in the log at once, and the interval in milliseconds for each further one: chatter must not push out of the log what matters.
const LINES_BURST: u64 = 200;
const LINE_INTERVAL_MS: u64 = 50;

/// Identifies a connection for as long as the master runs.
pub(super) type ConnectionId = u64;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: AsyncFd<OwnedFd>,
    decoder: FrameDecoder,
    outbox: Outbox,
    messages: TokenBucket,
    lines: TokenBucket,
    /// Lines that were left out since the last one.
    omitted: u64,
    /// Listeners that the worker was asked for.
    pub(super) returns: Returns,
    pub(super) peer: Peer,
    pub(super) role: Role,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// It has not said `hello`.
    Unknown {
        /// It has until then.
        hello_by: Time,
    },
    /// A worker.
    Worker(WorkerId),
    /// A control client.
    Control,
}

/// A connection as it is handed over. Who is at the other end the kernel tells again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    socket: RawFd,
    /// Of a message that has not come whole.
    #[serde(with = "in_json::bytes")]
    received: Vec<u8>,
    outbox: outbox::Handed,
    messages_full_at: Time,
    lines_full_at: Time,
    omitted: u64,
    returns: returns::Handed,
    pub(super) role: Role,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer closed it within a frame.
    #[error("the peer closed the connection within a frame")]
    Cut,
    /// It failed.
    #[error("the connection failed: {0}")]
    Failed(#[from] io::Error),
    /// What came is no message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Descriptors came, where none belong.
    #[error("descriptors came where none belong")]
    Descriptors,
    /// Too many messages came in too short a time.
    #[error("too many messages: more than {MESSAGES_BURST} at once and {} a second", 1_000 / MESSAGE_INTERVAL_MS)]
    Flood,
    /// The peer does not read.
    #[error(transparent)]
    Unread(#[from] Refused),
    /// What came is not allowed now.
    #[error("{message}")]
    Refused {
        /// Code of the `error` message.
        code: &'static str,
        /// Text of the `error` message.
        message: String,
    },
}

/// How many lines were left out of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Omitted(u64);

impl Omitted {
    /// For the log, where there is something to tell.
    pub(super) fn told(self) -> Option<u64> {
        Some(self.0).filter(|lines| *lines > 0)
    }
}

impl End {
    /// The code of the `error` message that the peer gets as last words, where it can still hear them.
    pub(super) fn code(&self) -> Option<&'static str> {
        match self {
            End::Closed | End::Cut | End::Failed(_) => None,
            End::Unread(_) | End::Flood => Some(codes::LIMIT),
            End::Malformed(malformed) => Some(malformed.code()),
            End::Descriptors => Some(codes::BAD_DESCRIPTORS),
            End::Refused { code, .. } => Some(code),
        }
    }
}

impl Connection {
    /// A connection that was just accepted.
    pub(super) fn new(socket: OwnedFd, hello_by: Time) -> io::Result<Connection> {
        let peer = Peer::of(&socket)?;
        let socket = register(socket, Interest::READABLE | Interest::WRITABLE)?;
        let messages = TokenBucket::new(MESSAGES_BURST, MESSAGE_INTERVAL_MS);
        let lines = TokenBucket::new(LINES_BURST, LINE_INTERVAL_MS);
        let (decoder, outbox, role) = (FrameDecoder::default(), Outbox::default(), Role::Unknown { hello_by });
        Ok(Connection { socket, decoder, outbox, messages, lines, omitted: 0, returns: Returns::default(), peer, role })
    }

    pub(super) fn hand_over<'a>(&'a self, kept: &mut Kept<'a>) -> Handed {
        Handed {
            socket: kept.keep(self.socket.get_ref().as_fd()),
            received: self.decoder.rest().to_vec(),
            outbox: self.outbox.hand_over(kept),
            messages_full_at: self.messages.full_at(),
            lines_full_at: self.lines.full_at(),
            omitted: self.omitted,
            returns: self.returns.hand_over(kept),
            role: self.role,
        }
    }

    pub(super) fn handed(handed: Handed, inherited: &mut Inherited) -> io::Result<Connection> {
        let new = Connection::new(inherited.take(handed.socket)?, Time(0))?;
        let (messages, lines) = (new.messages.refilled_at(handed.messages_full_at), new.lines.refilled_at(handed.lines_full_at));
        let (outbox, returns) = (Outbox::handed(handed.outbox, inherited)?, Returns::handed(handed.returns, inherited)?);
        let mut decoder = new.decoder;
        decoder.push(&handed.received);
        Ok(Connection { socket: new.socket, decoder, outbox, messages, lines, omitted: handed.omitted, returns, peer: new.peer, role: handed.role })
    }

    /// Until when it has to say hello, if it has not.
    pub(super) fn hello_by(&self) -> Option<Time> {
        match self.role {
            Role::Unknown { hello_by } => Some(hello_by),
            Role::Worker(_) | Role::Control => None,
        }
    }

    /// Whose it is, if it is a worker's.
    pub(super) fn worker(&self) -> Option<WorkerId> {
        match self.role {
            Role::Worker(worker) => Some(worker),
            Role::Unknown { .. } | Role::Control => None,
        }
    }

    /// Whether something that this worker said can be waiting in it.
    pub(super) fn may_be_of(&self, worker: WorkerId) -> bool {
        match self.role {
            Role::Worker(its) => its == worker,
            Role::Unknown { .. } => true,
            Role::Control => false,
        }
    }

    /// Ready when something can be read.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_read_ready(cx).map(drop)
    }

    /// Ready when something waits to be sent and the socket takes it.
    pub(super) fn poll_sendable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.outbox.is_empty() { Poll::Pending } else { self.socket.poll_write_ready(cx).map(drop) }
    }

    /// Reads once, whatever the runtime believes about readiness: it may not have noticed yet what has come. `false`: nothing is there now.
    pub(super) fn read(&mut self) -> Result<bool, End> {
        let mut buffer = [0; TURN_MAX];
        let mut received = socket::receive(self.socket.as_fd(), &mut buffer);
        clear_if_empty(&self.socket, &received);
        let is_unasked = |received: &mut Received| received.excess || !self.returns.take_in(std::mem::take(&mut received.fds), received.lost);
        let is_unasked = received.as_mut().is_ok_and(is_unasked);
        match received {
            Ok(_) if is_unasked => Err(End::Descriptors),
            Ok(received) if received.bytes > 0 => {
                self.decoder.push(&buffer[..received.bytes]);
                Ok(true)
            }
            Ok(_) if self.decoder.is_empty() => Err(End::Closed),
            Ok(_) => Err(End::Cut),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            // The peer ended with something of ours unread, or between two of our messages.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(End::Closed),
            Err(error) => Err(End::Failed(error)),
        }
    }

    /// The next message of what was read by `now`.
    pub(super) fn next<M: DeserializeOwned>(&mut self, now: Time) -> Result<Option<M>, End> {
        match self.decoder.next_frame()? {
            Some(_) if !self.messages.take(now, 1) => Err(End::Flood),
            Some(body) => Ok(Some(codec::decode(body)?)),
            None => Ok(None),
        }
    }

    /// The next listener that it gives back, as far as it has come.
    pub(super) fn next_returned(&mut self) -> Result<Option<Returned>, End> {
        let Connection { decoder, returns, .. } = self;
        returns.next(|| decoder.next_byte()).map_err(|()| End::Descriptors)
    }

    /// Whether what it said just now may have a line in the log, and how many had none since the last one that had.
    pub(super) fn line(&mut self, now: Time) -> Option<Omitted> {
        if self.lines.take(now, 1) {
            return Some(Omitted(std::mem::take(&mut self.omitted)));
        }
        self.omitted = self.omitted.saturating_add(1);
        None
    }

    /// Bytes that wait for the peer to read.
    pub(super) fn unsent(&self) -> usize {
        self.outbox.bytes()
    }

    /// Queues a message in place of all that waits.
    pub(super) fn send_instead(&mut self, message: &impl Serialize) -> Result<(), End> {
        self.outbox.forget_the_rest();
        self.send(message)
    }

    /// Queues a message; it is sent when the socket takes it.
    pub(super) fn send(&mut self, message: &impl Serialize) -> Result<(), End> {
        Ok(self.outbox.push(message)?)
    }

    /// Queues a message and the one descriptor that it announces.
    pub(super) fn send_with(&mut self, message: &impl Serialize, descriptor: Arc<OwnedFd>) -> Result<(), End> {
        Ok(self.outbox.push_with(message, descriptor)?)
    }

    /// Sends as much as the socket takes now.
    pub(super) fn flush(&mut self) -> Result<(), End> {
        let Connection { socket, outbox, .. } = self;
        match socket.try_io(Interest::WRITABLE, |fd| outbox.flush(fd.as_fd())) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            // The peer hears nothing any more, but what it said before still counts: the end comes when that has been read.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                *outbox = Outbox::default();
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    /// Sends what the socket takes without waiting; for last words.
    pub(super) fn flush_at_once(&mut self) {
        let _ = self.outbox.flush(self.socket.as_fd());
    }
}
