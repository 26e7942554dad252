//! The command line: it reads arguments, speaks to people, and asks the library or a running master to do the work.

mod adapt;
mod args;
mod check;
mod commands;
mod completions;
mod config;
mod conformance;
mod exit;
mod find;
mod forgotten;
mod help;
mod log;
mod man;
mod metrics;
mod print;
mod resident;
mod rights;
mod settings;
mod signals;
mod start;
mod status;
mod subscribe;
mod suggest;
mod top;
mod unit;
mod upgrade;
mod values;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use dutch_master::client;

use self::args::{Command, CommandLine};
use self::exit::Failure;
use self::forgotten::Apart;
use self::print::{is_read, note};

/// Runs the command that was given.
pub(crate) fn run() -> ExitCode {
    // Wrong usage ends here, with exit code 2.
    let command = parse().unwrap_or_else(|error| usage(&error)).command;
    if let Some(Apart { value, meant }) = forgotten::equals_sign(&words(), Ok(&command)) {
        note(&format!("error: the `=` before `{value}` is missing; did you mean `dutch-master {meant}`? A worker of that name has `--` before it"));
        return exit::USAGE.into();
    }
    // One thread is all that a master has, and a client needs no more.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            note(&format!("dutch-master: {error}"));
            return exit::FAILED.into();
        }
    };
    let code = runtime.block_on(async {
        match command {
            Command::Start(command) => start::run(*command).await,
            Command::Check(command) => told(check::run(*command)),
            Command::Status(command) => told(commands::status(&command).await),
            Command::Restart(command) => told(commands::restart(&command).await),
            Command::Reload(command) => told(commands::reload(&command).await),
            Command::Stop(command) => told(commands::stop(&command).await),
            Command::Scale(command) => told(commands::scale(&command).await),
            Command::Adapt(command) => adapt::run(*command).await,
            Command::Conformance(command) => told(conformance::run(*command).await),
            Command::Completions(command) => told(completions::run(command.shell)),
            Command::Man(command) => told(man::run(command.command.as_deref())),
            Command::Upgrade(command) => told(upgrade::run(&command).await),
            Command::Preflight(command) => upgrade::preflight(&command),
            Command::Metrics(command) => told(metrics::run(&command.which).await),
            Command::Top(command) => told(top::run(&command.which).await),
            Command::Subscribe(command) => told(subscribe::run(&command.which).await),
        }
    });
    code.into()
}

fn parse() -> Result<CommandLine, clap::Error> {
    help::grouped(CommandLine::command()).try_get_matches().and_then(|matches| CommandLine::from_arg_matches(&matches))
}

/// Wrong usage, and what was meant where that is clear; or help, which was asked for and can be written or not.
fn usage(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        let code = told(is_read(error.print()).map(|_| exit::DONE));
        std::process::exit(code.into());
    }
    let words = words();
    if error.kind() == ErrorKind::UnknownArgument && forgotten::has_two_sizes(&words) {
        note("error: `scale` takes one number: how many workers there shall be, or +N or -N for so many more or fewer");
        std::process::exit(exit::USAGE.into())
    }
    let start = || forgotten::start(&words, error.kind()).map(|meant| ("a command".into(), meant));
    let equals_sign = || forgotten::equals_sign(&words, Err(error.kind())).map(|Apart { value, meant }| (format!("the `=` before `{value}`"), meant));
    let name = || forgotten::name(&words, error.kind()).map(|meant| ("--name".into(), meant));
    match start().or_else(equals_sign).or_else(name) {
        Some((what, meant)) => {
            note(&format!("error: {what} is missing; did you mean `dutch-master {meant}`?"));
            std::process::exit(exit::USAGE.into())
        }
        None => error.exit(),
    }
}

fn words() -> Vec<OsString> {
    std::env::args_os().skip(1).collect()
}

fn told(result: Result<u8, Failure>) -> u8 {
    result.unwrap_or_else(|failure| {
        note(&format!("dutch-master: {failure}"));
        failure.code()
    })
}
