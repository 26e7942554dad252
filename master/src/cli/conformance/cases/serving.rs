//! Serving, and what becomes of the shared listener (SPEC 5.2, 6.3, 11, 12.1).

use std::time::{Duration, Instant};

use dutch_master_protocol::message::{DisconnectReason, FromMaster, FromWorker, MAX_REQUESTS_REASON, Welcome, features};
use nix::sys::signal::Signal;

use crate::cli::conformance::case::{Case, Verdict, differs, must, should, untested};
use crate::cli::conformance::http::Client;
use crate::cli::conformance::peer::{Heard, readable};
use crate::cli::conformance::steps::{TIMEOUT_MS, answered, said};
use crate::cli::conformance::trial::Trial;

use super::descriptors::lets_go;

/// A connection that nobody has taken after this time is not taken by the worker.
const UNTOUCHED: Duration = Duration::from_millis(300);

/// Connections that wait when a stop comes.
const QUEUED: usize = 8;

pub(super) const CASES: &[Case] = &[
    must("5.2/serves", "serves once it has said `listening`", |trial| {
        trial.running()?;
        answered(trial.client()?.get()).map(drop)
    }),
    must("6.5/max-requests", "asks once to be replaced when it has answered as many requests as it may", counts_requests),
    should("6.3", "says `close` for its listener as soon as it has stopped accepting", says_close),
    must("11/shutdown", "leaves its listener open for others when it goes", left_open),
    must("12.1.1", "accepts what waits before it goes, when the master stops", accepts_what_waits),
    must("12.1.2", "accepts nothing more when it was told to go, however long it drains", accepts_no_more),
    must("12.1.2/closed", "closes its own copy of the listener, however long it drains", closes_its_own),
];

fn counts_requests(trial: &mut Trial<'_>) -> Verdict {
    const LIMIT: u64 = 3;
    if !trial.hello()?.features.iter().any(|feature| feature == features::MAX_REQUESTS) {
        return untested("the worker does not announce `max-requests`");
    }
    let welcome = trial.default_welcome();
    trial.say(&FromMaster::Welcome(Welcome { max_requests: Some(LIMIT), features: vec![features::MAX_REQUESTS.into()], ..welcome }))?;
    trial.listening()?;
    let mut asked = 0;
    for nth in 1..=2 * LIMIT {
        answered(trial.client()?.get())?;
        let patience = if nth == LIMIT { trial.patience() } else { Duration::from_millis(50) };
        match trial.connected()?.hear(patience)? {
            Heard::Silence => {}
            Heard::Message(FromWorker::RequestRestart(request)) if request.reason.as_deref() == Some(MAX_REQUESTS_REASON) => asked += 1,
            other => return differs("`request-restart` with the reason `max-requests`", said(&other)),
        }
        if asked != u64::from(nth >= LIMIT) {
            return differs(format!("`request-restart` once, after {LIMIT} requests"), format!("{asked} of them after {nth}"));
        }
    }
    Ok(())
}

fn says_close(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let keys: Vec<_> = trial.given().iter().map(|given| given.message.key.clone()).collect();
    if keys.is_empty() {
        return untested("the worker asks for no listener");
    }
    trial.restart()?;
    trial.drained()?;
    if keys.iter().all(|key| trial.closed.contains(key)) { Ok(()) } else { differs(format!("`close` for {keys:?}"), format!("{:?}", trial.closed)) }
}

/// Told to go and held back by a request, so that connections which are none of its business find it alive.
fn going(trial: &mut Trial<'_>) -> Verdict<Option<Client>> {
    let busy = trial.busy()?;
    trial.ordered(TIMEOUT_MS)?;
    Ok(busy)
}

/// A connection of the kit waits for the kit to accept it.
fn taken_by_the_kit(trial: &Trial<'_>) -> Verdict<bool> {
    let Some(given) = trial.given().iter().find(|given| given.is_stream()) else { return untested("the worker asks for no listener") };
    let connected = given.connect(trial.patience());
    if let Err(error) = connected {
        return differs("a listener that takes connections", error.to_string());
    }
    std::thread::sleep(UNTOUCHED);
    Ok(readable(given.fd(), Instant::now())? && given.accept().is_ok())
}

fn left_open(trial: &mut Trial<'_>) -> Verdict {
    let _busy = going(trial)?;
    taken_by_the_kit(trial).map(drop)
}

fn accepts_no_more(trial: &mut Trial<'_>) -> Verdict {
    let _busy = going(trial)?;
    if taken_by_the_kit(trial)? { Ok(()) } else { differs("a connection that waits for other workers", "one that this worker took") }
}

fn closes_its_own(trial: &mut Trial<'_>) -> Verdict {
    let _busy = going(trial)?;
    lets_go(trial, 0)
}

fn accepts_what_waits(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    // Stopped, it finds all connections and the order at once.
    trial.process()?.signal(Signal::SIGSTOP);
    let clients: Verdict<Vec<_>> = (0..QUEUED).map(|_| trial.client()).collect();
    trial.order(DisconnectReason::Stop, TIMEOUT_MS)?;
    trial.process()?.signal(Signal::SIGCONT);
    for (nth, mut client) in clients?.into_iter().enumerate() {
        if let Err(fault) = answered(client.get()) {
            return differs(format!("a response on each of {QUEUED} connections that waited"), format!("on the {}. one: {fault}", nth + 1));
        }
    }
    trial.drained()
}
