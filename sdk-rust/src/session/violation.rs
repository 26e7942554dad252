//! How a master can break the protocol.

use dutch_master_protocol::codec::Malformed;
use dutch_master_protocol::message::{VERSION, codes};

/// How the master broke the protocol. It ends the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Bytes that are no message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A message that is not allowed now.
    #[error("`{0}` is not allowed now")]
    Unexpected(&'static str),
    /// Descriptors where none belong, or a wrong number of them.
    #[error("{0}")]
    Descriptors(&'static str),
    /// A version that this SDK does not speak.
    #[error("protocol version {0}; this SDK speaks {VERSION}")]
    Version(u32),
    /// A master that takes a worker back as another one.
    #[error("this is worker {own}, and the master takes it for worker {told}")]
    Mistaken {
        /// Who the worker is.
        own: u32,
        /// Who the master says it is.
        told: u32,
    },
}

impl Violation {
    /// The code of the `error` message that answers it.
    pub fn code(&self) -> &'static str {
        match self {
            Violation::Malformed(malformed) => malformed.code(),
            Violation::Unexpected(_) | Violation::Mistaken { .. } => codes::UNEXPECTED,
            Violation::Descriptors(_) => codes::BAD_DESCRIPTORS,
            Violation::Version(_) => codes::BAD_VERSION,
        }
    }
}
