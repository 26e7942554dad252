//! Control clients (`dutch-master status` and the like): what they ask, and who waits for what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use dutch_master_protocol::control::{Accepted, Done, FromControl, MetricsText, Outcome, Progress, ToControl};
use dutch_master_protocol::limits::FRAME_MAX;
use dutch_master_protocol::message::{ErrorMessage, codes};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::connection::{ConnectionId, End};
use super::event_loop::EventLoop;
use super::hearing::refused;
use super::reload::Refused;
use crate::core::{self, EndOfRestart, GenerationId, HowStopped, SizeChange};

/// Most bytes that wait for a subscriber, about a thousand events, and a few more for each worker: what happens to all of them at once is no sign of one that does not read. Such a one is cut: what it
/// misses it would never know.
const SUBSCRIBER_BYTES_MAX: usize = 64 * 1024;
const SUBSCRIBER_BYTES_PER_WORKER: usize = 512;

/// Most bytes of one part of the metrics: half a frame leaves room for the longest line.
const METRICS_BYTES_MAX: usize = FRAME_MAX / 2;

/// Who waits for what.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Clients {
    waiting: BTreeMap<ConnectionId, Wait>,
    /// Who wants to hear everything.
    subscribers: BTreeSet<ConnectionId>,
    /// Who asked for the changes of the size that the core has not answered yet, in order.
    scalings: VecDeque<Option<ConnectionId>>,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Wait {
    /// The end of the restart to this generation; none yet: not taken up.
    Restart(Option<GenerationId>),
    /// That so many run; none yet: not taken up.
    Scale(Option<u32>),
    /// The end.
    Stop,
    /// That another program has taken this one's place.
    Upgrade,
}

impl Clients {
    pub(super) fn gone(&mut self, id: ConnectionId) {
        self.waiting.remove(&id);
        self.subscribers.remove(&id);
    }

    /// It only looks on.
    pub(super) fn is_subscriber(&self, id: ConnectionId) -> bool {
        self.subscribers.contains(&id)
    }

    /// It has asked for something that is under way.
    pub(super) fn is_waiting(&self, id: ConnectionId) -> bool {
        self.waiting.contains_key(&id)
    }

    pub(super) fn scaling_asked(&mut self, client: Option<ConnectionId>) {
        self.scalings.push_back(client);
    }

    fn who(&self, wait: impl Fn(Wait) -> bool) -> Vec<ConnectionId> {
        self.waiting.iter().filter(|(_, waits)| wait(**waits)).map(|(id, _)| *id).collect()
    }
}

impl EventLoop {
    pub(super) fn client_asks(&mut self, id: ConnectionId, message: FromControl) -> Result<(), End> {
        if let FromControl::Restart(_) | FromControl::Reload(_) | FromControl::Stop(_) | FromControl::Scale(_) | FromControl::Upgrade(_) = message
            && self.clients.waiting.contains_key(&id)
        {
            return Err(refused(codes::UNEXPECTED, "one request at a time"));
        }
        match message {
            FromControl::Hello(_) => Err(refused(codes::UNEXPECTED, "`hello` is the first message, and comes once")),
            FromControl::Status(_) => self.send_status(id),
            FromControl::Restart(_) => {
                self.clients.waiting.insert(id, Wait::Restart(None));
                self.request_restart(id, None);
                Ok(())
            }
            FromControl::Reload(_) => {
                self.clients.waiting.insert(id, Wait::Restart(None));
                let Err(refused) = self.request_reload(id, None) else { return Ok(()) };
                self.clients.waiting.remove(&id);
                let code = match refused {
                    Refused::Unsupported => codes::UNSUPPORTED,
                    Refused::Stopping => codes::STOPPING,
                    Refused::Invalid(_) => "EINVAL",
                };
                self.connection(id)?.send(&error(code, &refused.to_string()))
            }
            FromControl::Stop(stop) => {
                self.clients.waiting.insert(id, Wait::Stop);
                self.connection(id)?.send(&ToControl::Accepted(Accepted::default()))?;
                // A second one makes the core hurry, so whoever only wants to wait for a stop under way must not ask again.
                if stop.now || !self.is_stopping() {
                    self.request_stop(None, stop.now);
                }
                Ok(())
            }
            FromControl::Scale(scale) => {
                let change = match (scale.to, scale.by) {
                    (Some(to), None) => SizeChange::To(to),
                    (None, Some(by)) => SizeChange::By(by),
                    (Some(_), Some(_)) | (None, None) => return self.connection(id)?.send(&error("EINVAL", "give either `to` or `by`")),
                };
                self.clients.waiting.insert(id, Wait::Scale(None));
                self.request_scale(Some(id), change);
                Ok(())
            }
            FromControl::Subscribe(_) => {
                self.clients.subscribers.insert(id);
                self.connection(id)?.send(&ToControl::Accepted(Accepted::default()))
            }
            FromControl::Metrics(_) => self.send_metrics(id),
            FromControl::Upgrade(upgrade) => {
                self.clients.waiting.insert(id, Wait::Upgrade);
                let Err(refused) = self.request_upgrade(upgrade.binary.map(PathBuf::from), None) else {
                    return self.connection(id)?.send(&ToControl::Accepted(Accepted::default()));
                };
                self.clients.waiting.remove(&id);
                self.connection(id)?.send(&error(refused.code(), &refused.to_string()))
            }
            FromControl::Unknown => self.connection(id)?.send(&error(codes::UNSUPPORTED, "this master does not offer that")),
        }
    }

