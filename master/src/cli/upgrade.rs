//! Another program in the master's place: the command that asks for it, the answer of the one that is asked, and how this one was started.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use dutch_master::{Chain, Invocation, Verdict, can_take_over};
use dutch_master_protocol::control::{Done, FromControl, Upgrade};

use super::args::{self, Command, CommandLine};
use super::client::ClientError;
use super::commands::{because, no_outcome, pending, tell};
use super::exit::{self, Failure};
use super::log;
use super::print::say;
use super::settings::Log;
use super::wait::{End, Patience, Why};

/// `dutch-master upgrade`.
pub(super) async fn run(command: &args::Upgrade) -> Result<u8, Failure> {
    let binary = command.binary.as_ref().map(|path| path.to_string_lossy().into_owned());
    let end = pending(&command.which, Patience::Endless, false).await?.outcome(&FromControl::Upgrade(Upgrade { binary }), Patience::Endless).await;
    let (code, text) = match end {
        Ok(End::Told(_, Done { message, .. })) => (exit::DONE, because("The master is upgraded", message)),
        Ok(End::TakenUp(_)) => no_outcome(Why::Gone, "the upgrade"),
        Ok(End::Unknown(why)) => no_outcome(why, "the upgrade"),
        Err(ClientError::Refused(error)) => (exit::FAILED, format!("Upgrade refused, nothing changes: {}", error.message)),
        Err(error) => return Err(error.into()),
    };
    tell(code, &text)
}

/// `dutch-master preflight`, which a master runs: what it would hand over is on standard input.
pub(super) fn preflight(command: &args::Preflight) -> u8 {
    let verdict = match is_understood(&command.args).and_then(|()| would_go_on()) {
        Ok(()) => Verdict::TakesOver(env!("CARGO_PKG_VERSION").into()),
        Err(why) => Verdict::Refuses(why),
    };
    // Names and a text: it cannot fail.
    let told = say(&serde_json::to_string(&verdict).unwrap_or_default());
    if told.is_ok() && matches!(verdict, Verdict::TakesOver(_)) { exit::DONE } else { exit::FAILED }
}

/// What is handed over can be gone on with, the log file too.
fn would_go_on() -> Result<(), String> {
    let context = can_take_over(io::stdin()).map_err(|error| Chain(&error).to_string())?;
    // Another version may have told it otherwise; then the arguments say what the log is.
    let log_file = serde_json::from_str::<Log>(&context).ok().and_then(|log| log.file);
    log_file.map_or(Ok(()), |file| log::check(&file).map_err(|error| error.to_string()))
}

/// The arguments that the master was started with are those that this program will be started with.
fn is_understood(args: &[OsString]) -> Result<(), String> {
    let line = [OsStr::new("dutch-master")].into_iter().chain(args.iter().map(OsString::as_os_str));
    match CommandLine::try_parse_from(line).map(|line| line.command) {
        Ok(Command::Start(_)) => Ok(()),
        Ok(_) => Err("the master was not started by `start`".into()),
        Err(error) => Err(format!("it does not understand the arguments that the master was started with: {}", error.kind())),
    }
}

/// How this program was started.
pub(super) fn invocation(log: &Log) -> Invocation {
    let mut words = env::args_os();
    let itself = fs::read_link("/proc/self/exe").unwrap_or_default();
    let program = words.next().and_then(|name| found(&name)).filter(|path| is_same(path, Path::new("/proc/self/exe")));
    let context = serde_json::to_string(log).unwrap_or_default();
    Invocation { program: program.unwrap_or_else(|| without_mark(itself)), args: words.collect(), context }
}

/// Where a command of this name is, links and all.
fn found(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return std::path::absolute(name).ok();
    }
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file()).and_then(|path| std::path::absolute(path).ok())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let inode = |path: &Path| path.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    inode(one).is_some_and(|its| inode(other) == Some(its))
}

/// What was removed is marked by the kernel; another may have taken its place.
fn without_mark(path: PathBuf) -> PathBuf {
    let bytes = path.into_os_string().into_vec();
    OsString::from_vec(bytes.strip_suffix(b" (deleted)").unwrap_or(&bytes).to_vec()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_program_that_was_replaced_is_where_its_successor_is() {
        assert_eq!(without_mark("/opt/dutch-master (deleted)".into()), Path::new("/opt/dutch-master"));
        assert_eq!(without_mark("/opt/dutch-master".into()), Path::new("/opt/dutch-master"));
        assert_eq!(found(OsStr::new("/a/current/dutch-master")).as_deref(), Some(Path::new("/a/current/dutch-master")), "links stay");
        assert!(found(OsStr::new("sh")).unwrap().is_absolute());
    }

    #[test]
    fn what_the_master_was_started_with_has_to_be_understood() {
        let understood = |words: &[&str]| is_understood(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(understood(&["start", "-n", "3", "app.js", "--port", "8000"]), Ok(()));
        assert!(understood(&["start", "--option-of-another-version", "app.js"]).is_err());
        assert!(understood(&["status"]).is_err());
    }
}
