//! `dutch-master conformance`: plays the master against any worker, and says which rules of the protocol it keeps.

// A case names what it expects; everything else, whatever it may be one day, is just not that.
#![allow(clippy::wildcard_enum_match_arm)]

mod case;
mod cases;
mod given;
mod http;
mod manner;
mod master;
mod peer;
mod process;
mod puppet;
mod report;
mod session;
mod steps;
mod trial;
mod vectors;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;
use dutch_master::{Options, StartError};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use self::case::{Case, Level};
use self::master::TestedMaster;
use self::report::{Outcome, Tally};
use self::session::Session;
use self::trial::{Tested, Trial};
use super::exit::{self, Failure};
use super::print::{note, say};
use super::values;

const EXAMPLES: &str = "\
The worker needs no preparation: it takes its listener from the kit, and a GET of / (see --path) is answered by it. Each case has a fresh process.

Examples:
  dutch-master conformance -- python3 worker.py      every case
  dutch-master conformance --only 12 -- ./worker     those of section 12 of the specification
  dutch-master conformance --strict -- app.js        what SHOULD be counts as well; scripts are run by Node with the SDK
  dutch-master conformance --list                    the cases, and what is not tried
  dutch-master conformance --master -- dutch-master start -n 1 -l web=127.0.0.1:0 --settle-time 0s --
                                                     sessions against a master; the worker's command is added to its own

Before this, run the test vectors (protocol/vectors) through the worker's decoder and encoder: they are faster, and try many more encodings than the kit does.

Exit status: 0 no case failed; 1 one did; 2 wrong usage, or there is no such worker; 130 Ctrl-C.";

#[derive(Debug, Args)]
#[command(override_usage = "dutch-master conformance [OPTIONS] -- WORKER [ARGS…]", after_help = EXAMPLES)]
pub(super) struct Conformance {
    /// Only the cases of this section or rule, such as 5, 5.5 or 5.5.2. Repeatable.
    #[arg(long, value_name = "RULE")]
    only: Vec<String>,
    /// Every case, also with a worker that never connects to its master.
    #[arg(long, conflicts_with = "master")]
    all: bool,
    /// What SHOULD be counts as what MUST be.
    #[arg(long)]
    strict: bool,
    /// JSON on standard output: one object.
    #[arg(long)]
    json: bool,
    /// List the cases, and what is not tried; run nothing.
    #[arg(long)]
    list: bool,
    /// The command is a master's: play workers and clients against it, good and bad ones.
    #[arg(long, conflicts_with_all = ["path", "no_http", "node_sdk"])]
    master: bool,
    /// Be the worker that the kit lets a master start.
    #[arg(long, value_name = "PATH", hide = true)]
    puppet: Option<PathBuf>,
    /// What the worker answers with a status of success.
    #[arg(long, value_name = "PATH", default_value = "/", conflicts_with = "no_http")]
    path: String,
    /// The worker speaks no HTTP; what needs it stays untested.
    #[arg(long)]
    no_http: bool,
    /// How long the worker may take for what has no time limit of its own.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::positive_duration)]
    timeout: Duration,
    /// How many cases are tried at the same time.
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Where the Node SDK is, for scripts [default: looked for]
    #[arg(long, value_name = "PATH")]
    node_sdk: Option<PathBuf>,
    /// The worker, as for `start`.
    #[arg(value_name = "WORKER", num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true, required_unless_present_any = ["list", "puppet"])]
    worker: Vec<String>,
}

/// Runs the kit; the exit code.
pub(super) async fn run(command: Conformance) -> Result<u8, Failure> {
    if let Some(kit) = &command.puppet {
        return Ok(if puppet::obey(kit).is_ok() { exit::DONE } else { exit::FAILED });
    }
    let is_meant = |id: &str| command.only.is_empty() || command.only.iter().any(|rule| case::is_meant(id, rule));
    let chosen = if command.master {
        match session::all() {
            Ok(sessions) => sessions.into_iter().filter(|session| is_meant(&session.id)).map(Chosen::Session).collect(),
            Err(error) => {
                note(&format!("error: the sessions cannot be read: {error}"));
                return Ok(exit::FAILED);
            }
        }
    } else {
        cases::all().filter(|case| is_meant(case.id)).map(Chosen::Case).collect::<Vec<_>>()
    };
    if chosen.is_empty() {
        note("error: no case of these rules; `dutch-master conformance --list` shows them all");
        return Ok(exit::USAGE);
    }
    if command.list {
        say(&list(&chosen, command.json, is_meant))?;
        return Ok(exit::DONE);
    }
    let (strict, json, jobs) = (command.strict, command.json, command.jobs.into());
    let not_tried = if command.master { 0 } else { cases::NOT_TRIED.iter().filter(|(rule, _)| is_meant(rule)).count() };
    let is_first_to_connect = !command.master && !command.all && command.only.is_empty();
    let tested = match command.tested() {
        Ok(tested) => tested,
        Err(error) => {
            note(&format!("error: {}", dutch_master::Chain(&error)));
            return Ok(exit::USAGE);
        }
    };
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return Ok(exit::FAILED);
    };
    let trials = tokio::task::spawn_blocking(move || {
        let show = |outcome: &Outcome| {
            if !json {
                // What cannot be written fails again with the tally.
                let _ = say(&outcome.text(strict));
            }
        };
        if let Some(outcome) = is_first_to_connect.then(|| never_connects(&tested)).flatten() {
            show(&outcome);
            note("the worker never connected to its master, so nothing else was tried (--all tries every case)");
            return vec![outcome];
        }
        try_all(&chosen, &tested, jobs, show)
    });
    let outcomes = tokio::select! {
        outcomes = trials => outcomes.unwrap_or_default(),
        _ = interrupt.recv() => std::process::exit(interrupted()),
        _ = terminate.recv() => std::process::exit(interrupted()),
    };
    let tally = Tally::of(&outcomes, strict);
    if json {
        let Tally { passed, failed, missed, untested } = tally;
        let cases: Vec<_> = outcomes.iter().map(|outcome| outcome.json(strict)).collect();
        let tally = json!({ "strict": strict, "ok": passed, "failed": failed, "missed": missed, "untested": untested, "not_tried": not_tried, "cases": cases });
        say(&tally.to_string())?;
    } else {
        say(&tally.text(not_tried))?;
    }
    Ok(if tally.failed == 0 && !outcomes.is_empty() { exit::DONE } else { exit::FAILED })
}

