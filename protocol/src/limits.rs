//! Every limit of the protocol, each with its reason (SPEC 9).

/// Longest body of a frame in bytes: room for any message here, small enough to buffer for a thousand workers.
pub const FRAME_MAX: usize = 65_536;

/// Most descriptors behind one frame: each is one message of one byte, and a receiver has to store them.
pub const FDS_MAX: usize = 16;

/// Deepest nesting of a message: no message here needs more than three, and a decoder must not overflow its stack.
pub const DEPTH_MAX: usize = 16;

/// Most values of a message, with keys, containers and the message itself: room for the keys of all listeners, and what a decoder makes of a frame stays within its size.
pub const VALUES_MAX: usize = 1_024;

/// Longest path of a Unix socket in bytes: macOS has 104 with the final zero.
pub const PATH_MAX: usize = 103;

/// Longest `data` of a `listen` in bytes: Node's TLS ticket keys take 64.
pub const DATA_MAX: usize = 4_096;

/// Longest `json` of a `message` in bytes: for signals between app and operator, not for bulk.
pub const JSON_MAX: usize = 16_384;

/// Integers lie within ±2^53, so that every language can hold them (JavaScript's numbers are doubles).
pub const INTEGER_MAX: u64 = 1 << 53;

/// How long the master waits for `hello` on a new connection, in milliseconds.
pub const HELLO_TIMEOUT_MS: u64 = 5_000;
