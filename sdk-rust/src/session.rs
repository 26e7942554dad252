//! One worker's side of the protocol as a pure state machine: bytes, descriptors and the time go in, outputs come out. It reads no socket and no clock and calls nobody back.
//!
//! ```text
//!           dial            connected            welcome
//! Away ----------> Dialling ----------> Greeting ----------> Open
//!  ^                  |                    |                  |
//!  '------------------+--------------------+------------------'
//!              the attempt failed, or the connection ended
//! ```
//!
//! From each it is a step to Alone, where nothing is tried any more: this worker does not resume, is not taken back, or its time as an orphan is over (`session/away.rs`).
//!
//! An order to go is apart from that: it comes from the master (`disconnect`), from the program (`leave`), or from the end of an orphan's time. It is never taken back.

mod away;
mod held;
#[cfg(test)]
mod tests;
mod violation;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dutch_master_protocol::codec::{self, FrameDecoder};
use dutch_master_protocol::limits::FDS_MAX;
use dutch_master_protocol::message::{
    self, Close, Disconnect, DisconnectReason, ErrorMessage, FromMaster, FromWorker, Hello, Leaving, Listen, VERSION, Welcome,
};

use crate::limits::{LEAVING_TIMEOUT, LISTEN_TIMEOUT, LISTENS_MAX};
use crate::listener::Listener;
use crate::order::{Order, Reason};
use crate::request::ListenRequest;
use crate::settings::ConnectError;
use crate::worker::ListenError;

use away::Away;
use held::Held;
pub use violation::Violation;

/// What has to be done, in this order.
#[derive(Debug)]
pub(crate) enum Output {
    /// Connect, and tell [`Session::dialled`].
    Dial,
    /// Say this to the master.
    Say(FromWorker),
    /// Say this to the master, and hand over the descriptor.
    GiveBack(message::Listener, Arc<OwnedFd>),
    /// The master took the worker, for the first time or again.
    Welcome(Welcome),
    /// No master took the worker: the end of a session that never began.
    Failed(ConnectError),
    /// A `listen` has its answer.
    Listen(u64, Result<Listener, ListenError>),
    /// There is an order to go, or its deadline moved.
    Order(Order),
    /// The master complains, and the connection ends.
    Error(ErrorMessage),
    /// The connection ended, after an order or not.
    Ended { ordered: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Without a connection, until it is time for the next attempt.
    Away {
        dial_at: Instant,
    },
    Dialling,
    /// `hello` was said.
    Greeting {
        until: Instant,
    },
    Open,
    /// Without a connection for good.
    Alone,
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
    listens: BTreeMap<u64, (Instant, Listen)>,
    next_seq: u64,
    next_index: u32,
    held: Held,
    order: Option<Order>,
    away: Away,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A session that says `hello`. The seed is for the pauses between attempts to connect.
    pub(crate) fn new(now: Instant, hello: Hello, seed: u64) -> Session {
        Session {
            phase: Phase::Away { dial_at: now },
            decoder: FrameDecoder::default(),
            fds: VecDeque::new(),
            handed_over: None,
            listens: BTreeMap::new(),
            next_seq: 1,
            next_index: 0,
            held: Held::default(),
            order: None,
            away: Away::new(now, hello, seed),
            outputs: VecDeque::new(),
        }
    }

    pub(crate) fn order(&self) -> Option<Order> {
        self.order
    }

    /// Whether there is a socket to read.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. } | Phase::Open)
    }

