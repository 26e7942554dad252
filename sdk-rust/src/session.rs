//! One worker's side of the protocol as a pure state machine: bytes, descriptors and the time go in, outputs come out. It reads no socket and no clock and calls nobody back.
//!
//! ```text
//!            welcome            end of the connection
//! Greeting ----------> Open --------------------------> Ended
//! ```
//!
//! An order to go is apart from that: it comes from the master (`disconnect`), from the program (`leave`), or from the orphan timeout after an end without an order. It is never taken back.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use dutch_master_protocol::codec::{self, FrameDecoder, Malformed};
use dutch_master_protocol::limits::FDS_MAX;
use dutch_master_protocol::message::{self, Close, Disconnect, ErrorMessage, FromMaster, FromWorker, Leaving, Listen, VERSION, Welcome, codes};

use crate::limits::{LEAVING_TIMEOUT, LISTEN_TIMEOUT, LISTENS_MAX, ORPHAN_TIMEOUT};
use crate::listener::Listener;
use crate::order::{Order, Reason};
use crate::request::ListenRequest;
use crate::worker::ListenError;

/// What has to be done, in this order.
#[derive(Debug)]
pub(crate) enum Output {
    /// Say this to the master.
    Say(FromWorker),
    /// The master took the worker.
    Welcome(Welcome),
    /// A `listen` has its answer.
    Listen(u64, Result<Listener, ListenError>),
    /// There is an order to go, or its deadline moved.
    Order(Order),
    /// The master complains; usually the end of the connection follows.
    Error(ErrorMessage),
    /// The connection ended, after an order or not.
    Ended { ordered: bool },
}

