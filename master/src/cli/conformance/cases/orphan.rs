//! When the connection ends: serve on, come back, or leave in the end (SPEC 5.5, 6.1.2, 6.14).

use std::thread;
use std::time::{Duration, Instant};

use dutch_master_protocol::message::{ErrorMessage, FromMaster, FromWorker, Hello, ResumeState, ReturnListener, Welcome, codes};

use crate::cli::conformance::case::{Case, Verdict, differs, must, untested};
use crate::cli::conformance::peer::Heard;
use crate::cli::conformance::steps::{TIMEOUT_MS, answered, begun, said};
use crate::cli::conformance::trial::Trial;

/// Short enough to wait for, and longer than a worker needs to notice that its master is gone.
const ORPHAN: Duration = Duration::from_millis(1_500);

/// How often a worker may try to come back in so long: delays that grow to half a second make it about ten times.
const KNOCKS_MAX: usize = 50;
const KNOCKS_WATCHED: Duration = Duration::from_secs(2);

/// How long a worker without a time limit is watched.
const WATCHED: Duration = Duration::from_millis(1_000);

pub(super) const CASES: &[Case] = &[
    must("5.5.1", "serves on when its master is gone, for ever without `orphan_timeout_ms`", serves_on),
    must("5.5.2", "leaves after the orphan timeout, and serves until then", leaves),
    must("5.5.3/refused", "drains and exits when `resume` is refused", |trial| resume_refused(trial, codes::RESUME_REFUSED)),
    must("5.5.3/bad-token", "drains and exits when its token is of no worker any more", |trial| resume_refused(trial, codes::BAD_TOKEN)),
    must("5.5.3/mistaken", "drains and exits when it is taken for another worker", mistaken),
    must("5.5.3/orphan", "leaves after the orphan timeout when no master takes it back, and serves until then", nobody_comes),
    must("5.5.3/pace", "tries again and again to come back, but not all the time", knocks),
    must("5.5.3/superseded", "does not come back after `superseded`, and serves on", superseded),
    must("5.5.3/draining", "says what is left of its time when it comes back while it drains", drains_on),
    must("5.5.6", "finishes draining when the connection ends after an order", order_stands),
    must("6.1.2", "comes back with `resume`, and is the same worker", resumes),
    must("6.12/last-words", "takes an `error` without `seq` for the end of its connection", last_words),
    must("6.14", "gives its listener back, and keeps its own", returns),
    must("6.14/not-held", "says `EBADF` for a listener that it does not hold", returns_nothing),
];

fn serves_on(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let old = trial.tested.path.is_some().then(|| trial.kept_alive());
    trial.leave()?;
    thread::sleep(WATCHED);
    let Some(old) = old else { return lives(trial) };
    answered(trial.client()?.get())?;
    old.map_or(Ok(()), |mut old| answered(old.get()).map(drop))
}

fn lives(trial: &mut Trial<'_>) -> Verdict {
    let exit = trial.process()?.exit(Duration::ZERO)?;
    exit.map_or(Ok(()), |status| differs("a worker that lives on", format!("its end ({status})")))
}

fn leaves(trial: &mut Trial<'_>) -> Verdict {
    trial.welcome_with(|welcome| Welcome { orphan_timeout_ms: millis(ORPHAN), ..welcome })?;
    trial.listening()?;
    trial.leave()?;
    leaves_in_time(trial)
}

/// It serves on, and ends by the orphan timeout.
fn leaves_in_time(trial: &mut Trial<'_>) -> Verdict {
    thread::sleep(ORPHAN / 3);
    if trial.tested.path.is_some() {
        answered(trial.client()?.get())?;
    } else {
        lives(trial)?;
    }
    trial.exit().map(drop)
}

fn millis(duration: Duration) -> Option<u64> {
    u64::try_from(duration.as_millis()).ok()
}

fn order_stands(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    if trial.tested.path.is_none() {
        trial.restart()?;
        trial.leave()?;
        return trial.exit().map(drop);
    }
    let mut client = trial.client()?;
    let rest = begun(&mut client)?;
    answered(trial.client()?.get())?;
    trial.restart()?;
    trial.stopped_accepting()?;
    trial.leave()?;
    answered(client.send(&rest).and_then(|()| client.response()))?;
    drop(client);
    trial.exit().map(drop)
}

fn last_words(trial: &mut Trial<'_>) -> Verdict {
    trial.welcome_with(|welcome| Welcome { orphan_timeout_ms: millis(ORPHAN), ..welcome })?;
    trial.listening()?;
    trial.say(&refusal(codes::LIMIT))?;
    // The kit keeps the connection open: its words are what counts.
    leaves_in_time(trial)
}

/// A running worker that offers `resume`, to a master that does, too.
fn resuming(trial: &mut Trial<'_>) -> Verdict {
    offers_resume(trial)?;
    trial.say_welcome_to_resume()?;
    trial.listening()
}

fn offers_resume(trial: &mut Trial<'_>) -> Verdict {
    let hello = trial.hello()?;
    if hello.features.iter().any(|feature| feature == "resume") { Ok(()) } else { untested("the worker does not announce `resume`") }
}

impl Trial<'_> {
    fn welcome_to_resume(&self) -> Welcome {
        Welcome { features: vec!["resume".into()], orphan_timeout_ms: Some(60_000), ..self.default_welcome() }
    }

    fn say_welcome_to_resume(&mut self) -> Verdict {
        self.say(&FromMaster::Welcome(self.welcome_to_resume()))
    }

    /// The worker's `hello` after its connection ended.
    fn comes_back(&mut self) -> Verdict<Hello> {
        self.hang_up();
        let patience = self.patience();
        if self.connects_again(patience)? { self.hello() } else { differs("a new connection", "none") }
    }
}

