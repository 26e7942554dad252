//! What whoever owns the signals, or embeds the master, may ask of it.

use std::path::PathBuf;

use crate::core::SizeChange;

/// A request from within the master's own process. Control clients make theirs over the control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A rolling restart.
    Restart {
        /// The signal that asked for it, for the log.
        signal: Option<String>,
    },
    /// The configuration read again, then a rolling restart with it.
    Reload {
        /// The signal that asked for it, for the log.
        signal: Option<String>,
    },
    /// A graceful stop; the second time at once.
    Stop {
        /// The signal that asked for it, for the log.
        signal: Option<String>,
    },
    /// Another size.
    Scale {
        /// The change.
        change: SizeChange,
    },
    /// Another program in this one's place, if the master has an [`Invocation`](super::Invocation).
    Upgrade {
        /// Its absolute path; `None`: the one that this program was started by.
        program: Option<PathBuf>,
        /// The signal that asked for it, for the log.
        signal: Option<String>,
    },
    /// Children that nobody waits for may have ended: the first process of a PID namespace, as in a container, inherits every orphan. To be asked for at SIGCHLD; elsewhere it does nothing.
    ReapOrphans,
    /// The end at once, because the embedding program ends: SIGTERM to every worker, and nobody waits for them.
    Abandon,
}
