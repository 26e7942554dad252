//! Why a request failed: one class each, none forgiven.

use std::fmt;
use std::io;

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// Nobody listens.
    Refused,
    /// The server tore the connection down.
    Reset,
    /// The connection ended with a request outstanding and without a complete response.
    Eof,
    /// No response in time.
    Timeout,
    /// A response of another status than 200.
    Status(u16),
    /// A response that is no HTTP, or not the one to this request.
    Malformed,
    /// The client's own system would not let it.
    Local(i32),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("refused"),
            Failure::Reset => f.write_str("reset"),
            Failure::Eof => f.write_str("eof"),
            Failure::Timeout => f.write_str("timeout"),
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Malformed => f.write_str("malformed"),
            Failure::Local(errno) => write!(f, "local errno {errno}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        #[allow(clippy::wildcard_enum_match_arm)] // not ours, and long
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => Failure::Reset,
            io::ErrorKind::UnexpectedEof => Failure::Eof,
            io::ErrorKind::TimedOut => Failure::Timeout,
            _ => Failure::Local(error.raw_os_error().unwrap_or(0)),
        }
    }
}
