//! Becoming running, being told to go, and going (SPEC 5.2, 5.4, 6).

use std::time::{Duration, Instant};

use dutch_master_protocol::message::{DisconnectReason, ErrorMessage, FromMaster, FromWorker, Listen};
use nix::sys::signal::Signal;

use crate::cli::conformance::case::{Case, Verdict, differs, must, should, untested};
use crate::cli::conformance::manner::plain;
use crate::cli::conformance::peer::Heard;
use crate::cli::conformance::steps::{TIMEOUT_MS, said};
use crate::cli::conformance::trial::Trial;

/// Most messages of an idle worker in this time, without those of a heartbeat.
const PACE: (usize, Duration) = (100, Duration::from_millis(700));

/// Announced where a longer time must not count.
const SHORT_MS: u64 = 2_000;

/// How much later than announced a worker may be on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

pub(super) const CASES: &[Case] = &[
    must("5.2.1", "gets its listener and says `listening`", |trial| trial.running()),
    should("6.2", "ends with a status other than 0 when it is refused its listener", refused),
    must("5.2/starting", "goes when it is told to while it is starting", told_while_starting),
    must("5.2/going", "says `disconnect` when it was told to go", |trial| {
        trial.running()?;
        trial.restart()?;
        trial.drained()
    }),
    should("5.2.3", "exits by itself when it is drained", exits_by_itself),
    must("5.2.5/term", "goes at once when SIGTERM follows the order", term_after_the_order),
    must("5.4.2/longer", "keeps the earlier end when a second order has a longer time", longer),
    should("5.4.2/shorter", "drains faster when a second order has a shorter time", shorter),
    must("6.7", "says nothing after `disconnect`", last_word),
    must("6.13/at-once", "goes at once with a `timeout_ms` of 0", at_once),
    must("6.8", "sends a `heartbeat` as often as it is told to", heartbeat),
    must("9/pace", "does not flood its master", pace),
];

fn told_while_starting(trial: &mut Trial<'_>) -> Verdict {
    trial.hello()?;
    let welcome = FromMaster::Welcome(trial.default_welcome());
    let order = FromMaster::Disconnect(dutch_master_protocol::message::Disconnect { reason: DisconnectReason::Restart, timeout_ms: 3_000 });
    trial.send(&[plain(&welcome).concat(), plain(&order).concat()].concat())?;
    let until = Instant::now() + trial.patience();
    loop {
        match trial.hear_within(until.saturating_duration_since(Instant::now()))? {
            Heard::Message(FromWorker::Disconnect(_)) | Heard::End => return Ok(()),
            // It had not read the order yet.
            Heard::Message(FromWorker::Listen(listen)) => trial.give(&listen)?,
            Heard::Message(FromWorker::Listening(_)) => {}
            other => return differs("`disconnect`", said(&other)),
        }
    }
}

fn refused(trial: &mut Trial<'_>) -> Verdict {
    let refusal =
        |listen: Listen| FromMaster::Error(ErrorMessage { seq: Some(listen.seq), code: "EADDRINUSE".into(), message: "refused by the conformance kit".into() });
    trial.welcome()?;
    let first = trial.asks()?;
    trial.say(&refusal(first))?;
    loop {
        match trial.hear()? {
            // It may try again; that is its matter.
            Heard::Message(FromWorker::Listen(again)) => trial.say(&refusal(again))?,
            Heard::Message(FromWorker::Leaving(_) | FromWorker::Disconnect(_) | FromWorker::Error(_)) => {}
            Heard::End => break,
            other => return differs("its end", said(&other)),
        }
    }
    let patience = trial.patience();
    trial.fails_within(patience)
}

fn exits_by_itself(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    trial.restart()?;
    trial.drained()?;
    trial.exit().map(drop)
}

fn term_after_the_order(trial: &mut Trial<'_>) -> Verdict {
    let _client = trial.busy()?;
    trial.ordered(TIMEOUT_MS)?;
    trial.process()?.signal(Signal::SIGTERM);
    trial.exit().map(drop)
}

fn longer(trial: &mut Trial<'_>) -> Verdict {
    let _client = trial.busy()?;
    trial.ordered(SHORT_MS)?;
    trial.order(DisconnectReason::Stop, TIMEOUT_MS)?;
    trial.drained_within(Duration::from_millis(SHORT_MS) + SLACK)
}

fn shorter(trial: &mut Trial<'_>) -> Verdict {
    let _client = trial.busy()?;
    trial.ordered(TIMEOUT_MS)?;
    trial.order(DisconnectReason::Restart, 1_000)?;
    trial.drained_within(Duration::from_secs(1) + SLACK)
}

fn last_word(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    trial.restart()?;
    trial.drained()?;
    match trial.connected()?.hear(Duration::from_millis(300))? {
        Heard::End | Heard::Silence => Ok(()),
        other => differs("nothing after `disconnect`", said(&other)),
    }
}

fn at_once(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let _idle = trial.tested.path.is_some().then(|| trial.kept_alive());
    trial.order(DisconnectReason::Stop, 0)?;
    match trial.hear_within(SLACK)? {
        Heard::Message(FromWorker::Disconnect(_)) | Heard::End => Ok(()),
        other => differs(format!("`disconnect` within {} s", SLACK.as_secs()), said(&other)),
    }
}

fn heartbeat(trial: &mut Trial<'_>) -> Verdict {
    const EVERY: Duration = Duration::from_millis(200);
    let hello = trial.hello()?;
    if !hello.features.iter().any(|feature| feature == "heartbeat") {
        return untested("the worker does not announce `heartbeat`");
    }
    let mut welcome = trial.default_welcome();
    (welcome.heartbeat_ms, welcome.features) = (Some(200), vec!["heartbeat".into()]);
    trial.say(&FromMaster::Welcome(welcome))?;
    trial.listening()?;
    // Three times as long without one, and the master may take it for lost.
    for _ in 0..5 {
        match trial.connected()?.hear(3 * EVERY)? {
            Heard::Message(FromWorker::Heartbeat(_)) => {}
            other => return differs("`heartbeat` at least every 600 ms, when told every 200", said(&other)),
        }
    }
    Ok(())
}

fn pace(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let (most, time) = PACE;
    let until = Instant::now() + time;
    for _ in 0..most {
        match trial.connected()?.hear::<FromWorker>(until.saturating_duration_since(Instant::now()))? {
            Heard::Silence => return Ok(()),
            Heard::End => return differs("a connection that stays", "its end"),
            Heard::Message(_) => {}
        }
    }
    differs(format!("at most {most} messages in {} ms from a worker that nothing happens to", time.as_millis()), "more")
}