    fn send_status(&mut self, id: ConnectionId) -> Result<(), End> {
        self.check_sockets();
        let pool = self.pool_status();
        let workers: Vec<_> = self.pool.workers().map(|worker| self.worker_status(worker)).collect();
        let listeners: Vec<_> = self.listeners.status().collect();
        let connection = self.connection(id)?;
        connection.send(&ToControl::Pool(pool))?;
        workers.into_iter().try_for_each(|worker| connection.send(&ToControl::Worker(worker)))?;
        listeners.into_iter().try_for_each(|listener| connection.send(&ToControl::Listener(listener)))?;
        connection.send(&done(Outcome::Done, None))
    }

    fn send_metrics(&mut self, id: ConnectionId) -> Result<(), End> {
        let metrics = self.metrics();
        let connection = self.connection(id)?;
        for text in parts(&metrics) {
            connection.send(&ToControl::MetricsText(MetricsText { text }))?;
        }
        connection.send(&done(Outcome::Done, None))
    }

    /// A restart was taken up.
    pub(super) fn restart_accepted(&mut self, ticket: core::Ticket, generation: GenerationId) {
        if let Some(wait) = self.clients.waiting.get_mut(&ticket) {
            *wait = Wait::Restart(Some(generation));
            self.tell(ticket, &ToControl::Accepted(Accepted { generation: Some(generation), size: None }));
        }
    }

    /// A restart was refused.
    pub(super) fn restart_refused(&mut self, ticket: core::Ticket) {
        if self.clients.waiting.remove(&ticket).is_some() {
            self.tell(ticket, &stopping());
        }
    }

    /// A restart was refused for a reason of its own.
    pub(super) fn restart_impossible(&mut self, ticket: core::Ticket, why: &str) {
        if self.clients.waiting.remove(&ticket).is_some() {
            self.tell(ticket, &error("EINVAL", why));
        }
    }

    /// A restart ended.
    pub(super) fn restart_ended(&mut self, generation: GenerationId, end: &EndOfRestart) {
        let answer = match end {
            EndOfRestart::Done => done(Outcome::Done, None),
            EndOfRestart::Superseded { by } => ToControl::Done(Done { outcome: Outcome::Superseded, by: Some(*by), message: None }),
            EndOfRestart::GivenUp { attempts, why } => done(Outcome::GivenUp, Some(format!("after {attempts} attempts: {}", self.in_words(why)))),
            EndOfRestart::Stopped => done(Outcome::Stopped, None),
        };
        self.tell_and_forget(|wait| wait == Wait::Restart(Some(generation)), &answer);
    }

    /// The size was changed, by the first of those whom the core has not answered.
    pub(super) fn scaled(&mut self, size: u32) {
        let superseded = ToControl::Done(Done { outcome: Outcome::Superseded, by: None, message: Some(format!("the size is to be {size} now")) });
        self.tell_and_forget(|wait| matches!(wait, Wait::Scale(Some(other)) if other != size), &superseded);
        let Some(Some(client)) = self.clients.scalings.pop_front() else { return };
        if let Some(wait) = self.clients.waiting.get_mut(&client) {
            *wait = Wait::Scale(Some(size));
            self.tell(client, &ToControl::Accepted(Accepted { generation: None, size: Some(size) }));
        }
    }

