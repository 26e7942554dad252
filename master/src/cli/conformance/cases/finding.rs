//! Finding the master and saying hello (SPEC 2, 5.1).

use std::time::Duration;

use dutch_master_protocol::message::{ErrorMessage, FromMaster, Role, codes};

use crate::cli::conformance::case::{Case, Verdict, differs, must, should, untested};
use crate::cli::conformance::peer::Heard;
use crate::cli::conformance::steps::said;
use crate::cli::conformance::trial::Trial;

/// A worker says nothing unasked for this long, so it will not.
const QUIET: Duration = Duration::from_millis(300);

/// Far above the 5 s that a worker should wait for `welcome`.
const WELCOME_PATIENCE: Duration = Duration::from_secs(8);

pub(super) const CASES: &[Case] = &[
    must("2.1.3", "ignores variables that it does not know", unknown_variables),
    must("2.2.2/nobody", "ends with a status other than 0 when it cannot connect", nobody),
    must("2.2.2/closed", "ends with a status other than 0 when the connection ends before `welcome`", closed),
    must("2.2.2/refused", "ends with a status other than 0 when it gets `error` instead of `welcome`", refused),
    should("2.3", "speaks from the session and process group that it was born in", session),
    must("2.4.1/hello", "connects and says `hello` with its token", hello),
    should("2.4.1/patience", "waits no longer than 5 s for `welcome`, then ends with a status other than 0", patience),
    must("2.4.3", "has one connection", one_connection),
    must("5.1/silence", "says nothing between `hello` and `welcome`", silence),
    must("6.10/version", "goes when `welcome` has a version that it does not speak", version),
];

fn unknown_variables(trial: &mut Trial<'_>) -> Verdict {
    trial.start_with(|command| {
        command.env("DUTCH_MASTER_KIT", "1").env("DUTCH_MASTER_SOCKET_KIT", "/nowhere");
    })?;
    trial.running()
}

fn nobody(trial: &mut Trial<'_>) -> Verdict {
    trial.leave()?;
    let patience = trial.patience();
    trial.fails_within(patience)
}

fn closed(trial: &mut Trial<'_>) -> Verdict {
    trial.hello()?;
    trial.leave()?;
    let patience = trial.patience();
    trial.fails_within(patience)
}

fn refused(trial: &mut Trial<'_>) -> Verdict {
    trial.hello()?;
    trial.say(&FromMaster::Error(ErrorMessage { seq: None, code: codes::BAD_TOKEN.into(), message: "tried by the conformance kit".into() }))?;
    trial.leave()?;
    let patience = trial.patience();
    trial.fails_within(patience)
}

fn session(trial: &mut Trial<'_>) -> Verdict {
    trial.hello()?;
    let leader = trial.process()?.pid();
    let Some(pid) = trial.peer().and_then(|peer| peer.pid()) else { return untested("this system does not tell who connected") };
    let pid = Some(nix::unistd::Pid::from_raw(pid));
    let (session, group) = (nix::unistd::getsid(pid), nix::unistd::getpgid(pid));
    match (session, group) {
        (Ok(session), Ok(group)) if session.as_raw() == leader && group.as_raw() == leader => Ok(()),
        (Ok(session), Ok(group)) => differs(format!("session and group {leader}"), format!("session {session}, group {group}")),
        (Err(errno), _) | (_, Err(errno)) => untested(errno.to_string()),
    }
}

fn hello(trial: &mut Trial<'_>) -> Verdict {
    let hello = trial.hello()?;
    if hello.token.as_deref() != Some(trial.token()) {
        return differs("the value of DUTCH_MASTER_TOKEN as `token`", hello.token.map_or("none".into(), |_| "another".to_owned()));
    }
    match (hello.role, hello.protocol) {
        (Role::Worker, 1..) => Ok(()),
        (Role::Worker, _) => differs("a protocol version of at least 1", "0"),
        (Role::Control, _) => differs("the role of a worker", "`control`"),
    }
}

fn patience(trial: &mut Trial<'_>) -> Verdict {
    trial.hello()?;
    trial.fails_within(WELCOME_PATIENCE)
}

fn one_connection(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    if trial.connects_again(QUIET)? { differs("one connection", "a second one") } else { Ok(()) }
}

fn silence(trial: &mut Trial<'_>) -> Verdict {
    trial.hello()?;
    match trial.connected()?.hear(QUIET)? {
        Heard::Silence => Ok(()),
        other => differs("nothing before `welcome`", said(&other)),
    }
}

fn version(trial: &mut Trial<'_>) -> Verdict {
    trial.welcome_with(|mut welcome| {
        welcome.protocol = 2;
        welcome
    })?;
    trial.exit().map(drop)
}
