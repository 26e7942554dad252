//! Requests whose outcome is waited for: `restart`, `stop` and `scale`. Progress goes to standard error as it comes.

use std::path::Path;
use std::time::Duration;

use dutch_master_protocol::control::{Accepted, Done, FromControl, Progress, ToControl};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout_at};

use super::args::Waiting;
use super::client::{Client, ClientError};
use super::print::note;
use super::status::harmless;

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until the request was taken up.
    None,
    /// Until then.
    Limited(Instant),
    /// Until it ends.
    Endless,
}

impl Patience {
    fn deadline(self) -> Option<Instant> {
        match self {
            Patience::Limited(until) => Some(until),
            Patience::None | Patience::Endless => None,
        }
    }
}

impl From<&Waiting> for Patience {
    fn from(waiting: &Waiting) -> Patience {
        match waiting.timeout {
            _ if waiting.no_wait => Patience::None,
            Some(limit) => Instant::now().checked_add(limit).map_or(Patience::Endless, Patience::Limited),
            None => Patience::Endless,
        }
    }
}

/// How the waiting ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The request was taken up, and no more was wanted.
    TakenUp(Accepted),
    /// The master said how it ended.
    Told(Accepted, Done),
    /// There is no outcome.
    Unknown(Why),
}

/// Why there is no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The master ended the connection first.
    Gone,
    /// It takes longer than was wanted.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
}

/// A request on its way.
pub(super) struct Pending {
    client: Client,
    interrupt: Signal,
    /// Progress is not shown.
    quiet: bool,
}

impl Pending {
    /// A connection on which nothing has been asked yet. Where there is a limit to the waiting, it is one to that for the master's first word as well.
    /// From then on it takes Ctrl-C, which ends the waiting, and never what was asked for.
    pub(super) async fn connect(socket: &Path, patience: Patience, quiet: bool) -> Result<Pending, ClientError> {
        let limit = patience.deadline().map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        Ok(Pending { client: Client::connect_within(socket, limit).await?, interrupt: signal(SignalKind::interrupt())?, quiet })
    }

    fn show(&self, progress: &Progress) {
        if !self.quiet {
            note(&line(progress));
        }
    }

    /// Asks, and waits for the outcome.
    pub(super) async fn outcome(&mut self, request: &FromControl, patience: Patience) -> Result<End, ClientError> {
        let deadline = patience.deadline();
        let Some(taken_up) = within(deadline, self.client.ask(request)).await else { return Ok(End::Unknown(Why::TimedOut)) };
        let mut answer = Some(taken_up?);
        let mut accepted = Accepted::default();
        loop {
            match answer {
                Some(ToControl::Accepted(taken_up)) if patience == Patience::None => return Ok(End::TakenUp(taken_up)),
                Some(ToControl::Accepted(taken_up)) => accepted = taken_up,
                Some(ToControl::Progress(progress)) => self.show(&progress),
                Some(ToControl::Done(done)) => return Ok(End::Told(accepted, done)),
                Some(
                    ToControl::Welcome(_)
                    | ToControl::Pool(_)
                    | ToControl::Worker(_)
                    | ToControl::Listener(_)
                    | ToControl::MetricsText(_)
                    | ToControl::Error(_)
                    | ToControl::Unknown,
                ) => {
                    return Err(ClientError::Unexpected);
                }
                None => return Ok(End::Unknown(Why::Gone)),
            }
            answer = tokio::select! {
                biased;
                _ = self.interrupt.recv() => return Ok(End::Unknown(Why::Interrupted)),
                answer = within(deadline, self.client.next()) => match answer {
                    Some(answer) => answer?,
                    None => return Ok(End::Unknown(Why::TimedOut)),
                },
            };
        }
    }

    /// Waits until the master's process has ended: the connection ends with it.
    pub(super) async fn gone(&mut self, patience: Patience) -> Result<Why, ClientError> {
        let deadline = patience.deadline();
        loop {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => return Ok(Why::Interrupted),
                answer = within(deadline, self.client.next()) => match answer.transpose()? {
                    Some(Some(ToControl::Progress(progress))) => self.show(&progress),
                    Some(Some(_)) => {}
                    Some(None) => return Ok(Why::Gone),
                    None => return Ok(Why::TimedOut),
                },
            }
        }
    }
}

/// `None`: the deadline came first.
async fn within<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

/// Progress as people read it, without what a terminal would obey: a worker may have given the reason.
pub(super) fn line(progress: &Progress) -> String {
    let worker = progress.worker.map_or(String::new(), |id| format!(" (worker {id})"));
    let detail = progress.detail.as_ref().map_or(String::new(), |detail| format!(": {detail}"));
    harmless(&format!("{}{worker}{detail}", progress.message))
}