    /// The size was not changed.
    pub(super) fn scale_refused(&mut self) {
        if let Some(Some(client)) = self.clients.scalings.pop_front() {
            self.clients.waiting.remove(&client);
            self.tell(client, &stopping());
        }
    }

    /// A scaling is done when that many run, or the pool stops.
    pub(super) fn answer_finished_scalings(&mut self) {
        let running = self.pool.running();
        if self.is_stopping() {
            self.tell_and_forget(|wait| matches!(wait, Wait::Scale(Some(_))), &done(Outcome::Stopped, None));
        }
        self.tell_and_forget(|wait| wait == Wait::Scale(Some(running)), &done(Outcome::Done, None));
    }

    /// Another program has taken this one's place.
    pub(super) fn upgraded(&mut self, message: String) {
        self.tell_and_forget(|wait| wait == Wait::Upgrade, &done(Outcome::Done, Some(message)));
    }

    /// None has.
    pub(super) fn upgrade_refused(&mut self, why: &str) {
        self.tell_and_forget(|wait| wait == Wait::Upgrade, &error("EINVAL", why));
    }

    /// The pool has stopped.
    pub(super) fn stopped(&mut self, how: HowStopped) {
        let message = match how {
            HowStopped::Cleanly => self.counts.unfinished().told(),
            HowStopped::AtOnce => Some("at once, as asked; workers that had not ended were killed".into()),
            HowStopped::Overdue => Some("some workers had to be killed".into()),
        };
        self.tell_and_forget(|wait| wait == Wait::Stop, &done(Outcome::Done, message));
    }

    /// Subscribers hear everything that happens, and of those who wait `audience`.
    pub(super) fn progress(&mut self, progress: Progress, audience: impl Fn(Wait) -> bool) {
        let message = ToControl::Progress(progress);
        let mut hearers = self.clients.who(audience);
        let limit = SUBSCRIBER_BYTES_MAX + self.pool.workers().count() * SUBSCRIBER_BYTES_PER_WORKER;
        let is_slow = |id: &ConnectionId| self.connections.get(id).is_some_and(|connection| connection.unsent() > limit);
        let (slow, prompt): (Vec<_>, Vec<_>) = self.clients.subscribers.iter().partition(|id| is_slow(id));
        for id in slow {
            self.cut(id, &format!("this subscriber does not read: more than {limit} bytes wait"));
        }
        hearers.extend(prompt.into_iter().filter(|id| !self.clients.waiting.contains_key(id)));
        for id in hearers {
            self.tell(id, &message);
        }
    }

    /// It hears nothing more, and why: that takes the place of what waits, and the connection stays for it, for behind all that it would never be read.
    fn cut(&mut self, id: ConnectionId, why: &str) {
        self.clients.gone(id);
        self.counts.connection_refused();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let told = connection.send_instead(&error(codes::LIMIT, why));
        warn!(uid = connection.peer.uid().as_raw(), reason = why, "Connection refused");
        if let Err(end) = told {
            self.end(id, &end);
        }
    }

    fn tell_and_forget(&mut self, wait: impl Fn(Wait) -> bool, message: &impl Serialize) {
        for id in self.clients.who(wait) {
            self.clients.waiting.remove(&id);
            self.tell(id, message);
        }
    }

    fn tell(&mut self, id: ConnectionId, message: &impl Serialize) {
        if let Err(end) = self.connection(id).and_then(|connection| connection.send(message)) {
            self.end(id, &end);
        }
    }
}

/// Whole lines that fit into a frame.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.split_inclusive('\n') {
        match parts.last_mut() {
            Some(part) if part.len() + line.len() <= METRICS_BYTES_MAX => part.push_str(line),
            Some(_) | None => parts.push(line.into()),
        }
    }
    parts
}

fn done(outcome: Outcome, message: Option<String>) -> ToControl {
    ToControl::Done(Done { outcome, by: None, message })
}

fn error(code: &str, message: &str) -> ToControl {
    ToControl::Error(ErrorMessage { seq: None, code: code.into(), message: message.into() })
}

fn stopping() -> ToControl {
    error(codes::STOPPING, "the master is stopping")
}
