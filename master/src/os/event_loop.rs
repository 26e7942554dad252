//! The loop: wait, let the core decide, carry out, repeat. One thread; with nothing to do it sleeps, and no interval wakes it.
//!
//! In each turn everything that is readable is handled before a deadline is, and a worker's connection is read to its end before its exit is handled: after a suspend, or when the machine
//! is busy, what was said in time must not lose to a timer.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use tracing::{info, warn};

use super::account::Account;
use super::adoption::Adoption;
use super::callbacks::{Callbacks, Evaluation, Surroundings};
use super::clock;
use super::connection::{Connection, ConnectionId};
use super::control::Clients;
use super::control_socket::ControlAcceptor;
use super::hook::Hooks;
use super::listeners::Listeners;
use super::metrics::{self, Askers, Counts};
use super::reload::ReadAgain;
use super::remedy::remedy;
use super::request::Request;
use super::rest::Rest;
use super::snapshots::Snapshots;
use super::state::{Current, StateFile};
use super::systemd::Telling;
use super::upgrade::Upgrades;
use super::upkeep::ControlUpkeep;
use super::workers::Workers;
use crate::core::{Event, Pool, Said, Time, WorkerId};
use crate::options::Options;

/// How long no connection is accepted after the system refused to make one, in milliseconds: it lacks descriptors or memory, and asking again at once would only burn time.
const ACCEPT_PAUSE_MS: u64 = 1_000;

/// How long after a failure the state is tried to be written again although nothing has changed, in milliseconds: a disk that was full is not for ever.
const WRITE_AGAIN_MS: u64 = 1_000;

/// Most reads of one connection in a sweep: enough for all that a socket can hold, and an end for a peer that writes as fast as it is read.
pub(super) const SWEEP_READS_MAX: usize = 32;

/// Everything that the loop owns.
pub(super) struct EventLoop {
    pub(super) pool: Pool,
    /// As they were read last.
    pub(super) options: Arc<Options>,
    pub(super) read_again: Option<ReadAgain>,
    /// Whose the workers are, if not the master's.
    pub(super) account: Option<Account>,
    pub(super) name: String,
    /// Where the master was started, links and all.
    pub(super) here: PathBuf,
    pub(super) control_path: PathBuf,
    pub(super) acceptor: ControlAcceptor,
    pub(super) control_upkeep: ControlUpkeep,
    pub(super) requests: Option<Receiver<Request>>,
    pub(super) callbacks: Callbacks,
    pub(super) evaluation: Evaluation,
    /// As the embedding program said last.
    pub(super) surroundings: Option<Surroundings>,
    pub(super) listeners: Listeners,
    pub(super) workers: Workers,
    pub(super) hooks: Hooks,
    pub(super) snapshots: Snapshots,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) last_connection: ConnectionId,
    pub(super) clients: Clients,
    pub(super) counts: Counts,
    /// Who wants to see them.
    pub(super) metrics_askers: Askers,
    /// Of the socket that they come to, for a successor.
    pub(super) metrics_copy: Option<metrics::Copy>,
    pub(super) upgrades: Upgrades,
    /// What the core has not been told yet.
    pub(super) facts: VecDeque<Event>,
    pub(super) started_at: Time,
    /// The same in seconds since 1970.
    pub(super) started_at_unix: f64,
    pub(super) accept_again_at: Option<Time>,
    pub(super) look_at_memory_at: Option<Time>,
    pub(super) adoption: Adoption,
    pub(super) telling: Telling,
    /// Workers that were ordered and have not been started.
    pub(super) launches: VecDeque<WorkerId>,
    pub(super) state: StateFile,
    /// What the next master would have to know has changed since it was written.
    pub(super) is_unwritten: bool,
    pub(super) rest: Rest,
    /// It could not be written, and is tried again then.
    pub(super) write_again_at: Option<Time>,
    pub(super) exit_code: Option<u8>,
}

/// Something to handle.
#[derive(Debug)]
enum Ready {
    Request(Request),
    RequestsEnded,
    Connection,
    Readable(ConnectionId),
    Sendable(ConnectionId),
    Exited(WorkerId),
    HookEnded,
    PreflightEnded,
    SocketsChanged,
    MetricsAsked(oneshot::Sender<String>),
    Evaluated,
    Time,
}

