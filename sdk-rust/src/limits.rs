//! Every limit of the SDK, each with its reason.

use std::time::Duration;

/// How long an attempt to connect waits for the master's `welcome`: a master answers at once, and a worker that cannot serve should say so early.
pub const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a worker that has never been welcomed tries again when its master dies on the way: a successor knows it, and comes soon or not at all.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The first pause before a worker connects again: shorter than any restart of a master.
pub const RECONNECT_MIN: Duration = Duration::from_millis(10);

/// The longest pause between attempts to connect: half of the second that a master waits for a worker to come back.
pub const RECONNECT_MAX: Duration = Duration::from_millis(500);

/// Most messages of the program that are kept while there is no master; later ones are dropped. At their longest they take 1 MiB.
pub const MESSAGES_KEPT: usize = 64;

/// How long a `listen` may go without an answer: the master may be starting many workers, but it never forgets one.
pub const LISTEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a write may wait for a master that does not read: then the connection is given up, since a caller must not hang.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Most `listen` requests without an answer: far more than any program has listeners.
pub const LISTENS_MAX: usize = 256;

/// Longest reason of `request-restart` and `leaving` in bytes: it ends up in one log line, and is cut there.
pub const REASON_MAX: usize = 1_024;

/// How long a worker that leaves by itself may drain, until the master says otherwise: what the master's default kill timeout announces.
pub const LEAVING_TIMEOUT: Duration = Duration::from_secs(27);

/// How long an orphan may drain: the master's default kill timeout.
pub const ORPHAN_TIMEOUT: Duration = Duration::from_secs(30);

/// Length of the accept queue of a listener that a standalone program binds: what Node asks for, too.
pub const BACKLOG: u32 = 511;
