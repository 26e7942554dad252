//! Draining without a failed request (SPEC 12.2 to 12.5).

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use dutch_master_protocol::message::DisconnectReason;

use crate::cli::conformance::case::{Case, Verdict, differs, must, untested};
use crate::cli::conformance::http::{Client, Response};
use crate::cli::conformance::peer::readable;
use crate::cli::conformance::steps::{TIMEOUT_MS, answered, begun, sent};
use crate::cli::conformance::trial::Trial;

/// A worker that ends idle connections at once has done it by then.
const SOON: Duration = Duration::from_millis(600);

/// The longest idle grace that is waited for.
const GRACE_MAX: Duration = Duration::from_secs(8);

/// What a client sends so soon after the end of its connection is still read.
const UNNOTICED: Duration = Duration::from_millis(100);

/// Announced where the end of the time is waited for.
const SHORT_MS: u64 = 3_000;

/// How much later than announced a worker may be on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

pub(super) const CASES: &[Case] = &[
    must("12.2.1", "finishes a request that is in flight", in_flight),
    must("12.2.2", "says `Connection: close` with the next response of a connection", says_close),
    must("12.2.3", "serves a connection from which no request has come yet", no_request_yet),
    must("12.2.3/grace", "serves such a connection also when idle ones have ended", |trial| outlasts_the_idle(trial, false)),
    must("12.2.4", "does not take a connection for idle from which a part of a request has come", |trial| outlasts_the_idle(trial, true)),
    must("12.3", "leaves idle connections open for a while", idle),
    must("12.3/end", "ends an idle connection without a reset", idle_ends),
    must("12.4", "does not reset a connection with its last response on the way", pipelined),
    must("12.4/linger", "reads on for a while when it has ended a connection", lingers),
    must("12.5.1", "is drained by the announced timeout, whatever its clients do", in_time),
];

/// A response that says that it is the last one, and then an orderly end.
fn last(client: &mut Client, response: Result<Response, String>) -> Verdict {
    if !answered(response)? {
        return differs("`Connection: close` with the response", "a response without");
    }
    ends(client)
}

fn ends(client: &mut Client) -> Verdict {
    client.end().or_else(|error| differs("the end of the connection, without a reset", error))
}

fn in_flight(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let mut client = trial.client()?;
    let rest = begun(&mut client)?;
    // Connections are accepted in order: when this one is answered, the other is in the worker's hands.
    answered(trial.client()?.get())?;
    trial.ordered(TIMEOUT_MS)?;
    sent(client.send(&rest))?;
    answered(client.response())?;
    drop(client);
    trial.drained()
}

fn says_close(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let mut client = trial.kept_alive()?;
    let rest = begun(&mut client)?;
    trial.ordered(TIMEOUT_MS)?;
    sent(client.send(&rest))?;
    let response = client.response();
    last(&mut client, response)
}

fn no_request_yet(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let mut client = trial.client()?;
    answered(trial.client()?.get())?;
    trial.ordered(TIMEOUT_MS)?;
    std::thread::sleep(SOON);
    let response = client.get();
    last(&mut client, response)
}

/// A connection that is busy, with a part of a request or none yet, and another one that is idle: when this one's grace is over, the first is served all the same.
fn outlasts_the_idle(trial: &mut Trial<'_>, is_begun: bool) -> Verdict {
    trial.running()?;
    let mut idle = trial.kept_alive()?;
    let mut busy = if is_begun { trial.kept_alive()? } else { trial.client()? };
    let rest = if is_begun { begun(&mut busy)? } else { busy.request() };
    answered(trial.client()?.get())?;
    trial.ordered(TIMEOUT_MS)?;
    if !readable(idle.stream().as_fd(), Instant::now() + GRACE_MAX)? {
        return untested(format!("idle connections stay open for more than {} s", GRACE_MAX.as_secs()));
    }
    ends(&mut idle)?;
    std::thread::sleep(SOON);
    sent(busy.send(&rest))?;
    let response = busy.response();
    last(&mut busy, response)
}

fn idle(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let mut client = trial.kept_alive()?;
    trial.ordered(TIMEOUT_MS)?;
    std::thread::sleep(SOON);
    let response = client.get();
    last(&mut client, response)
}

fn idle_ends(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let mut client = trial.kept_alive()?;
    trial.order(DisconnectReason::Restart, 8_000)?;
    let until = Instant::now() + Duration::from_secs(8) + SLACK;
    if !readable(client.stream().as_fd(), until)? {
        return differs("the end of an idle connection within the announced 8 s", "nothing");
    }
    ends(&mut client)?;
    drop(client);
    trial.drained()
}

fn pipelined(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let mut client = trial.kept_alive()?;
    let rest = begun(&mut client)?;
    trial.ordered(TIMEOUT_MS)?;
    // A client that does not wait: its second request is unread when the first response closes.
    sent(client.send(&(rest + &client.request())))?;
    answered(client.response())?;
    ends(&mut client)
}

fn lingers(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let mut client = trial.kept_alive()?;
    let rest = begun(&mut client)?;
    trial.ordered(TIMEOUT_MS)?;
    sent(client.send(&rest))?;
    let response = client.response();
    last(&mut client, response)?;
    // A client that has not noticed the end says more. A connection that is closed already answers with a reset, which the next write reports.
    sent(client.send(&client.request()))?;
    std::thread::sleep(UNNOTICED);
    client.send("\r\n").or_else(|error| differs("a connection that is read for a while after its end", error))
}

fn in_time(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let mut stuck = trial.client()?;
    begun(&mut stuck)?;
    answered(trial.client()?.get())?;
    trial.order(DisconnectReason::Restart, SHORT_MS)?;
    trial.drained_within(Duration::from_millis(SHORT_MS) + SLACK)
}
