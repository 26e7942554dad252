//! What the core has to know of the configuration. Every duration is in milliseconds.

use serde::{Deserialize, Serialize};

/// Most workers of one pool: a guard against a slip of the finger, far above what one machine runs.
pub const SIZE_MAX: u32 = 4_096;

/// How long the `before_fork` hook may take, in milliseconds (rule 12).
pub const HOOK_TIMEOUT_MS: u64 = 30_000;

/// How many workers more than the size a replacement may start at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Surge {
    /// A share of the size in percent, rounded up, at least 1.
    Percent(u32),
    /// A fixed number, at least 1.
    Count(u32),
    /// As many as the size.
    All,
}

impl Surge {
    /// The number of extra workers for a pool of `size`.
    pub fn of(self, size: u32) -> u32 {
        match self {
            Surge::Percent(percent) => size.saturating_mul(percent).div_ceil(100).max(1),
            Surge::Count(count) => count.max(1),
            Surge::All => size.max(1),
        }
    }
}

/// Time limits and policies of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Config {
    /// From spawn to `listening`.
    pub start_timeout_ms: u64,
    /// From the order to go to SIGKILL.
    pub kill_timeout_ms: u64,
    /// How long a worker has to run to show that its generation works: until the first one has, no older worker is told to go, and a death before that is a failed start. 0: at once.
    pub settle_ms: u64,
    /// How long the `before_fork` hook may take; only a guard here, the shell enforces it.
    pub hook_timeout_ms: u64,
    /// Extra workers during replacement.
    pub surge: Surge,
    /// Failed waves in a row after which a restart is given up.
    pub restart_attempts: u32,
    /// After how long a worker is recycled; the first slot's, see [`spread`](super::spread). `None`: never.
    pub max_lifetime_ms: Option<u64>,
    /// How long a worker that sends heartbeats may be silent. `None`: nobody is watched.
    pub heartbeat_ms: Option<u64>,
    /// Go on after a first start that failed `restart_attempts` times.
    pub keep_trying: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            start_timeout_ms: 60_000,
            kill_timeout_ms: 30_000,
            settle_ms: 2_000,
            hook_timeout_ms: HOOK_TIMEOUT_MS,
            surge: Surge::Percent(25),
            restart_attempts: 3,
            max_lifetime_ms: None,
            heartbeat_ms: None,
            keep_trying: false,
        }
    }
}

/// How long a running worker whose connection ended may take to come back before it is *lost*.
pub(super) const RECONNECT_MS: u64 = 1_000;

/// A worker that ran this long has shown that it works: its death costs no delay.
pub(super) const PROVEN_MS: u64 = 10_000;

impl Config {
    /// The timeout that an order to go announces: the kill timeout less a margin, so that SIGTERM has time to work before SIGKILL.
    /// The margin is max(1 s, 10 %), at most half.
    pub fn announced_ms(&self) -> u64 {
        let kill = self.kill_timeout_ms;
        kill - (kill / 10).max(1_000).min(kill / 2)
    }
}
