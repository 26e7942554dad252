//! Why a master does not start: everything that can be seen before the first worker is spawned. Each is one line that says what to do about it.

use std::path::PathBuf;

use super::account::AccountError;
use super::adapted::AdaptError;
use super::control_socket::ControlSocketError;
use super::listeners::ListenError;
use super::metrics::MetricsError;
use super::program::ProgramError;
use super::remedy::remedy;

/// A start that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The worker cannot be run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The workers cannot be that user's.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// An address cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The listeners are not what the program needs.
    #[error(transparent)]
    Adapt(#[from] AdaptError),
    /// The control socket cannot be had.
    #[error(transparent)]
    ControlSocket(#[from] ControlSocketError),
    /// The metrics have no way out.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The pid file cannot be written.
    #[error("cannot write the pid file {}: {source}{}", path.display(), remedy(source))]
    PidFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The system is too old, or too much is forbidden.
    #[error("this system does not let the master {what}: {source}; Linux 5.4 or newer is needed, and a container must not forbid it")]
    System {
        /// What it has to do.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What the next master needs to know could not be written down.
    #[error("the directory {} has a name that is no UTF-8, which the master's state cannot hold; start it from another one, or name another by --dir", path.display())]
    NoText {
        /// The directory.
        path: PathBuf,
    },
    /// The name cannot be that of files.
    #[error("the name {name:?} cannot be used; letters, digits, `.`, `_` and `-` make a name, and it does not begin with `.` or `-`")]
    Name {
        /// The name.
        name: String,
    },
}
