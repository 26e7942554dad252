//! Without a master: when to connect again, what the worker says of itself when it comes back, and when it gives up.

use std::time::{Duration, Instant};

use dutch_master_protocol::codec::FrameDecoder;
use dutch_master_protocol::message::{
    self, AppMessage, Close, Drained, ErrorMessage, FromWorker, Hello, Leaving, Listening, RequestRestart, Resume, ResumeState, ReturnListener, Welcome, codes,
    features,
};

use super::{Output, Phase, Session, Violation};
use crate::limits::{CONNECT_TIMEOUT, MESSAGES_KEPT, ORPHAN_TIMEOUT, RECONNECT_MAX, RECONNECT_MIN, WELCOME_TIMEOUT};
use crate::order::Reason;
use crate::settings::ConnectError;
use crate::worker::ListenError;

/// What outlives a connection.
#[derive(Debug)]
pub(super) struct Away {
    /// The first `hello`; later ones add `resume`.
    hello: Hello,
    /// Worker and generation, once a master took this worker.
    identity: Option<(u32, u32)>,
    /// Until when the first connection may take.
    give_up_at: Instant,
    orphan_timeout: Option<Duration>,
    orphan_at: Option<Instant>,
    /// The next pause, before chance shortens it.
    pause: Duration,
    chance: fastrand::Rng,
    said: Said,
    /// What the last `hello` told.
    told: Option<Resume>,
    /// Messages for the next master.
    kept: Vec<AppMessage>,
}

/// What a master has to know of this worker.
#[derive(Debug, Default)]
struct Said {
    listening: Option<Listening>,
    request_restart: Option<RequestRestart>,
    leaving: Option<Leaving>,
    drained: Option<Drained>,
}

impl Away {
    pub(super) fn new(now: Instant, hello: Hello, seed: u64) -> Away {
        Away {
            hello,
            identity: None,
            give_up_at: now + CONNECT_TIMEOUT,
            orphan_timeout: None,
            orphan_at: None,
            pause: RECONNECT_MIN,
            chance: fastrand::Rng::with_seed(seed),
            said: Said::default(),
            told: None,
            kept: Vec::new(),
        }
    }

    pub(super) fn orphan_at(&self) -> Option<Instant> {
        self.orphan_at
    }

    pub(super) fn resumes(&self) -> bool {
        self.hello.features.iter().any(|feature| feature == features::RESUME)
    }

    /// Between half of the pause and all of it, so that the workers of a dead master do not come back at once.
    fn next_pause(&mut self) -> Duration {
        let pause = self.pause.mul_f64(0.5 + self.chance.f64() / 2.0);
        self.pause = (self.pause * 2).min(RECONNECT_MAX);
        pause
    }
}

/// What comes after a failed attempt or a connection that ended.
enum Next {
    Again,
    Alone,
    Orphaned,
    Failed,
}

impl Session {
    /// What the program says. It is returned if it can be said now; else the next master learns of it, except for heartbeats, and messages beyond [`MESSAGES_KEPT`].
    pub(crate) fn say(&mut self, message: FromWorker) -> Option<FromWorker> {
        let said = &mut self.away.said;
        match &message {
            FromWorker::Listening(listening) => _ = said.listening.get_or_insert_with(|| listening.clone()),
            // Before `listening` it changes nothing, and must not do so later.
            FromWorker::RequestRestart(request) if said.listening.is_some() => _ = said.request_restart.get_or_insert_with(|| request.clone()),
            FromWorker::Leaving(leaving) => said.leaving = Some(leaving.clone()),
            FromWorker::Close(Close { key }) => self.held.close(key),
            FromWorker::Disconnect(drained) => {
                _ = said.drained.get_or_insert_with(|| drained.clone());
                self.held.close_all();
            }
            FromWorker::Message(app) if !matches!(self.phase, Phase::Open | Phase::Alone) && self.away.kept.len() < MESSAGES_KEPT => {
                self.away.kept.push(app.clone())
            }
            FromWorker::Hello(_)
            | FromWorker::Listen(_)
            | FromWorker::RequestRestart(_)
            | FromWorker::Heartbeat(_)
            | FromWorker::Message(_)
            | FromWorker::Listener(_)
            | FromWorker::Error(_)
            | FromWorker::Unknown => {}
        }
        self.is_open().then_some(message)
    }

