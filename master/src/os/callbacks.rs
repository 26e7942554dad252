//! What a program that embeds the master decides anew for each worker and each restart. The loop asks and goes on; the answer comes from any thread, and one that does not come in time is a failure.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tracing::{error, info};

use super::clock;
use super::event_loop::EventLoop;
use super::request::Request;
use crate::core::{Directory, HOOK_TIMEOUT_MS, Ticket, Time, WorkerId};

/// Asks the embedding program for a `T`. It is called from the master's loop, and must not wait.
type Callback<T> = Box<dyn FnMut(Answer<T>) + Send>;

/// Functions of the embedding program.
#[derive(Default)]
pub struct Callbacks {
    /// Asked before each spawn, in place of the option of that name, one worker after the other.
    pub before_fork: Option<Callback<Surroundings>>,
    /// Asked before the first start and before each rolling restart.
    pub evaluate: Option<Callback<Evaluated>>,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callbacks {{ before_fork: {}, evaluate: {} }}", self.before_fork.is_some(), self.evaluate.is_some())
    }
}

/// Where workers start, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The directory, links and all; the option `dir` is seen from there.
    pub directory: PathBuf,
    /// In place of this process's own environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// What holds for a whole generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated {
    /// In place of the option of that name.
    pub num_workers: u32,
    /// As things are now.
    pub surroundings: Surroundings,
}

/// To be given within 30 seconds, once; not to give it is a failure too.
#[derive(Debug)]
pub struct Answer<T>(oneshot::Sender<Result<T, String>>);

impl<T> Answer<T> {
    /// Answers; an error says for people which function failed and how.
    pub fn give(self, answer: Result<T, String>) {
        // Whoever asked may have gone on without it.
        let _ = self.0.send(answer);
    }
}

/// An answer that may not have come yet.
#[derive(Debug)]
pub(super) struct Pending<T> {
    receiver: oneshot::Receiver<Result<T, String>>,
    answer: Option<Result<T, String>>,
}

/// Asks.
pub(super) fn ask<T>(callback: &mut Callback<T>) -> Pending<T> {
    let (sender, receiver) = oneshot::channel();
    callback(Answer(sender));
    Pending { receiver, answer: None }
}

impl<T> Pending<T> {
    /// Ready when the answer is there.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.answer.is_none()
            && let Poll::Ready(answer) = Future::poll(Pin::new(&mut self.receiver), cx)
        {
            self.answer = Some(answer.unwrap_or_else(|_| none_given()));
        }
        if self.answer.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether the answer is there, known to the runtime or not.
    pub(super) fn has_ended(&mut self) -> bool {
        if self.answer.is_none() {
            self.answer = match self.receiver.try_recv() {
                Ok(answer) => Some(answer),
                Err(oneshot::error::TryRecvError::Closed) => Some(none_given()),
                Err(oneshot::error::TryRecvError::Empty) => None,
            };
        }
        self.answer.is_some()
    }

    /// The answer, if it is there.
    pub(super) fn answer(self) -> Result<T, String> {
        self.answer.unwrap_or_else(none_given)
    }
}

fn none_given<T>() -> Result<T, String> {
    Err("the embedding program did not answer".into())
}

fn too_late() -> String {
    format!("the size was not evaluated within {} s", HOOK_TIMEOUT_MS / 1_000)
}

/// Asks before there is a loop. `None`: there is nobody to ask. An error is the exit code of a master that was stopped meanwhile, or cannot be started.
pub(super) async fn first(callbacks: &mut Callbacks, requests: &mut Receiver<Request>) -> Result<Option<Evaluated>, u8> {
    let Some(callback) = &mut callbacks.evaluate else { return Ok(None) };
    let pending = ask(callback);
    let answer = async { tokio::time::timeout(Duration::from_millis(HOOK_TIMEOUT_MS), pending.receiver).await };
    tokio::pin!(answer);
    loop {
        tokio::select! {
            answer = &mut answer => {
                let evaluated = answer.unwrap_or_else(|_| Ok(Err(too_late()))).unwrap_or_else(|_| none_given());
                return evaluated.map(Some).map_err(|reason| {
                    error!(reason, "Cluster could not be started");
                    1
                });
            }
            Some(request) = requests.recv() => match request {
                Request::Stop { signal } => {
                    info!(signal, "Shutdown requested");
                    info!("Cluster shutdown cleanly");
                    return Err(0);
                }
                Request::Abandon => return Err(1),
                // What is about to start is new already, and has no other size yet.
                Request::Restart { .. } | Request::Reload { .. } | Request::Scale { .. } | Request::Upgrade { .. } | Request::ReapOrphans => {}
            },
        }
    }
}

/// The restarts that wait for an evaluation.
#[derive(Debug, Default)]
pub(super) struct Evaluation {
    running: Option<Running>,
    /// Asked for after the running one had begun: they get another.
    waiting: BTreeSet<Ticket>,
}

#[derive(Debug)]
struct Running {
    pending: Pending<Evaluated>,
    deadline: Time,
    tickets: BTreeSet<Ticket>,
}

impl Evaluation {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.running.as_mut().map_or(Poll::Pending, |running| running.pending.poll(cx))
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.running.as_ref().map(|running| running.deadline)
    }
}

impl EventLoop {
    /// Whether this restart waits until its size was evaluated.
    pub(super) fn evaluate_first(&mut self, ticket: Ticket) -> bool {
        let has_to = self.callbacks.evaluate.is_some();
        if has_to {
            self.evaluation.waiting.insert(ticket);
            self.evaluate_next();
        }
        has_to
    }

    fn evaluate_next(&mut self) {
        let Evaluation { running, waiting } = &mut self.evaluation;
        if let Some(callback) = &mut self.callbacks.evaluate
            && running.is_none()
            && !waiting.is_empty()
        {
            *running = Some(Running { pending: ask(callback), deadline: clock::now().after(HOOK_TIMEOUT_MS), tickets: std::mem::take(waiting) });
        }
    }

    /// The embedding program may have answered.
    pub(super) fn evaluation_ended(&mut self) {
        if let Some(run) = self.evaluation.running.take_if(|running| running.pending.has_ended()) {
            self.evaluated(run.tickets, run.pending.answer());
        }
    }

    pub(super) fn evaluation_expired(&mut self, now: Time) {
        if let Some(run) = self.evaluation.running.take_if(|running| running.deadline <= now) {
            self.evaluated(run.tickets, Err(too_late()));
        }
    }

    fn evaluated(&mut self, tickets: BTreeSet<Ticket>, answer: Result<Evaluated, String>) {
        match answer {
            Ok(Evaluated { num_workers, surroundings }) => {
                self.surroundings = Some(surroundings);
                for ticket in tickets {
                    self.begin_restart(ticket, num_workers);
                }
            }
            Err(reason) => {
                self.say_restart_refused(&reason);
                for ticket in tickets {
                    self.restart_impossible(ticket, &reason);
                }
            }
        }
        self.evaluate_next();
    }

    /// Before this worker's start, the embedding program has said where it is to be.
    pub(super) fn moved(&mut self, worker: WorkerId, surroundings: Surroundings) {
        self.surroundings = Some(surroundings);
        let Some(worker) = self.workers.get(worker) else { return };
        if worker.directory == Directory::Live {
            let options = self.options_of(worker.generation);
            let (directory, environment) = (self.directory_of(options), self.environment_of(options));
            self.snapshots.moved(worker.generation, directory, environment);
        }
    }
}
