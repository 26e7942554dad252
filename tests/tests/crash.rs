//! Workers that are killed under load: only what they had accepted can fail, and each is replaced.
#![allow(clippy::print_stdout)] // the numbers are worth seeing

use std::fs;
use std::path::Path;

use dutch_master_tests::harness::{exclusive, send, wanted};
use dutch_master_tests::load::{Failure, Load, Mode, Plan};
use dutch_master_tests::rolling::Workers;
use nix::sys::signal::Signal::SIGKILL;

/// Connections that a killed worker had accepted and not ended. It wrote both numbers down, the first before the fact and the second after it.
fn unfinished(counts: &Path, pid: i32) -> u64 {
    let bytes = fs::read(counts.join(pid.to_string())).expect("the worker has counted");
    let number = |at| bytes.get(at..at + 8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
    number(0) - number(8)
}

#[track_caller]
fn assert_only_accepted_ones_fail(mode: Mode, think_ms: u64) {
    let _alone = exclusive();
    let counts = tempfile::TempDir::new().expect("a temporary folder can be made");
    let master = Workers::NaiveAxum.start().env("HTTP_WORKER_COUNTS", counts.path()).option("--settle-time", "0s").ready();
    let load = Load::start(Plan { mode, clients: 20, think_ms: 0..=think_ms, ..Plan::new(master.address()) });
    // In the environment: more of them.
    let (kills, mut accepted) = (wanted("CRASH_KILLS").unwrap_or(10), 0);
    for _ in 0..kills {
        load.await_ok(50);
        // Whoever dies again and again is started ever later; an order to scale ends that.
        assert_eq!(master.run(["scale", "2"]).code, Some(0));
        let killed = master.status().pids()[0];
        send(killed, SIGKILL);
        while master.await_log("Worker exited").worker_pid() != killed {}
        let _replacement = master.await_log("Worker listening");
        accepted += unfinished(counts.path(), killed);
    }
    load.await_ok(50);
    let report = load.stop();
    println!("{mode:?}: {kills} workers killed, which had accepted {accepted} connections that were open: {report}");
    assert!(report.failures() <= accepted, "{accepted} had been accepted, but {} failed: {report}", report.failures());
    assert_eq!(report.count(Failure::Reset) + report.count(Failure::Eof), report.failures(), "nobody is refused or waits in vain: {report}");
    assert_eq!(master.status().pids().len(), 2);
    assert_eq!(master.log().count("Worker listening"), 2 + kills, "each is replaced once:\n{}", master.log());
}

#[test]
fn a_killed_worker_fails_at_most_what_it_had_accepted_with_a_connection_per_request() {
    assert_only_accepted_ones_fail(Mode::PerRequest, 50);
}

#[test]
fn a_killed_worker_fails_at_most_what_it_had_accepted_with_keep_alive_connections() {
    assert_only_accepted_ones_fail(Mode::KeepAlive, 100);
}