/// How the master broke the protocol. It ends the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Bytes that are no message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A message that is not allowed now.
    #[error("`{0}` is not allowed now")]
    Unexpected(&'static str),
    /// Descriptors where none belong, or a wrong number of them.
    #[error("{0}")]
    Descriptors(&'static str),
    /// A version that this SDK does not speak.
    #[error("protocol version {0}; this SDK speaks {VERSION}")]
    Version(u32),
}

impl Violation {
    /// The code of the `error` message that answers it.
    pub fn code(&self) -> &'static str {
        match self {
            Violation::Malformed(malformed) => malformed.code(),
            Violation::Unexpected(_) => codes::UNEXPECTED,
            Violation::Descriptors(_) => codes::BAD_DESCRIPTORS,
            Violation::Version(_) => codes::BAD_VERSION,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting,
    Open,
    Ended,
}

#[derive(Debug)]
pub(crate) struct Session {
    phase: Phase,
    decoder: FrameDecoder,
    /// Descriptors in order of arrival.
    fds: VecDeque<OwnedFd>,
    /// A `listener` whose zero byte has not arrived.
    handed_over: Option<message::Listener>,
    /// Requests without an answer, and until when they wait for one.
    listens: BTreeMap<u64, Instant>,
    next_seq: u64,
    next_index: u32,
    orphan_timeout: Option<Duration>,
    orphan_at: Option<Instant>,
    order: Option<Order>,
    outputs: VecDeque<Output>,
}

impl Session {
    pub(crate) fn new() -> Session {
        Session {
            phase: Phase::Greeting,
            decoder: FrameDecoder::default(),
            fds: VecDeque::new(),
            handed_over: None,
            listens: BTreeMap::new(),
            next_seq: 1,
            next_index: 0,
            orphan_timeout: None,
            orphan_at: None,
            order: None,
            outputs: VecDeque::new(),
        }
    }

    pub(crate) fn order(&self) -> Option<Order> {
        self.order
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn poll_deadline(&self) -> Option<Instant> {
        self.listens.values().copied().chain(self.orphan_at).min()
    }

    /// What one read brought.
    pub(crate) fn received(&mut self, now: Instant, bytes: &[u8], fds: Vec<OwnedFd>, truncated: bool) -> Result<(), Violation> {
        self.fds.extend(fds);
        if truncated || self.fds.len() > FDS_MAX {
            return Err(Violation::Descriptors("more descriptors at once than are allowed"));
        }
        self.decoder.push(bytes);
        loop {
            if self.has_ended() {
                return Ok(()); // The master's last words; nothing behind them counts.
            }
            if self.handed_over.is_some() {
                let Some(byte) = self.decoder.next_byte() else { break };
                self.descriptor(byte)?;
            } else {
                let Some(frame) = self.decoder.next_frame()? else { break };
                let message = codec::decode(frame)?;
                self.message(now, message)?;
            }
        }
        // Which byte a descriptor arrives with differs between systems, but none comes later than its own zero byte.
        if self.decoder.is_empty() && !self.fds.is_empty() {
            return Err(Violation::Descriptors("a descriptor that no message announced"));
        }
        Ok(())
    }

    /// The connection ended, by the master, by a failure, or because of a [`Violation`].
    pub(crate) fn ended(&mut self, now: Instant) {
        if self.has_ended() {
            return;
        }
        self.phase = Phase::Ended;
        self.fds.clear();
        self.handed_over = None;
        for seq in std::mem::take(&mut self.listens).into_keys() {
            self.outputs.push_back(Output::Listen(seq, Err(ListenError::Disconnected)));
        }
        self.outputs.push_back(Output::Ended { ordered: self.order.is_some() });
        if self.order.is_none() {
            self.orphan_at = self.orphan_timeout.and_then(|timeout| now.checked_add(timeout));
        }
    }

    /// Ends what has waited too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        let late: Vec<u64> = self.listens.iter().filter(|(_, until)| **until <= now).map(|(seq, _)| *seq).collect();
        for seq in late {
            self.listens.remove(&seq);
            self.outputs.push_back(Output::Listen(seq, Err(ListenError::Timeout)));
        }
        if self.orphan_at.is_some_and(|at| at <= now) {
            self.order_to_go(Reason::Orphaned, now, ORPHAN_TIMEOUT);
        }
    }

    /// Numbers a request; its answer comes as [`Output::Listen`]. After the end of the connection there is nobody to ask.
    pub(crate) fn listen(&mut self, now: Instant, request: ListenRequest) -> Result<Listen, ListenError> {
        if self.has_ended() {
            return Err(ListenError::Disconnected);
        }
        if self.listens.len() >= LISTENS_MAX {
            return Err(ListenError::TooMany);
        }
        let counted = request.wants_index();
        let mut message = request.into_message()?;
        if counted {
            message.index = Some(self.next_index);
            self.next_index += 1;
        }
        message.seq = self.next_seq;
        self.next_seq += 1;
        self.listens.insert(message.seq, now + LISTEN_TIMEOUT);
        Ok(message)
    }

    /// The program ends its service by itself.
    pub(crate) fn leave(&mut self, now: Instant, reason: Option<String>) {
        if self.order.is_none() {
            self.outputs.push_back(Output::Say(FromWorker::Leaving(Leaving { reason })));
            self.order_to_go(Reason::Leaving, now, LEAVING_TIMEOUT);
        }
    }

    fn message(&mut self, now: Instant, message: FromMaster) -> Result<(), Violation> {
        match (self.phase, message) {
            (_, FromMaster::Unknown) => {}
            (_, FromMaster::Error(error)) => self.failed(now, error),
            (Phase::Greeting, FromMaster::Welcome(welcome)) if welcome.protocol != VERSION => return Err(Violation::Version(welcome.protocol)),
            (Phase::Greeting, FromMaster::Welcome(welcome)) => {
                self.phase = Phase::Open;
                self.orphan_timeout = welcome.orphan_timeout_ms.map(Duration::from_millis);
                self.outputs.push_back(Output::Welcome(welcome));
            }
            (Phase::Open, FromMaster::Listener(listener)) if listener.fds != 1 => {
                return Err(Violation::Descriptors("`listener` hands over exactly one descriptor"));
            }
            (Phase::Open, FromMaster::Listener(listener)) => self.handed_over = Some(listener),
            (Phase::Open, FromMaster::Disconnect(Disconnect { reason, timeout_ms })) => self.order_to_go(reason.into(), now, Duration::from_millis(timeout_ms)),
            (Phase::Open, FromMaster::ReturnListener(asked)) => {
                let message = "this worker gives no listener back".to_owned();
                self.outputs.push_back(Output::Say(FromWorker::Error(ErrorMessage { seq: Some(asked.seq), code: codes::UNSUPPORTED.into(), message })));
            }
            (_, FromMaster::Welcome(_)) => return Err(Violation::Unexpected("welcome")),
            (_, FromMaster::Listener(_)) => return Err(Violation::Unexpected("listener")),
            (_, FromMaster::Disconnect(_)) => return Err(Violation::Unexpected("disconnect")),
            (_, FromMaster::ReturnListener(_)) => return Err(Violation::Unexpected("return-listener")),
        }
        Ok(())
    }

    fn failed(&mut self, now: Instant, error: ErrorMessage) {
        match error.seq {
            None => {
                self.outputs.push_back(Output::Error(error));
                self.ended(now); // Whether the close follows at once or not.
            }
            Some(seq) if self.listens.remove(&seq).is_some() => {
                self.outputs.push_back(Output::Listen(seq, Err(ListenError::Refused { code: error.code, message: error.message })));
            }
            Some(_) => {} // It answers a request that is no longer waited for.
        }
    }

    /// The zero byte of a descriptor arrived.
    fn descriptor(&mut self, byte: u8) -> Result<(), Violation> {
        let Some(listener) = self.handed_over.take() else { return Ok(()) };
        if byte != 0 {
            return Err(Violation::Descriptors("a descriptor's byte that is not zero"));
        }
        let Some(fd) = self.fds.pop_front() else { return Err(Violation::Descriptors("a message announced a descriptor, and none came")) };
        if self.listens.remove(&listener.seq).is_some() {
            self.outputs.push_back(Output::Listen(listener.seq, Ok(Listener::new(listener, fd))));
        } else {
            // Too late: nobody waits for it, and the master must not think that this worker holds it.
            self.outputs.push_back(Output::Say(FromWorker::Close(Close { key: listener.key })));
        }
        Ok(())
    }

    fn order_to_go(&mut self, reason: Reason, now: Instant, timeout: Duration) {
        self.orphan_at = None;
        // An order without end is as good as one that ends in a year, and Instant cannot hold every sum.
        let deadline = now + timeout.min(Duration::from_secs(365 * 86_400));
        match &mut self.order {
            Some(order) if order.deadline <= deadline => {}
            Some(order) => {
                order.deadline = deadline;
                self.outputs.push_back(Output::Order(*order));
            }
            none => {
                let order = Order { reason, deadline };
                *none = Some(order);
                self.outputs.push_back(Output::Order(order));
            }
        }
    }
}

#[cfg(test)]
mod tests;
