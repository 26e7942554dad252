//! The promise: a rolling restart fails no request. And the proof that this client would see it if one failed.
//!
//! Each test takes the machine for itself, so that the load is real. `make load` runs the same for longer.
#![allow(clippy::print_stdout)] // the numbers are worth seeing

use dutch_master_tests::harness::{Client, exclusive};
use dutch_master_tests::load::{Load, Mode, Plan};
use dutch_master_tests::rolling::{Outcome, Rolling, Workers};

const RESTARTS: usize = 10;

/// Clients that think long leave many connections idle, those that think briefly send many requests that are on their way at the order.
const LONG_MS: u64 = 400;
const BRIEF_MS: u64 = 20;

#[track_caller]
fn assert_no_request_fails(workers: Workers, mode: Mode, think_ms: u64) {
    let _alone = exclusive();
    let clients = match mode {
        Mode::KeepAlive => 40,
        Mode::PerRequest => 20,
    };
    let Outcome { report, open_at_orders, took, master } = Rolling { workers, mode, clients, think_ms, restarts: RESTARTS, settle_time: "0s" }.run();
    println!(
        "{workers:?}, {mode:?}, thinking up to {think_ms} ms, {RESTARTS} restarts in {took:.1?}: {report}  connections open at each order to go: {open_at_orders:?}"
    );
    assert_eq!(report.failures(), 0, "{report}\n{}", master.log());
    assert_eq!(report.torn_idle, 0, "{report}\n{}", master.log());
    assert_eq!(open_at_orders.len(), 2 * RESTARTS, "{}", master.log());
    assert_eq!(master.log().least_running(), 2, "no worker is told to go before another runs:\n{}", master.log());
    if mode == Mode::KeepAlive {
        assert!(open_at_orders.iter().all(|open| *open >= clients / 4), "there was load at each order: {open_at_orders:?}");
    }
    master.stop();
}

/// Until the client has seen failures, or for so many rounds.
#[track_caller]
fn assert_failures_are_seen(workers: Workers) {
    let _alone = exclusive();
    for round in 1..=5 {
        let Outcome { report, open_at_orders, .. } =
            Rolling { workers, mode: Mode::KeepAlive, clients: 40, think_ms: BRIEF_MS, restarts: RESTARTS, settle_time: "0s" }.run();
        println!("{workers:?}, round {round}: {report}  connections open at each order to go: {open_at_orders:?}");
        if report.failures() > 0 {
            return;
        }
    }
    panic!("a stop that closes idle connections fails requests, but this client has seen none");
}

#[test]
fn express_workers_with_keep_alive_connections_fail_no_request() {
    assert_no_request_fails(Workers::Express, Mode::KeepAlive, LONG_MS);
    assert_no_request_fails(Workers::Express, Mode::KeepAlive, BRIEF_MS);
}

#[test]
fn express_workers_with_a_connection_per_request_fail_no_request() {
    assert_no_request_fails(Workers::Express, Mode::PerRequest, 50);
}

#[test]
fn axum_workers_with_keep_alive_connections_fail_no_request() {
    assert_no_request_fails(Workers::Axum, Mode::KeepAlive, LONG_MS);
    assert_no_request_fails(Workers::Axum, Mode::KeepAlive, BRIEF_MS);
}

#[test]
fn axum_workers_with_a_connection_per_request_fail_no_request() {
    assert_no_request_fails(Workers::Axum, Mode::PerRequest, 50);
}

#[test]
fn the_same_client_sees_requests_fail_when_express_workers_stop_by_server_close() {
    assert_failures_are_seen(Workers::NaiveExpress);
}

#[test]
fn the_same_client_sees_requests_fail_when_axum_workers_stop_by_hypers_graceful_shutdown() {
    assert_failures_are_seen(Workers::NaiveAxum);
}

#[test]
fn scaling_down_and_up_under_load_fails_no_request() {
    let _alone = exclusive();
    for (workers, mode) in [(Workers::Express, Mode::KeepAlive), (Workers::Axum, Mode::PerRequest)] {
        let master = workers.start().option("--settle-time", "0s").ready();
        let load = Load::start(Plan { mode, clients: 20, think_ms: 0..=BRIEF_MS, ..Plan::new(master.address()) });
        for size in ["4", "1", "3", "1"] {
            load.await_ok(100);
            let scale = master.run(["scale", size]);
            assert_eq!(scale.code, Some(0), "{}", scale.stderr);
        }
        load.await_ok(100);
        let report = load.stop();
        assert_eq!((report.failures(), report.torn_idle), (0, 0), "{report}\n{}", master.log());
        assert_eq!(master.status().pids().len(), 1);
        master.stop();
    }
}

#[test]
fn a_worker_that_asks_to_be_replaced_under_load_fails_no_request() {
    let _alone = exclusive();
    let master = Workers::Express.start().option("--settle-time", "0s").ready();
    let load = Load::start(Plan { clients: 20, think_ms: 0..=BRIEF_MS, ..Plan::new(master.address()) });
    for _ in 0..5 {
        load.await_ok(100);
        let mut client = Client::connect(master.address());
        client.ask("/crash");
        assert!(client.response().starts_with("HTTP/1.1 500"));
        let asker = master.await_log("Worker dying").worker_pid();
        while master.await_log("Worker exited").worker_pid() != asker {}
    }
    let report = load.stop();
    assert_eq!((report.failures(), report.torn_idle), (0, 0), "{report}\n{}", master.log());
    assert_eq!(master.log().count("Creating new worker"), 2 + 5, "{}", master.log());
    master.stop();
}
