//! The commands that speak to a running master: what each asks for, says and exits with.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use dutch_master::core::{SIZE_MAX, SizeChange};
use dutch_master_protocol::control::{Accepted, Done, FromControl, Outcome, Reload, Restart, Scale, Stop};

use super::args;
use super::client::{Client, ClientError};
use super::exit::{self, Failure};
use super::find;
use super::print::{note, say, try_say};
use super::status::{self, Report};
use super::wait::{End, Patience, Pending, Why};

/// `dutch-master status`.
pub(super) async fn status(command: &args::Status) -> Result<u8, Failure> {
    if command.all {
        return status_of_all(command.json).await;
    }
    let mut client = Client::connect(&find::socket(&command.which)?).await?;
    if let Some(interval) = command.watch {
        return watch(&mut client, interval, command.json).await;
    }
    let report = status::ask(&mut client).await?;
    say(&if command.json { json(&report) } else { status::text(&report) })?;
    Ok(exit::DONE)
}

async fn watch(client: &mut Client, interval: Duration, as_json: bool) -> Result<u8, Failure> {
    let is_terminal = io::stdout().is_terminal();
    loop {
        let report = match status::ask(client).await {
            Ok(report) => report,
            Err(ClientError::Ended) => {
                note("The master has ended.");
                return Ok(exit::DONE);
            }
            Err(error) => return Err(error.into()),
        };
        let text = match as_json {
            true => serde_json::to_string(&report).unwrap_or_default() + "\n",
            false if is_terminal => redraw(&status::text(&report)),
            false => status::text(&report) + "\n",
        };
        if !try_say(&text)? {
            return Ok(exit::DONE);
        }
        tokio::time::sleep(interval).await;
    }
}

/// In place of what stands there, without a flicker: line by line, and then what is left is cleared.
fn redraw(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.lines().fold(String::new(), |lines, line| lines + line + "\x1b[K\n"))
}

async fn status_of_all(as_json: bool) -> Result<u8, Failure> {
    let (mut reports, mut code) = (Vec::new(), exit::DONE);
    for master in find::all()? {
        match report(&master.socket).await {
            Ok(report) => reports.push(report),
            // It ended since it was listed.
            Err(ClientError::NobodyThere(_)) => {}
            Err(error) => {
                note(&format!("{}: {error}", master.name));
                code = Failure::Client(error).code();
            }
        }
    }
    if as_json {
        say(&json(&reports))?;
    } else if reports.is_empty() {
        say("No master runs.")?;
    } else {
        say(&reports.iter().map(status::text).collect::<Vec<_>>().join("\n\n"))?;
    }
    Ok(code)
}

async fn report(socket: &Path) -> Result<Report, ClientError> {
    status::ask(&mut Client::connect(socket).await?).await
}