    /// How [`Output::Dial`] went.
    pub(crate) fn dialled(&mut self, now: Instant, outcome: Result<(), ConnectError>) {
        if self.phase != Phase::Dialling {
            return;
        }
        match outcome {
            Ok(()) => {
                let until = now + WELCOME_TIMEOUT;
                self.phase = Phase::Greeting { until: if self.away.identity.is_none() { until.min(self.away.give_up_at) } else { until } };
                let hello = self.hello(now);
                self.outputs.push_back(Output::Say(FromWorker::Hello(hello)));
            }
            Err(cause) => self.without_connection(now, cause),
        }
    }

    /// The connection ended: by the master, by a failure, or because of a [`Violation`].
    pub(crate) fn ended(&mut self, now: Instant, cause: ConnectError) {
        if !self.is_connected() {
            return;
        }
        self.decoder = FrameDecoder::default(); // Nothing counts behind last words, and half a message ends here.
        self.fds.clear();
        self.handed_over = None;
        if self.is_open() {
            if let ConnectError::Refused { code, message } = &cause {
                self.complained(code, message);
            }
            // A worker that a master throws out does not knock at once.
            self.away.pause = if matches!(cause, ConnectError::Refused { .. } | ConnectError::Protocol(_)) { RECONNECT_MAX } else { RECONNECT_MIN };
            self.outputs.push_back(Output::Ended { ordered: self.order.is_some() });
            self.away.orphan_at = self.away.orphan_timeout.and_then(|timeout| now.checked_add(timeout));
        }
        self.without_connection(now, cause);
    }

    fn without_connection(&mut self, now: Instant, cause: ConnectError) {
        match self.next(&cause) {
            Next::Again => {
                let dial_at = now + self.away.next_pause();
                if self.away.identity.is_none() && dial_at >= self.away.give_up_at {
                    self.alone();
                    self.outputs.push_back(Output::Failed(cause));
                } else {
                    self.phase = Phase::Away { dial_at };
                }
            }
            Next::Alone => self.alone(),
            Next::Orphaned => {
                if let ConnectError::Refused { code, message } = &cause {
                    self.complained(code, message);
                }
                self.orphaned(now);
            }
            Next::Failed => {
                self.alone();
                self.outputs.push_back(Output::Failed(cause));
            }
        }
    }

    fn next(&self, cause: &ConnectError) -> Next {
        if self.away.identity.is_none() {
            return if is_final(cause) { Next::Failed } else { Next::Again };
        }
        match cause {
            _ if !self.away.resumes() => Next::Alone,
            ConnectError::Refused { code, .. } if [codes::RESUME_REFUSED, codes::BAD_TOKEN].contains(&code.as_str()) => Next::Orphaned,
            // Somebody else is this worker now; to come back would only throw it out in turn.
            ConnectError::Refused { code, .. } if code == codes::SUPERSEDED => Next::Alone,
            ConnectError::Protocol(Violation::Mistaken { .. }) => Next::Orphaned,
            ConnectError::Refused { .. }
            | ConnectError::Protocol(_)
            | ConnectError::Environment(_)
            | ConnectError::Connect { .. }
            | ConnectError::Io(_)
            | ConnectError::Closed
            | ConnectError::Timeout => Next::Again,
        }
    }

    fn complained(&mut self, code: &str, message: &str) {
        self.outputs.push_back(Output::Error(ErrorMessage { seq: None, code: code.to_owned(), message: message.to_owned() }));
    }

    /// Nobody will answer any more.
    fn alone(&mut self) {
        self.phase = Phase::Alone;
        self.away.kept.clear();
        self.held.drop_copies(); // Nobody asks for them any more, and they must not outlive the program's own.
        self.fail_listens();
    }

    fn fail_listens(&mut self) {
        for seq in std::mem::take(&mut self.listens).into_keys() {
            self.outputs.push_back(Output::Listen(seq, Err(ListenError::Disconnected)));
        }
    }