/// What is to be tried.
enum Chosen {
    /// On a worker.
    Case(&'static Case),
    /// On a master.
    Session(Session),
}

impl Chosen {
    fn about(&self) -> (&str, Level, &str) {
        match self {
            Chosen::Case(case) => (case.id, case.level, case.text),
            Chosen::Session(session) => (&session.id, Level::Must, &session.comment),
        }
    }
}

/// On what.
enum Subject {
    Worker(Box<Tested>),
    Master(TestedMaster),
}

impl Conformance {
    fn tested(self) -> Result<Subject, StartError> {
        if self.master {
            return Ok(Subject::Master(TestedMaster { command: self.worker, patience: self.timeout }));
        }
        let mut words = self.worker.into_iter();
        let mut options = Options::new(words.next().unwrap_or_default());
        (options.args, options.node_sdk) = (words.collect(), self.node_sdk);
        dutch_master::trial::check(&options)?;
        Ok(Subject::Worker(Box::new(Tested { options, path: (!self.no_http).then_some(self.path), patience: self.timeout })))
    }
}

/// The workers lead sessions of their own, so nobody else ends them.
fn interrupted() -> i32 {
    process::kill_all();
    exit::INTERRUPTED.into()
}

/// Tries several cases at a time, since most of their time is waiting, and shows them in their order.
fn try_all(cases: &[Chosen], tested: &Subject, jobs: usize, show: impl Fn(&Outcome)) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let (send, ended) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { return };
                    if send.send((at, try_one(case, tested))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut waiting: Vec<Option<Outcome>> = cases.iter().map(|_| None).collect();
        let mut outcomes = Vec::new();
        for (at, outcome) in ended {
            waiting[at] = Some(outcome);
            while let Some(outcome) = waiting.get_mut(outcomes.len()).and_then(Option::take) {
                show(&outcome);
                outcomes.push(outcome);
            }
        }
        outcomes
    })
}

/// The outcome of its `hello`, when it does not even connect: every other case would only say the same.
fn never_connects(tested: &Subject) -> Option<Outcome> {
    let Subject::Worker(tested) = tested else { return None };
    let case = cases::all().find(|case| case.id == cases::HELLO)?;
    let mut trial = Trial::new(tested).ok()?;
    let verdict = (case.run)(&mut trial);
    (trial.peer.is_none() && verdict.is_err()).then(|| Outcome { id: case.id.into(), level: case.level, text: case.text.into(), verdict, log: trial.log() })
}

fn try_one(chosen: &Chosen, tested: &Subject) -> Outcome {
    let (id, level, text) = chosen.about();
    let (verdict, log) = match (chosen, tested) {
        (Chosen::Case(case), Subject::Worker(tested)) => match Trial::new(tested) {
            Ok(mut trial) => ((case.run)(&mut trial), trial.log()),
            Err(error) => (Err(error.into()), Vec::new()),
        },
        (Chosen::Session(session), Subject::Master(tested)) => master::play(session, tested),
        (Chosen::Case(_), Subject::Master(_)) | (Chosen::Session(_), Subject::Worker(_)) => (case::untested("it is for the other side"), Vec::new()),
    };
    Outcome { id: id.into(), level, text: text.into(), verdict, log }
}

fn list(cases: &[Chosen], json: bool, is_meant: impl Fn(&str) -> bool) -> String {
    let not_tried = cases::NOT_TRIED.iter().filter(|(rule, _)| is_meant(rule));
    if json {
        let shown = cases.iter().map(Chosen::about).map(|(id, level, text)| json!({ "id": id, "level": report::level(level), "text": text }));
        let not_tried: Vec<_> = not_tried.map(|(rule, why)| json!({ "rule": rule, "what": why })).collect();
        return json!({ "cases": shown.collect::<Vec<_>>(), "not_tried": not_tried }).to_string();
    }
    let mut lines: Vec<_> = cases.iter().map(Chosen::about).map(|(id, level, text)| format!("{id:18} {:6} {text}", report::level(level))).collect();
    if !cases.iter().any(|chosen| matches!(chosen, Chosen::Session(_))) {
        lines.push("\nNot tried:".into());
        lines.extend(not_tried.map(|(rule, what)| format!("{rule:18}        {what}")));
    }
    lines.join("\n")
}