fn json(value: &impl serde::Serialize) -> String {
    // Names and numbers in memory: it cannot fail.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// `dutch-master restart`.
pub(super) async fn restart(command: &args::Restart) -> Result<u8, Failure> {
    restart_by(&FromControl::Restart(Restart {}), command).await
}

/// `dutch-master reload`.
pub(super) async fn reload(command: &args::Restart) -> Result<u8, Failure> {
    match restart_by(&FromControl::Reload(Reload {}), command).await {
        Err(Failure::Client(ClientError::Refused(error))) if error.code == "EINVAL" => {
            tell(exit::FAILED, &format!("Configuration refused, nothing changes: {}", error.message))
        }
        outcome => outcome,
    }
}

async fn restart_by(request: &FromControl, command: &args::Restart) -> Result<u8, Failure> {
    let patience = Patience::from(&command.waiting);
    let end = pending(&command.which, patience, command.waiting.quiet).await?.outcome(request, patience).await?;
    let (code, text) = match end {
        End::TakenUp(Accepted { generation, .. }) => (exit::DONE, format!("Restart to generation {} is under way.", number(generation))),
        End::Told(Accepted { generation, .. }, Done { outcome, by, message }) => match outcome {
            Outcome::Done => (exit::DONE, format!("Restart complete: generation {} serves.", number(generation))),
            Outcome::Superseded => (exit::SUPERSEDED, format!("Superseded by the restart to generation {}.", number(by))),
            Outcome::GivenUp => {
                (exit::FAILED, because("Restart given up, the old workers stay", message) + " (what the workers printed is in the output of the master)")
            }
            Outcome::Stopped => (exit::FAILED, because("The master stops", message)),
        },
        End::Unknown(why) => no_outcome(why, "the restart"),
    };
    tell_of(&command.waiting, code, &text)
}

/// `dutch-master scale`.
pub(super) async fn scale(command: &args::Scale) -> Result<u8, Failure> {
    let request = match command.size {
        SizeChange::To(size) => Scale { to: Some(size), by: None },
        SizeChange::By(by) => Scale { to: None, by: Some(by) },
    };
    let patience = Patience::from(&command.waiting);
    let end = pending(&command.which, patience, command.waiting.quiet).await?.outcome(&FromControl::Scale(request), patience).await?;
    let (code, text) = match end {
        End::TakenUp(Accepted { size, .. }) => (exit::DONE, format!("The size is {} now{}.", number(size), at_its_limit(command.size, size))),
        End::Told(Accepted { size, .. }, Done { outcome, message, .. }) => match outcome {
            Outcome::Done => (exit::DONE, format!("The size is {} now{}, and as many workers run.", number(size), at_its_limit(command.size, size))),
            Outcome::Superseded => (exit::SUPERSEDED, because("Another change of the size took its place", message)),
            Outcome::GivenUp => (exit::FAILED, because("Given up", message)),
            Outcome::Stopped => (exit::FAILED, because("The master stops", message)),
        },
        End::Unknown(why) => no_outcome(why, "the change"),
    };
    tell_of(&command.waiting, code, &text)
}

/// A change that may have been larger than was possible.
fn at_its_limit(change: SizeChange, size: Option<u32>) -> &'static str {
    match (change, size) {
        (SizeChange::By(by), Some(1)) if by < 0 => ", the least that there can be",
        (SizeChange::By(by), Some(SIZE_MAX)) if by > 0 => ", the most that there can be",
        _ => "",
    }
}

/// `dutch-master stop`.
pub(super) async fn stop(command: &args::Stop) -> Result<u8, Failure> {
    let patience = Patience::from(&command.waiting);
    let mut pending = pending(&command.which, patience, command.waiting.quiet).await?;
    let (why, told) = match pending.outcome(&FromControl::Stop(Stop { now: command.now }), patience).await? {
        End::Unknown(why) => (why, None),
        End::Told(_, done) => (pending.gone(patience).await?, Some(done)),
        End::TakenUp(_) => return tell_of(&command.waiting, exit::DONE, "The stop is under way."),
    };
    let (code, text) = match why {
        Why::Gone => (exit::DONE, stopped(told.as_ref())),
        Why::TimedOut | Why::Interrupted => no_outcome(why, "the stop"),
    };
    let is_cut_short = told.is_some_and(|done| done.message.is_some()) && !command.now;
    if command.waiting.quiet && code == exit::DONE && is_cut_short {
        note(&text);
        return Ok(code);
    }
    tell_of(&command.waiting, code, &text)
}

/// What is told of a stop, if the master could say how it went: it gives a reason only where not everything ended by itself.
fn stopped(told: Option<&Done>) -> String {
    let how = told.map(|done| done.message.clone().unwrap_or("every worker ended by itself".into()));
    because("The master has stopped", how)
}

pub(super) async fn pending(which: &args::Which, patience: Patience, quiet: bool) -> Result<Pending, Failure> {
    Ok(Pending::connect(&find::socket(which)?, patience, quiet).await?)
}

/// [`tell`], but for good news that nobody wants to hear.
fn tell_of(waiting: &args::Waiting, code: u8, text: &str) -> Result<u8, Failure> {
    if waiting.quiet && code == exit::DONE { Ok(code) } else { tell(code, text) }
}

/// Good news goes to standard output.
pub(super) fn tell(code: u8, text: &str) -> Result<u8, Failure> {
    if code == exit::DONE {
        say(text)?;
    } else {
        note(text);
    }
    Ok(code)
}

pub(super) fn no_outcome(why: Why, what: &str) -> (u8, String) {
    match why {
        Why::TimedOut => (exit::FAILED, format!("Not done in time; {what} goes on.")),
        Why::Interrupted => (exit::INTERRUPTED, format!("Not waiting any longer; {what} goes on.")),
        Why::Gone => (exit::FAILED, format!("The master ended before {what} was done.")),
    }
}

pub(super) fn because(what: &str, message: Option<String>) -> String {
    message.map_or(format!("{what}."), |message| format!("{what}: {message}"))
}

fn number(known: Option<u32>) -> String {
    known.map_or("?".into(), |number| number.to_string())
}
