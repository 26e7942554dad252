//! A real master with real workers, in a world of its own: own runtime directory, own ports, and nothing left of it afterwards.

mod binaries;
mod command;
mod exclusive;
mod http;
mod log;
mod manager;
mod master;
mod process;
mod releases;
mod start;
mod status;

use std::str::FromStr;
use std::time::Duration;

pub use binaries::{binary, repository};
pub use command::{Finished, Running};
pub use exclusive::exclusive;
pub use http::{Client, get};
pub use log::{Line, Log};
pub use manager::Manager;
pub use master::{Master, send};
pub(crate) use process::with_folder;
pub use process::{Usage, is_alive, usage};
pub use releases::Releases;
pub use start::{GOOD, Start};
pub use status::Status;

/// How much of something is wanted by hand: a number in the environment.
#[must_use]
pub fn wanted<N: FromStr>(name: &str) -> Option<N> {
    std::env::var(name).ok()?.parse().ok()
}

/// How long a test waits for an event before it says that it hangs: far longer than anything here takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