    /// No master will come, or none that takes this worker back.
    pub(super) fn orphaned(&mut self, now: Instant) {
        self.away.orphan_at = None;
        self.alone();
        if self.order.is_none() {
            self.order_to_go(Reason::Orphaned, now, ORPHAN_TIMEOUT);
        }
    }

    fn state(&self) -> ResumeState {
        match &self.away.said {
            said if said.drained.is_some() || self.order.is_some() => ResumeState::Draining,
            Said { listening: Some(_), .. } => ResumeState::Running,
            Said { listening: None, .. } => ResumeState::Starting,
        }
    }

    fn hello(&mut self, now: Instant) -> Hello {
        let remaining = self.order.map(|order| order.deadline.saturating_duration_since(now));
        self.away.told = self.away.identity.map(|(_, generation)| Resume {
            generation,
            state: self.state(),
            keys: self.held.keys(),
            remaining_ms: remaining.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        });
        Hello { resume: self.away.told.clone(), ..self.away.hello.clone() }
    }

    /// A master took this worker, for the first time or again.
    pub(super) fn welcomed(&mut self, welcome: Welcome) -> Result<(), Violation> {
        if let Some((own, _)) = self.away.identity.filter(|(own, _)| *own != welcome.worker) {
            return Err(Violation::Mistaken { own, told: welcome.worker });
        }
        self.phase = Phase::Open;
        self.away.identity = Some((welcome.worker, welcome.generation));
        self.away.orphan_timeout = welcome.orphan_timeout_ms.map(Duration::from_millis);
        self.away.orphan_at = None;
        self.outputs.push_back(Output::Welcome(welcome));
        self.catch_up();
        Ok(())
    }

    /// Says what was said since `hello`, and again what the last master may not have read.
    fn catch_up(&mut self) {
        let kept = std::mem::take(&mut self.away.kept);
        let Away { said, told, .. } = &self.away;
        let told = told.as_ref();
        let told_state = told.map_or(ResumeState::Starting, |told| told.state);
        let mut late = Vec::new();
        late.extend(
            told.into_iter().flat_map(|told| &told.keys).filter(|key| !self.held.contains(key)).map(|key| FromWorker::Close(Close { key: key.clone() })),
        );
        late.extend(said.listening.clone().filter(|_| told_state == ResumeState::Starting).map(FromWorker::Listening));
        late.extend(said.leaving.clone().filter(|_| told_state != ResumeState::Draining).map(FromWorker::Leaving));
        if self.state() != ResumeState::Draining {
            late.extend(self.listens.values().map(|(_, message)| FromWorker::Listen(message.clone())));
            late.extend(said.request_restart.clone().map(FromWorker::RequestRestart));
        }
        late.extend(kept.into_iter().map(FromWorker::Message));
        late.extend(said.drained.clone().map(FromWorker::Disconnect));
        self.outputs.extend(late.into_iter().map(Output::Say));
        if self.state() == ResumeState::Draining {
            self.fail_listens(); // Who has to go gets no listener.
        }
    }

    /// A master that took over from a dead one asks for a listener.
    pub(super) fn give_back(&mut self, ReturnListener { seq, key }: ReturnListener) {
        self.outputs.push_back(match self.held.copy(&key) {
            Some(copy) => Output::GiveBack(message::Listener { seq, key, name: None, data: None, address: None, fds: 1 }, copy),
            None => Output::Say(FromWorker::Error(ErrorMessage { seq: Some(seq), code: "EBADF".into(), message: format!("this worker does not hold {key}") })),
        });
    }
}

/// Whether the first connection need not be tried again: the master does not want this worker, or never was there.
fn is_final(cause: &ConnectError) -> bool {
    match cause {
        ConnectError::Connect { source, .. } => matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied),
        ConnectError::Refused { code, .. } => code != codes::LIMIT,
        ConnectError::Environment(_) | ConnectError::Timeout | ConnectError::Protocol(_) => true,
        ConnectError::Io(_) | ConnectError::Closed => false,
    }
}
