//! How a worker finds its master: the environment variables of SPEC 2.

/// Path of the master's Unix stream socket. Not set: the program runs standalone.
pub const SOCKET: &str = "DUTCH_MASTER_SOCKET";
/// 128 random bits in hex; says which worker is connecting.
pub const TOKEN: &str = "DUTCH_MASTER_TOKEN";
/// The worker's id: 1, 2, 3…, never reused.
pub const WORKER_ID: &str = "DUTCH_MASTER_WORKER_ID";
/// The worker's slot, from 0.
pub const SLOT: &str = "DUTCH_MASTER_SLOT";
/// All of them; a worker takes them out of what its own children inherit.
pub const ALL: [&str; 4] = [SOCKET, TOKEN, WORKER_ID, SLOT];