fn resumes(trial: &mut Trial<'_>) -> Verdict {
    resuming(trial)?;
    let hello = trial.comes_back()?;
    let keys: Vec<_> = trial.given().iter().map(|given| given.message.key.clone()).collect();
    let Some(resume) = hello.resume else { return differs("`hello` with `resume`", "one without") };
    if hello.token.as_deref() != Some(trial.token()) {
        return differs("the same token", "another");
    }
    if (resume.generation, resume.state) != (1, ResumeState::Running) || resume.keys != keys {
        return differs(
            format!("generation 1, running, with {keys:?}"),
            format!("generation {}, {:?}, with {:?}", resume.generation, resume.state, resume.keys),
        );
    }
    trial.say_welcome_to_resume()?;
    trial.restart()?;
    trial.drained()
}

fn refusal(code: &str) -> FromMaster {
    FromMaster::Error(ErrorMessage { seq: None, code: code.into(), message: "tried by the conformance kit".into() })
}

fn resume_refused(trial: &mut Trial<'_>, code: &str) -> Verdict {
    resuming(trial)?;
    trial.comes_back()?;
    trial.say(&refusal(code))?;
    trial.hang_up();
    trial.exit().map(drop)
}

fn mistaken(trial: &mut Trial<'_>) -> Verdict {
    resuming(trial)?;
    trial.comes_back()?;
    let welcome = trial.welcome_to_resume();
    trial.say(&FromMaster::Welcome(Welcome { worker: welcome.worker + 1, ..welcome }))?;
    trial.exit().map(drop)
}

fn nobody_comes(trial: &mut Trial<'_>) -> Verdict {
    offers_resume(trial)?;
    let welcome = trial.welcome_to_resume();
    trial.say(&FromMaster::Welcome(Welcome { orphan_timeout_ms: millis(ORPHAN), ..welcome }))?;
    trial.listening()?;
    trial.leave()?;
    leaves_in_time(trial)
}

fn knocks(trial: &mut Trial<'_>) -> Verdict {
    resuming(trial)?;
    trial.hang_up();
    let (until, mut attempts) = (Instant::now() + KNOCKS_WATCHED, 0);
    while trial.connects_again(until.saturating_duration_since(Instant::now()))? {
        trial.hang_up();
        attempts += 1;
    }
    if (2..=KNOCKS_MAX).contains(&attempts) {
        return Ok(());
    }
    differs(format!("2 to {KNOCKS_MAX} attempts to connect in {} s", KNOCKS_WATCHED.as_secs()), format!("{attempts}"))
}

fn superseded(trial: &mut Trial<'_>) -> Verdict {
    resuming(trial)?;
    trial.say(&refusal(codes::SUPERSEDED))?;
    trial.hang_up();
    if trial.connects_again(WATCHED)? {
        return differs("a worker that does not connect again", "a connection");
    }
    if trial.tested.path.is_some() { answered(trial.client()?.get()).map(drop) } else { lives(trial) }
}

fn drains_on(trial: &mut Trial<'_>) -> Verdict {
    resuming(trial)?;
    // Half a request keeps it from being drained at once.
    let mut client = trial.client()?;
    let rest = begun(&mut client)?;
    answered(trial.client()?.get())?;
    trial.restart()?;
    trial.stopped_accepting()?;
    trial.hang_up();
    let patience = trial.patience();
    if !trial.connects_again(patience)? {
        return untested("the worker does not come back while it drains, as it may (5.5.6)");
    }
    let Some(resume) = trial.hello()?.resume else { return differs("`hello` with `resume`", "one without") };
    match (resume.state, resume.remaining_ms) {
        (ResumeState::Draining, Some(1..=TIMEOUT_MS)) => {}
        (state, remaining) => return differs(format!("draining, with at most {TIMEOUT_MS} ms"), format!("{state:?}, with {remaining:?}")),
    }
    trial.say_welcome_to_resume()?;
    answered(client.send(&rest).and_then(|()| client.response()))?;
    drop(client);
    trial.drained()
}

fn returns(trial: &mut Trial<'_>) -> Verdict {
    resuming(trial)?;
    let Some(key) = trial.given().first().map(|given| given.message.key.clone()) else { return untested("the worker asks for no listener") };
    trial.say(&FromMaster::ReturnListener(ReturnListener { seq: 7, key: key.clone() }))?;
    match trial.hear()? {
        Heard::Message(FromWorker::Listener(listener)) if (listener.seq, &listener.key, listener.fds) == (7, &key, 1) => {}
        other => return differs("`listener` with this `seq` and `key` and one descriptor", said(&other)),
    }
    let patience = trial.patience();
    drop(trial.connected()?.descriptor(patience)?);
    if trial.tested.path.is_some() {
        answered(trial.client()?.get())?;
    }
    trial.restart()?;
    trial.drained()
}

fn returns_nothing(trial: &mut Trial<'_>) -> Verdict {
    resuming(trial)?;
    trial.say(&FromMaster::ReturnListener(ReturnListener { seq: 8, key: "kit-no-such-key".into() }))?;
    match trial.hear()? {
        Heard::Message(FromWorker::Error(error)) if (error.seq, error.code.as_str()) == (Some(8), "EBADF") => Ok(()),
        other => differs("`error` with this `seq` and the code `EBADF`", said(&other)),
    }
}