impl EventLoop {
    /// Runs until the pool has stopped. Returns the exit code.
    pub(super) async fn run(&mut self) -> u8 {
        self.draw_jitter();
        self.note(Event::StartRequested);
        self.decide();
        self.tell_manager();
        loop {
            if let Some(code) = self.exit_code {
                return code;
            }
            // What was queued to be sent is sent in a later turn: no worker is told what the next master would not know.
            self.write_state();
            if !self.launches.is_empty() {
                self.launch_ordered();
                self.decide();
            } else if self.upgrades.is_due() {
                self.become_another().await;
                continue;
            }
            for ready in self.wait().await {
                self.handle(ready);
                self.decide();
                self.tell_manager();
                if self.exit_code.is_some() {
                    break;
                }
            }
            // One that always has something to say must not keep the runtime from noticing the others.
            tokio::task::yield_now().await;
            if self.deadline().is_some_and(|at| at <= clock::now()) {
                self.sweep();
                self.decide();
                self.expire();
                self.decide();
                self.tell_manager();
            }
        }
    }

    /// Keeps a fact for the core.
    pub(super) fn note(&mut self, fact: Event) {
        if !matches!(fact, Event::WorkerSaid { said: Said::Heartbeat, .. }) {
            self.is_unwritten = true;
            self.rest.put_off();
        }
        self.facts.push_back(fact);
    }

    /// Writes down what a successor needs. A failure never stops the master: it is tried again with the next change, and after a while.
    pub(super) fn write_state(&mut self) {
        if !std::mem::take(&mut self.is_unwritten) {
            return;
        }
        let failed_before = self.write_again_at.take().is_some();
        let mut file = std::mem::take(&mut self.state);
        let written = file.write(&self.current());
        self.state = file;
        match written {
            Ok(()) if failed_before => info!("State is written again"),
            Ok(()) => {}
            Err(error) => {
                self.write_again_at = Some(clock::now().after(WRITE_AGAIN_MS));
                if !failed_before {
                    warn!(reason = %error, "State cannot be written, workers would not outlive this master");
                }
            }
        }
    }

