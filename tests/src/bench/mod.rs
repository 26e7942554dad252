//! `make bench`: what dutch-master costs, compared with the least that can be done. Every comparison is of interleaved pairs, so that what else the machine does meets both sides.
#![allow(clippy::print_stdout)] // the tables are what this is for

pub mod balance;
pub mod footprint;
pub mod generator;
pub mod hosts;
pub mod many;
pub mod pool;
pub mod reports;
pub mod start;
pub mod stats;
pub mod throughput;

use std::time::Duration;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// How often each comparison is repeated.
    pub pairs: usize,
    /// How long each load lasts.
    pub load: Duration,
    /// How long an idle or a loaded master is watched.
    pub watch: Duration,
    /// How many workers are killed.
    pub crashes: usize,
    /// How many workers are many.
    pub many: usize,
    /// How many rolling restarts the load goes through.
    pub restarts: usize,
}

impl Effort {
    /// What `make bench` does.
    pub const FULL: Effort = Effort { pairs: 7, load: Duration::from_secs(2), watch: Duration::from_secs(30), crashes: 16, many: 1_000, restarts: 5 };
    /// Enough to see that it works.
    pub const QUICK: Effort = Effort { pairs: 2, load: Duration::from_millis(300), watch: Duration::from_secs(2), crashes: 1, many: 50, restarts: 1 };
}

/// How many connections the load has, unless a section says otherwise.
const CONNECTIONS: usize = 64;

/// How long a pool is loaded before it counts: Node compiles what runs often.
const WARM_UP: Duration = Duration::from_millis(500);

/// A line of a table: what, what came out, what is expected.
fn print(what: &str, measured: &str, expected: &str) {
    println!("{what:<58} {measured:<42} {expected}");
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
