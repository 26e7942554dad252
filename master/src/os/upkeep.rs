//! Keeps the sockets that others can break as they should be: listeners, which every worker shares, and the control socket with the lock on its name, whose files anybody may remove.

use dutch_master_protocol::message::Kind;
use tracing::debug;

use super::clock;
use super::event_loop::EventLoop;
use super::line::Message;
use super::listening_socket::{Damage, ListeningSocket, Repair};
use super::orders::in_full;
use super::token_bucket::TokenBucket;
use super::watch::Watch;
use crate::core::{Event, Said, Time, WorkerId};

/// Most repairs of one listener at once: all workers of a large pool may shut it down while they drain, one after the other.
const REPAIRS_BURST: u64 = 64;

/// One more repair for each of these intervals, in milliseconds: a worker that breaks its listener again and again keeps the master no busier than that.
const REPAIR_INTERVAL_MS: u64 = 1_000;

/// A socket that is bound anew counts as that many repairs: every worker that holds the dead one has to be replaced.
const BIND_ANEW_REPAIRS: u64 = 16;

/// Least time between two replacements of workers because of a listener that was revived, in milliseconds. Event loops may take its end for final (tokio's never comes to rest again); but where it is the old
/// workers that shut it down whenever they go, a pool whose workers are replaced for it each time would never come to rest either.
const REPLACE_INTERVAL_MS: u64 = 600_000;

/// A socket of the master's, and what may still be done to keep it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) socket: ListeningSocket,
    repairs: TokenBucket,
    replacements: TokenBucket,
    /// It is broken, and may be repaired then.
    repair_at: Option<Time>,
    /// Why it could not be repaired; told once.
    hopeless: Option<String>,
}

/// What was done to a socket, and what was done about it.
#[derive(Debug)]
pub(super) struct Finding {
    message: Message,
    /// Which socket, and what follows.
    reason: String,
    /// The workers that cannot go on with their copies of it.
    replace: Vec<WorkerId>,
}

impl Finding {
    fn new(message: Message, reason: impl Into<String>) -> Finding {
        Finding { message, reason: reason.into(), replace: Vec::new() }
    }
}

impl Held {
    pub(super) fn new(socket: ListeningSocket) -> Held {
        let (repairs, replacements) = (TokenBucket::new(REPAIRS_BURST, REPAIR_INTERVAL_MS), TokenBucket::new(1, REPLACE_INTERVAL_MS));
        Held { socket, repairs, replacements, repair_at: None, hopeless: None }
    }

    /// When it may be repaired, if it has to be.
    pub(super) fn repair_at(&self) -> Option<Time> {
        self.repair_at
    }

    /// Makes it as it should be. Returns what there is to tell.
    pub(super) fn put_right(&mut self, now: Time, name: &str, watch: Option<&Watch>, holders: impl Fn() -> Vec<WorkerId>) -> Vec<Finding> {
        let blocking = self.socket.make_nonblocking().then(|| Finding::new(Message::ListenerBlocking, name));
        blocking.into_iter().chain(self.repair(now, name, watch, holders)).collect()
    }

    fn repair(&mut self, now: Time, name: &str, watch: Option<&Watch>, holders: impl Fn() -> Vec<WorkerId>) -> Option<Finding> {
        self.repair_at = None;
        let Some(damage) = self.socket.damage() else {
            self.hopeless = None;
            return None;
        };
        let cost = if self.socket.address().kind == Kind::Tcp { 1 } else { BIND_ANEW_REPAIRS };
        if !self.repairs.take(now, cost) {
            self.repair_at = Some(self.repairs.available_at(cost)).filter(|_| self.hopeless.is_none());
            return None;
        }
        watch.into_iter().for_each(|watch| watch.remove(&self.socket));
        let repaired = self.socket.repair();
        watch.into_iter().for_each(|watch| watch.add(&self.socket));
        let (message, replace) = match (repaired, damage) {
            (Ok(Repair::Revived), _) if self.replacements.take(now, 1) => (Message::ListenerRevived, holders()),
            (Ok(Repair::Revived), _) => (Message::ListenerRevived, Vec::new()),
            (Ok(Repair::BoundAnew), Damage::ShutDown) => (Message::ListenerBoundAnew, holders()),
            (Ok(Repair::BoundAnew), Damage::FileGone) => (Message::ListenerFileGone, holders()),
            (Err(error), _) => {
                let reason = format!("{name}: {error}");
                let is_known = self.hopeless.as_ref() == Some(&reason);
                self.hopeless = Some(reason.clone());
                return Some(Finding::new(Message::ListenerHopeless, reason)).filter(|_| !is_known);
            }
        };
        self.hopeless = None;
        let reason = match replace.len() {
            0 => name.to_owned(),
            1 => format!("{name}; the worker that holds it is replaced"),
            n => format!("{name}; the {n} workers that hold it are replaced"),
        };
        Some(Finding { message, reason, replace })
    }
}

