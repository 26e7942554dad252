//! Where the master is and who this worker is to it: from the environment, or from a binding that took the environment itself.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use dutch_master_protocol::env;
use dutch_master_protocol::message::features;

use crate::session::Violation;

/// What [`http::serve`](crate::http::serve) does by itself.
const SERVED: &[&str] = if cfg!(feature = "http") { &[features::HEARTBEAT, features::MAX_REQUESTS] } else { &[] };

/// What a worker needs to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Path of the master's socket (`DUTCH_MASTER_SOCKET`).
    pub socket: PathBuf,
    /// The worker's token (`DUTCH_MASTER_TOKEN`).
    pub token: String,
    /// Name and version of the SDK, for the master's log.
    pub sdk: String,
    /// Optional features of the protocol that the binding supports.
    pub features: Vec<String>,
}

impl Settings {
    /// Settings of this SDK itself, with the optional features that its HTTP server has.
    pub fn new(socket: impl Into<PathBuf>, token: impl Into<String>) -> Settings {
        Settings {
            socket: socket.into(),
            token: token.into(),
            sdk: concat!("rust/", env!("CARGO_PKG_VERSION")).into(),
            features: SERVED.iter().map(|feature| (*feature).into()).collect(),
        }
    }

    /// Takes the settings out of the environment, so that no child process can pose as this worker. `None`: standalone.
    pub(crate) fn take_from_env() -> Result<Option<Settings>, ConnectError> {
        let read = (std::env::var_os(env::SOCKET), std::env::var_os(env::TOKEN));
        env::ALL.into_iter().for_each(remove_var);
        Settings::from_vars(read)
    }

    fn from_vars(read: (Option<OsString>, Option<OsString>)) -> Result<Option<Settings>, ConnectError> {
        match read {
            (None, _) => Ok(None),
            (Some(_), None) => Err(ConnectError::Environment("is not set")),
            (Some(socket), Some(token)) => match token.into_string() {
                Ok(token) => Ok(Some(Settings::new(socket, token))),
                Err(_) => Err(ConnectError::Environment("is not UTF-8")),
            },
        }
    }
}

#[allow(unsafe_code)]
fn remove_var(name: &str) {
    // SAFETY: `Worker::from_env` demands to be called while the process has one thread, so nobody reads the environment at the same time.
    unsafe { std::env::remove_var(name) }
}

/// Why no connection to the master came about, although there should be a master.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// `DUTCH_MASTER_SOCKET` is set, but the token is no use.
    #[error("DUTCH_MASTER_SOCKET is set, but DUTCH_MASTER_TOKEN {0}")]
    Environment(&'static str),
    /// Nobody answers at the socket.
    #[error("cannot connect to the master at {}", path.display())]
    Connect {
        /// The path of the socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke before the master's `welcome`.
    #[error("the connection to the master broke before its welcome")]
    Io(#[from] io::Error),
    /// The master ended the connection without a word.
    #[error("the master ended the connection before its welcome")]
    Closed,
    /// The master did not answer in time.
    #[error("the master did not answer within {} s", crate::limits::WELCOME_TIMEOUT.as_secs())]
    Timeout,
    /// The master does not want this worker.
    #[error("the master refused this worker: {message} ({code})")]
    Refused {
        /// The protocol's code, for example `bad-token`.
        code: String,
        /// The master's words.
        message: String,
    },
    /// What the master says is not the protocol.
    #[error("the master breaks the protocol")]
    Protocol(#[from] Violation),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_socket_the_program_runs_standalone() {
        assert_eq!(Settings::from_vars((None, Some("t".into()))).unwrap(), None);
    }

    #[test]
    fn a_socket_without_a_token_is_an_error() {
        assert!(matches!(Settings::from_vars((Some("/s".into()), None)), Err(ConnectError::Environment(_))));
    }

    #[test]
    fn socket_and_token_make_a_worker() {
        let settings = Settings::from_vars((Some("/s".into()), Some("t".into()))).unwrap().unwrap();
        assert_eq!((settings.socket, settings.token.as_str()), (PathBuf::from("/s"), "t"));
    }
}
