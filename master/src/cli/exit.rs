//! Exit codes, which scripts rely on, and the failures that lead to them.

use std::fmt::Display;
use std::io;

use dutch_master::runtime_dir::{self, Running};

use super::client::ClientError;

/// What was asked for is done.
pub(super) const DONE: u8 = 0;
/// It is not, or not in time.
pub(super) const FAILED: u8 = 1;
/// Wrong usage.
pub(super) const USAGE: u8 = 2;
/// No such master, or more than one.
pub(super) const NO_MASTER: u8 = 3;
/// A newer restart took the place of this one.
pub(super) const SUPERSEDED: u8 = 4;
/// The master does not answer: it is stopped, or blocked.
pub(super) const SILENT: u8 = 5;
/// Ctrl-C, as shells have it.
pub(super) const INTERRUPTED: u8 = 130;

/// Why a command could not ask a master.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// None runs.
    #[error("no master runs; `dutch-master start WORKER` starts one")]
    NoMaster,
    /// They died, and their workers serve on.
    #[error("{} died, and its workers serve on: start it again as it was started, and it takes them over", masters(.0))]
    Died(Vec<String>),
    /// None of that name runs.
    #[error("no master of the name `{name}` runs{}", these_do(.running))]
    NoSuchMaster { name: String, running: Vec<Running> },
    /// A service has the same name as another master.
    #[error("several masters of the name `{name}` run; choose one by --socket:{}", sockets(.running))]
    SameName { name: String, running: Vec<Running> },
    /// More than one runs.
    #[error("several masters run (`dutch-master status --all` tells them apart); choose one by --name:{}", list(.0))]
    Several(Vec<Running>),
    /// The place where they are looked for cannot be read.
    #[error("cannot look for masters in {}: {error}", runtime_dir::path().display())]
    Directory {
        #[source]
        error: io::Error,
    },
    /// There is nothing to draw on.
    #[error("`top` needs a terminal; `dutch-master status --watch` needs none")]
    NoTerminal,
    /// The terminal does not do what it should.
    #[error("the terminal failed: {0}")]
    Terminal(io::Error),
    /// Its result has nowhere to go.
    #[error("cannot write the result to standard output: {0}{remedy}", remedy = dutch_master::remedy(.0))]
    Output(io::Error),
    /// It could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
}

fn masters(names: &[String]) -> String {
    names.iter().map(|name| format!("the master `{name}`")).collect::<Vec<_>>().join(" and ")
}

impl Failure {
    pub(super) fn code(&self) -> u8 {
        match self {
            Failure::NoMaster
            | Failure::Died(_)
            | Failure::NoSuchMaster { .. }
            | Failure::SameName { .. }
            | Failure::Several(_)
            | Failure::Client(ClientError::NobodyThere(_)) => NO_MASTER,
            Failure::Client(ClientError::Silent { .. }) => SILENT,
            Failure::Directory { .. } | Failure::NoTerminal | Failure::Terminal(_) | Failure::Output(_) | Failure::Client(_) => FAILED,
        }
    }
}

fn these_do(running: &[Running]) -> String {
    if running.is_empty() { String::new() } else { format!("; these do:{}", list(running)) }
}

fn sockets(running: &[Running]) -> String {
    lines(running, |master| master.socket.display())
}

fn list(running: &[Running]) -> String {
    lines(running, |master| &master.name)
}

fn lines<'a, T: Display>(running: &'a [Running], what: impl Fn(&'a Running) -> T) -> String {
    running.iter().map(|master| format!("\n  {}  (pid {})", what(master), master.pid)).collect()
}
