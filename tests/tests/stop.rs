//! The end: from every state, within its time, with everything that had been accepted answered and nothing left.

use std::time::{Duration, Instant};

use dutch_master_tests::harness::{Client, GOOD, Master, Releases, Start, binary, get, repository, send};
use nix::sys::signal::Signal::{SIGCONT, SIGINT, SIGSTOP, SIGTERM};

#[test]
fn a_stop_by_the_command_waits_until_the_master_has_gone() {
    let master = Start::test_worker(GOOD).ready();
    let stop = master.run(["stop"]);
    assert_eq!(stop.code, Some(0), "{}", stop.stderr);
    assert_eq!(master.processes(), [0; 0]);
    assert_eq!(master.exit_code(), Some(0), "{}", master.log());
    let gone = master.run(["status"]);
    assert_eq!(gone.code, Some(3), "no such master: {}", gone.stderr);
}

#[test]
fn sigterm_and_sigint_stop_gracefully() {
    for signal in [SIGTERM, SIGINT] {
        let master = Start::test_worker(GOOD).ready();
        let started = Instant::now();
        master.signal(signal);
        assert_eq!(master.await_log("Shutdown requested").text("signal"), Some(signal.as_str()));
        assert_eq!(master.exit_code(), Some(0), "{}", master.log());
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(master.processes(), [0; 0]);
    }
}

#[test]
fn a_stop_after_restarts_is_as_fast_and_clean_as_one_before() {
    let master = Start::test_worker(GOOD).option("--settle-time", "0s").ready();
    (0..3).for_each(|_| master.restart());
    let started = Instant::now();
    master.stop();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn a_stop_during_the_start_ends_what_was_started_and_starts_nothing_more() {
    let master = Start::test_worker("sleep:60000").start();
    let _first = master.await_log("Creating new worker");
    let _second = master.await_log("Creating new worker");
    master.stop();
}

#[test]
fn a_stop_during_a_restart_ends_old_and_new() {
    let releases = Releases::new("v1", GOOD);
    let master = Start::release(&releases).ready();
    releases.add("v1", "sleep:60000");
    master.log().forget();
    let restart = master.begin(["restart"]);
    let _begun = master.await_log("Creating new worker");
    master.stop();
    let restart = restart.finish();
    assert_eq!(restart.code, Some(1), "stopped: {}", restart.stderr);
}

#[test]
fn a_stop_during_a_crash_loop_ends_at_once() {
    let releases = Releases::new("v1", GOOD);
    let master = Start::release(&releases).ready();
    releases.add("v1", "exit:1");
    master.log().forget();
    master.status().pids().into_iter().for_each(|pid| send(pid, nix::sys::signal::Signal::SIGKILL));
    for _ in 0..4 {
        let _exit = master.await_log("Worker exited");
    }
    master.stop();
}

#[test]
fn a_second_sigterm_moves_every_deadline_to_now() {
    let master = Start::test_worker("ignore-term hello listen listening serve hang").ready();
    let started = Instant::now();
    master.signal(SIGTERM);
    let _requested = master.await_log("Shutdown requested");
    master.signal(SIGTERM);
    assert_eq!(master.exit_code(), Some(1), "workers had to be killed:\n{}", master.log());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(master.processes(), [0; 0]);
}

/// So many that some still wait when the worker hears of the stop.
const WAITING: usize = 200;

/// Connections that wait in the queue when the stop begins: frozen workers cannot have accepted them.
#[track_caller]
fn assert_the_queue_is_served(master: Master) {
    let address = master.address();
    let _warm = get(address, "/");
    let workers = master.status().pids();
    workers.iter().for_each(|pid| send(*pid, SIGSTOP));
    let mut clients: Vec<_> = (0..WAITING).map(|_| Client::connect(address)).collect();
    clients.iter_mut().for_each(|client| client.ask("/"));
    master.signal(SIGTERM);
    let _requested = master.await_log("Shutdown requested");
    workers.iter().for_each(|pid| send(*pid, SIGCONT));
    for client in clients {
        assert!(!client.body().is_empty());
    }
    assert_eq!(master.exit_code(), Some(0), "{}", master.log());
}

#[test]
fn connections_that_wait_when_an_axum_pool_stops_are_served() {
    assert_the_queue_is_served(Start::new(binary("http-worker")).ready());
}

#[test]
fn connections_that_wait_when_an_express_pool_stops_are_served() {
    let _installed = repository("examples/express/node_modules/express");
    assert_the_queue_is_served(Start::new(repository("examples/express/app.js")).without_listener().env("PORT", "0").ready());
}
