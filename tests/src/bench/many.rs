//! A thousand workers: start, rolling restart, and what that costs the master.

use std::time::Instant;

use super::footprint::{cpu_ticks, pss_mib};
use super::pool::{App, Host, Pool};
use super::{Effort, milliseconds, print};

/// Starts many workers and replaces them once.
pub fn run(effort: Effort) {
    println!("\n{} trivial workers\n", effort.many);
    let pool = Pool::start_with(Host::Master, App::Trivial, effort.many, &["--start-timeout", "5m", "--settle-time", "0s"]);
    let cost = |what: &str, took: String, before: u64| {
        let ticks = cpu_ticks(pool.pid()) - before;
        print(what, &format!("{took}, {} ms of the master's processor time", ticks * 10), "");
        print("    memory of the master (PSS)", &format!("{:.2} MiB", pss_mib(pool.pid())), "expected below 10 MiB");
    };
    cost("start", format!("{:.0} ms", milliseconds(pool.took())), 0);
    let (started, before) = (Instant::now(), cpu_ticks(pool.pid()));
    pool.control(&["restart"]);
    cost("rolling restart", format!("{:.0} ms", milliseconds(started.elapsed())), before);
}
