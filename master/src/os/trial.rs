//! One worker as a master starts it, but without a master: for whoever plays one, as the conformance kit does.

use std::path::Path;
use std::process::{Command, Stdio};

use super::error::StartError;
use super::master::{check_worker, working_directory};
use super::program::Program;
use super::snapshots::environment;
use super::spawn::{self, Identity};
use crate::core::WorkerId;
use crate::options::Options;

/// What a worker is told by its environment.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Where its master listens.
    pub socket: &'a Path,
    /// What it has to say there.
    pub token: &'a str,
    /// Its id.
    pub id: WorkerId,
}

/// Whether there is something to run.
///
/// # Errors
/// [`StartError`] when there is nothing.
pub fn check(options: &Options) -> Result<(), StartError> {
    check_worker(options, &working_directory(), None, false)
}

/// The command that runs such a worker: a session of its own, the master's environment, Node with the SDK where the worker is a script.
///
/// # Errors
/// [`StartError`] when there is nothing to run.
pub fn command(options: &Options, told: Told<'_>) -> Result<Command, StartError> {
    let directory = working_directory();
    check_worker(options, &directory, None, false)?;
    let environment = environment(std::env::vars_os(), &options.env);
    let program = Program::find(options, &directory, &environment)?;
    let identity = Identity { id: told.id, slot: 0, token: told.token, control_socket: told.socket };
    let mut command = spawn::worker_command(&program, &environment, &identity);
    command.current_dir(directory).stdin(Stdio::null());
    spawn::detach(&mut command);
    Ok(command)
}

/// A token as a master makes one.
///
/// # Errors
/// When the system has no random bytes.
pub fn token() -> std::io::Result<String> {
    spawn::new_token()
}