    /// What a successor needs.
    pub(super) fn current(&self) -> Current<'_> {
        Current {
            pool: &self.pool,
            workers: &self.workers,
            snapshots: &self.snapshots,
            registry: self.listeners.registry(),
            backlogs: self.listeners.backlogs(),
            listen: &self.options.listen,
            counts: &self.counts,
        }
    }

    /// Tells the core what happened and carries out what it orders, until there is nothing more to tell.
    pub(super) fn decide(&mut self) {
        if self.facts.is_empty() {
            return;
        }
        while let Some(fact) = self.facts.pop_front() {
            let now = clock::now();
            self.counts.happened(now, &fact);
            self.pool.handle(now, fact);
            while let Some(action) = self.pool.poll_action() {
                self.counts.ordered(now, &action);
                self.perform(action);
            }
        }
        self.workers.forget_the_gone();
        self.answer_finished_scalings();
    }

    /// Everything that is ready, or at least something when there is nothing yet and nobody is to be launched.
    async fn wait(&mut self) -> Vec<Ready> {
        let left = self.deadline().map(|at| Duration::from_millis(at.since(clock::now())));
        let timer = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(timer);
        // Without a budget: a turn looks at everything, however much there is.
        unconstrained(poll_fn(|cx| {
            let mut ready = Vec::new();
            self.poll_all(cx, &mut ready);
            if timer.as_mut().poll(cx).is_ready() {
                ready.push(Ready::Time);
            }
            if !ready.is_empty() || !self.launches.is_empty() {
                return Poll::Ready(ready);
            }
            self.rest.before_sleep();
            Poll::Pending
        }))
        .await
    }

    fn poll_all(&mut self, cx: &mut Context<'_>, ready: &mut Vec<Ready>) {
        let mut add = |condition: bool, what: Ready| {
            if condition {
                ready.push(what);
            }
        };
        add(self.accept_again_at.is_none() && self.acceptor.poll_acceptable(cx).is_ready(), Ready::Connection);
        for (id, connection) in &self.connections {
            add(connection.poll_readable(cx).is_ready(), Ready::Readable(*id));
            add(connection.poll_sendable(cx).is_ready(), Ready::Sendable(*id));
        }
        for (id, worker) in self.workers.iter() {
            add(worker.process().is_some_and(|process| process.poll_exit(cx).is_ready()), Ready::Exited(id));
        }
        add(self.hooks.poll_exit(cx).is_ready(), Ready::HookEnded);
        add(self.upgrades.poll_answer(cx).is_ready(), Ready::PreflightEnded);
        add(self.listeners.watch().is_some_and(|watch| watch.poll_changed(cx).is_ready()), Ready::SocketsChanged);
        add(self.evaluation.poll(cx).is_ready(), Ready::Evaluated);
        if let Some(requests) = &mut self.requests
            && let Poll::Ready(request) = requests.poll_recv(cx)
        {
            ready.push(request.map_or(Ready::RequestsEnded, Ready::Request));
        }
        if let Poll::Ready(asker) = self.metrics_askers.poll_next(cx) {
            ready.push(Ready::MetricsAsked(asker));
        }
    }

    fn handle(&mut self, ready: Ready) {
        match ready {
            Ready::Request(request) => self.requested(request),
            Ready::RequestsEnded => self.requests = None,
            Ready::Connection => self.accept_waiting(),
            Ready::Readable(id) => self.hear(id, 1),
            Ready::Sendable(id) => self.flush(id),
            Ready::Exited(worker) => self.worker_exited(worker),
            Ready::HookEnded => self.hook_ended(),
            Ready::PreflightEnded => self.preflight_ended(),
            Ready::SocketsChanged => self.sockets_changed(),
            Ready::MetricsAsked(asker) => {
                self.rest.put_off();
                // One that has gone wants nothing any more.
                let _ = asker.send(self.metrics());
            }
            Ready::Evaluated => self.evaluation_ended(),
            Ready::Time => {}
        }
    }

    /// The earliest deadline, the core's or our own.
    fn deadline(&self) -> Option<Time> {
        let core = self.pool.poll_deadline().map(|(at, _)| at);
        let hello = self.connections.values().filter_map(Connection::hello_by).min();
        let own = [
            self.hooks.deadline(),
            self.upgrades.deadline(),
            self.evaluation.deadline(),
            self.upkeep_deadline(),
            self.adoption.deadline(),
            self.rest.deadline(),
            self.telling.deadline(),
        ];
        let again = [self.accept_again_at, self.look_at_memory_at, self.write_again_at];
        [core, hello].into_iter().chain(own).chain(again).flatten().min()
    }

    /// Handles everything that has come, whether the runtime has noticed it or not.
    fn sweep(&mut self) {
        self.accept_waiting();
        let connections: Vec<_> = self.connections.keys().copied().collect();
        for id in connections {
            self.hear(id, SWEEP_READS_MAX);
        }
        let exited: Vec<_> = self.workers.iter().filter(|(_, worker)| worker.process().is_some_and(|process| process.has_exited())).map(|(id, _)| id).collect();
        for worker in exited {
            self.worker_exited(worker);
        }
        self.hook_ended();
        self.preflight_ended();
        self.evaluation_ended();
    }

    /// Handles the deadlines that have come.
    fn expire(&mut self) {
        let now = clock::now();
        self.accept_again_at = self.accept_again_at.filter(|at| *at > now);
        self.is_unwritten |= self.write_again_at.is_some_and(|at| at <= now);
        self.hang_up_on_the_silent(now);
        self.hook_expired(now);
        self.preflight_expired(now);
        self.watch_memory(now);
        self.adoption_expired(now);
        self.rest.expired(now);
        self.telling.expired(now);
        if self.upkeep_deadline().is_some_and(|at| at <= now) {
            self.check_sockets();
        }
        self.evaluation_expired(now);
        if self.pool.poll_deadline().is_some_and(|(at, _)| at <= now) {
            self.note(Event::DeadlineReached);
        }
    }

    /// Accepts what waits, up to the limits of what may wait for its hello.
    pub(super) fn accept_waiting(&mut self) {
        loop {
            match self.acceptor.accept() {
                Ok(Some(socket)) => self.accepted(socket),
                Ok(None) => return,
                Err(error) => {
                    warn!(reason = format!("{error}{}", remedy(&error)), "Cannot accept connections for the moment");
                    self.accept_again_at = Some(clock::now().after(ACCEPT_PAUSE_MS));
                    return;
                }
            }
        }
    }

    /// Rule: everything that it said comes before its end.
    fn worker_exited(&mut self, id: WorkerId) {
        // It may have connected, spoken and gone before we accepted.
        self.accept_waiting();
        for connection in self.connections_that(|connection| connection.may_be_of(id)) {
            self.hear(connection, SWEEP_READS_MAX);
        }
        let Some(process) = self.workers.take_process(id) else { return };
        let status = process.reap();
        // A descendant of another session may still hold the connection open.
        if let Some(connection) = self.workers.get(id).and_then(|worker| worker.connection) {
            self.forget_connection(connection);
        }
        self.check_sockets();
        self.listeners.worker_gone(id);
        self.try_for_missing_soon();
        self.note(Event::WorkerExited { worker: id, status });
    }
}