/// What may still be done to keep the control socket.
#[derive(Debug)]
pub(super) struct ControlUpkeep {
    repairs: TokenBucket,
    /// It is gone, and may be made again then.
    restore_at: Option<Time>,
    /// That it cannot be made again was told.
    told: bool,
}

impl Default for ControlUpkeep {
    fn default() -> ControlUpkeep {
        ControlUpkeep { repairs: TokenBucket::new(REPAIRS_BURST, REPAIR_INTERVAL_MS), restore_at: None, told: false }
    }
}

impl EventLoop {
    /// Something may have happened to a socket.
    pub(super) fn sockets_changed(&mut self) {
        if let Some(watch) = self.listeners.watch() {
            watch.take_note();
        }
        self.check_sockets();
    }

    /// Looks at everything that others can break, and tells what was wrong.
    pub(super) fn check_sockets(&mut self) {
        for Finding { message, reason, replace } in self.listeners.check(clock::now()) {
            self.say_broken(message, reason);
            replace.into_iter().for_each(|worker| self.replace(worker));
        }
        self.check_control_socket();
    }

    fn check_control_socket(&mut self) {
        let gone = self.acceptor.files().enumerate().find(|(_, (_, is_there))| !is_there);
        let Some((at, path)) = gone.map(|(at, (path, _))| (at, path.display().to_string())) else {
            self.control_upkeep.told = false;
            return;
        };
        let (made_again, hopeless) = match at {
            0 => (Message::ControlSocketMade, Message::ControlSocketHopeless),
            _ => (Message::LockFileMade, Message::LockFileHopeless),
        };
        self.control_upkeep.restore_at = None;
        if !self.control_upkeep.repairs.take(clock::now(), 1) {
            self.control_upkeep.restore_at = Some(self.control_upkeep.repairs.available_at(1)).filter(|_| !self.control_upkeep.told);
            return;
        }
        // Whoever waits at the old one is let in first.
        self.accept_waiting();
        match self.acceptor.restore() {
            Ok(()) => {
                self.listeners.watch().into_iter().for_each(|watch| self.acceptor.files().for_each(|(path, _)| watch.add_file(path)));
                // What stood beside it may be gone, too.
                self.is_unwritten = true;
                self.say_broken(made_again, path);
                // What went before it was watched, nobody will tell.
                self.check_control_socket();
            }
            Err(_) if self.control_upkeep.told => {}
            Err(error) => {
                self.control_upkeep.told = true;
                self.say_broken(hopeless, in_full(error));
            }
        }
    }

    /// When something that is broken may be repaired.
    pub(super) fn upkeep_deadline(&self) -> Option<Time> {
        [self.listeners.deadline(), self.control_upkeep.restore_at].into_iter().flatten().min()
    }

    /// From now on it is noticed when somebody breaks something. Where the system has no more watches, it is noticed when a worker starts or says something.
    pub(super) fn begin_watch(&mut self) {
        match Watch::new() {
            Ok(watch) => {
                self.acceptor.files().for_each(|(path, _)| watch.add_file(path));
                self.listeners.watch_by(watch);
            }
            Err(error) => debug!(reason = %error, "Sockets are not watched"),
        }
    }

    /// Replaces a worker as if it had asked for it, now or when it runs.
    fn replace(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.is_unfit = true;
            worker.asked_because = Some("the listener that it holds was shut down".into());
            self.note(Event::WorkerSaid { worker: id, said: Said::RequestRestart });
        }
    }
}