    /// Whether the program's messages can be said now.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn poll_deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Away { dial_at: at } | Phase::Greeting { until: at } => Some(at),
            Phase::Dialling | Phase::Open | Phase::Alone => None,
        };
        self.listens.values().map(|(until, _)| *until).chain(self.away.orphan_at()).chain(phase).min()
    }

    /// What one read brought. With an `excess` of descriptors, which of them are good cannot be told: none is handed out.
    pub(crate) fn received(&mut self, now: Instant, bytes: &[u8], fds: Vec<OwnedFd>, excess: bool) -> Result<(), Violation> {
        self.fds.extend(fds);
        if excess || self.fds.len() > FDS_MAX {
            return Err(Violation::Descriptors("more descriptors at once than are allowed"));
        }
        self.decoder.push(bytes);
        loop {
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

    /// Ends what has waited too long, and connects when it is time to.
    pub(crate) fn expire(&mut self, now: Instant) {
        let late: Vec<u64> = self.listens.iter().filter(|(_, (until, _))| *until <= now).map(|(seq, _)| *seq).collect();
        for seq in late {
            self.listens.remove(&seq);
            self.outputs.push_back(Output::Listen(seq, Err(ListenError::Timeout)));
        }
        if self.away.orphan_at().is_some_and(|at| at <= now) {
            self.orphaned(now);
        }
        match self.phase {
            Phase::Away { dial_at } if dial_at <= now => {
                self.phase = Phase::Dialling;
                self.outputs.push_back(Output::Dial);
            }
            Phase::Greeting { until } if until <= now => self.ended(now, ConnectError::Timeout),
            Phase::Away { .. } | Phase::Dialling | Phase::Greeting { .. } | Phase::Open | Phase::Alone => {}
        }
    }

    /// Numbers a request; its answer comes as [`Output::Listen`]. It can be said at once if the session [is open](Self::is_open), else it will be.
    pub(crate) fn listen(&mut self, now: Instant, request: ListenRequest) -> Result<Listen, ListenError> {
        if self.phase == Phase::Alone {
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
        self.listens.insert(message.seq, (now + LISTEN_TIMEOUT, message.clone()));
        Ok(message)
    }

    /// The program ends its service by itself. What is returned can be said at once.
    pub(crate) fn leave(&mut self, now: Instant, reason: Option<String>) -> Option<FromWorker> {
        if self.order.is_some() {
            return None;
        }
        self.order_to_go(Reason::Leaving, now, LEAVING_TIMEOUT);
        self.say(FromWorker::Leaving(Leaving { reason }))
    }

    fn message(&mut self, now: Instant, message: FromMaster) -> Result<(), Violation> {
        match (self.phase, message) {
            (_, FromMaster::Unknown) => {}
            (_, FromMaster::Error(error)) => self.failed(now, error),
            (Phase::Greeting { .. }, FromMaster::Welcome(welcome)) if welcome.protocol != VERSION => return Err(Violation::Version(welcome.protocol)),
            (Phase::Greeting { .. }, FromMaster::Welcome(welcome)) => self.welcomed(welcome)?,
            (Phase::Open, FromMaster::Listener(listener)) if listener.fds != 1 => {
                return Err(Violation::Descriptors("`listener` hands over exactly one descriptor"));
            }
            (Phase::Open, FromMaster::Listener(listener)) => self.handed_over = Some(listener),
            (Phase::Open, FromMaster::Disconnect(Disconnect { reason, timeout_ms })) => {
                if reason == DisconnectReason::Stop {
                    self.held.drop_copies(); // The master does not want them back, and they must not outlive the program's own.
                }
                self.order_to_go(reason.into(), now, Duration::from_millis(timeout_ms));
            }
            (Phase::Open, FromMaster::ReturnListener(asked)) => self.give_back(asked),
            (_, FromMaster::Welcome(_)) => return Err(Violation::Unexpected("welcome")),
            (_, FromMaster::Listener(_)) => return Err(Violation::Unexpected("listener")),
            (_, FromMaster::Disconnect(_)) => return Err(Violation::Unexpected("disconnect")),
            (_, FromMaster::ReturnListener(_)) => return Err(Violation::Unexpected("return-listener")),
        }
        Ok(())
    }

    fn failed(&mut self, now: Instant, error: ErrorMessage) {
        let ErrorMessage { seq, code, message } = error;
        match seq {
            // Last words: the end of the connection, whether the master closes it at once or not.
            None => self.ended(now, ConnectError::Refused { code, message }),
            Some(seq) if self.listens.remove(&seq).is_some() => {
                self.outputs.push_back(Output::Listen(seq, Err(ListenError::Refused { code, message })));
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
        let seq = listener.seq;
        if self.listens.remove(&seq).is_some() {
            let listener = Listener::new(listener, fd);
            if self.away.resumes() {
                self.held.keep(&listener);
            }
            self.outputs.push_back(Output::Listen(seq, Ok(listener)));
        } else {
            // Too late: nobody waits for it, and the master must not think that this worker holds it.
            self.outputs.push_back(Output::Say(FromWorker::Close(Close { key: listener.key })));
        }
        Ok(())
    }

    fn order_to_go(&mut self, reason: Reason, now: Instant, timeout: Duration) {
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
