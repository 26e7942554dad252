//! The promise: the master may be killed at any moment. What serves goes on serving, and a master that is started again by the same command has the pool back.
#![allow(clippy::print_stdout)] // the numbers are worth seeing

use std::thread;
use std::time::Duration;

use dutch_master_protocol::control::Phase;
use dutch_master_tests::harness::{Client, Master, Running, Start, exclusive, get, is_alive, send, wanted};
use dutch_master_tests::load::{Failure, Load, Mode, Plan};
use dutch_master_tests::rolling::Workers;
use nix::sys::signal::Signal::SIGKILL;

const KILLS: usize = 5;

/// Requests that succeed between two deeds.
const OK_BETWEEN: u64 = 50;

fn load(master: &Master, mode: Mode) -> Load {
    Load::start(Plan { mode, clients: 20, think_ms: 0..=20, ..Plan::new(master.address()) })
}

#[track_caller]
fn assert_nothing_fails(workers_of: Workers, mode: Mode) {
    let _alone = exclusive();
    let mut master = workers_of.start().option("--settle-time", "0s").ready();
    let (before, load) = (master.workers(), load(&master, mode));
    load.await_ok(OK_BETWEEN);
    let descriptors = master.usage().descriptors;
    for _ in 0..KILLS {
        load.await_ok(OK_BETWEEN);
        master.kill();
        load.await_ok(OK_BETWEEN);
        master.start_again();
        let adopted = master.await_log("Cluster adopted");
        assert_eq!(adopted.number("workers"), 2, "{}", master.log());
        assert_eq!(master.workers(), before, "the same workers, known by the same ids:\n{}", master.log());
    }
    load.await_ok(OK_BETWEEN);
    assert_eq!(master.log().count("Creating new worker"), 0, "{}", master.log());
    assert_eq!(master.usage().descriptors, descriptors, "{}", master.log());
    // What was adopted can be replaced, and ids go on.
    master.restart();
    assert_eq!(master.workers().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 4], "{}", master.log());
    load.await_ok(OK_BETWEEN);
    let report = load.stop_without_failure(master.log());
    println!("{workers_of:?}, {mode:?}, {KILLS} kills: {report}");
    master.stop();
}

#[test]
fn killing_the_master_fails_no_request_on_connections_that_stay() {
    assert_nothing_fails(Workers::Axum, Mode::KeepAlive);
}

#[test]
fn killing_the_master_fails_no_request_on_new_connections() {
    assert_nothing_fails(Workers::Axum, Mode::PerRequest);
}

#[test]
fn killing_the_master_fails_no_request_to_node_on_connections_that_stay() {
    assert_nothing_fails(Workers::Express, Mode::KeepAlive);
}

#[test]
fn killing_the_master_fails_no_request_to_node_on_new_connections() {
    assert_nothing_fails(Workers::Express, Mode::PerRequest);
}

#[test]
fn killing_the_master_fails_no_request_to_a_worker_that_speaks_the_protocol_by_hand() {
    assert_nothing_fails(Workers::Python, Mode::KeepAlive);
}

/// The control: what the promise is worth. They are replaced by SIGTERM, since nothing else reaches them, and have no say in it.
#[test]
fn workers_that_do_not_come_back_lose_what_they_had_accepted_when_they_are_replaced() {
    let _alone = exclusive();
    let mut master = Workers::Forgetful.start().ready();
    let load = load(&master, Mode::KeepAlive);
    load.await_ok(OK_BETWEEN);
    master.kill();
    load.await_ok(OK_BETWEEN);
    assert_eq!(load.so_far().failures(), 0, "the death itself costs nothing");
    master.start_again();
    let _served = master.await_log("Worker listening");
    master.eventually("they are replaced", |status| status.workers.len() == 2 && status.running().all(|worker| worker.id > 2));
    load.await_ok(OK_BETWEEN);
    let report = load.stop();
    println!("without resume: {report}");
    assert!(report.failures() > 0, "the control fails nothing: {report}");
    assert_eq!(report.count(Failure::Reset) + report.count(Failure::Eof), report.failures(), "{report}");
    master.stop();
}

#[test]
fn what_an_app_says_while_there_is_no_master_is_heard_by_the_next_one() {
    let mut master = Workers::Express.start().option("-n", "1").option("--settle-time", "0s").ready();
    let address = master.address();
    master.kill();
    let mut client = Client::connect(address);
    client.ask("/crash"); // It answers, and asks to be replaced.
    assert!(client.response().starts_with("HTTP/1.1 500"));
    master.start_again();
    let _adopted = master.await_log("Cluster adopted");
    master.eventually("it is replaced as it asked", |status| status.workers.len() == 1 && status.running().any(|worker| worker.id == 2));
    master.stop();
}

/// Where the log says this, a rolling restart is in the middle of something.
const MOMENTS: [&str; 6] =
    ["Worker spawned", "Worker connected", "Worker listening", "Replacement worker available - disconnecting", "Worker disconnected", "Worker exited"];

#[test]
fn a_rolling_restart_that_the_master_does_not_live_to_see_is_completed_by_the_next_one() {
    let _alone = exclusive();
    let mut master = Workers::Axum.start().option("--settle-time", "0s").ready();
    let load = load(&master, Mode::KeepAlive);
    for (moment, generation) in MOMENTS.into_iter().zip(2..) {
        load.await_ok(OK_BETWEEN);
        // What the last round left to be told is no moment of this one.
        master.log().forget();
        let restart = master.begin(["restart"]);
        let _now = master.await_log(moment);
        master.kill();
        let _cut = restart.finish();
        master.start_again();
        let _adopted = master.await_log("Cluster adopted");
        master.eventually(&format!("killed at “{moment}”, it is renewed"), |status| {
            let is_renewed = status.running().count() == 2 && status.running().all(|worker| worker.generation == generation);
            is_renewed && status.workers.len() == 2 && status.pool.phase == Phase::Serving
        });
    }
    load.await_ok(OK_BETWEEN);
    let report = load.stop_without_failure(master.log());
    println!("{report}");
    master.stop();
}

/// The n-th number of a sequence that looks like chance and can be run again.
fn chance(n: u64) -> u64 {
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
}

/// `SURVIVE_KILLS` and `SURVIVE_SEED` in the environment: more of them, others.
#[track_caller]
fn assert_any_moment_will_do(workers: Workers, kills: u64) {
    let _alone = exclusive();
    let (kills, seed) = (wanted("SURVIVE_KILLS").unwrap_or(kills), wanted("SURVIVE_SEED").unwrap_or(1));
    let mut master = workers.start().option("--settle-time", "0s").ready();
    let descriptors = master.usage_at_rest().descriptors;
    let (keep_alive, per_request) = (load(&master, Mode::KeepAlive), load(&master, Mode::PerRequest));
    for kill in 0..kills {
        // Half of the time something is going on.
        let restart = chance(seed + 2 * kill).is_multiple_of(2).then(|| master.begin(["restart"]));
        thread::sleep(Duration::from_millis(chance(seed + 2 * kill + 1) % 400));
        master.kill();
        drop(restart.map(Running::finish));
        master.start_again();
        // And a quarter of the time the next master is killed before it has everything.
        if kill % 4 > 0 {
            let _adopted = master.await_log("Cluster adopted");
        }
    }
    if master.log().count("Cluster adopted") == 0 {
        let _adopted = master.await_log("Cluster adopted");
    }
    master.restart();
    master.eventually("the pool is whole and nothing else is left", |status| status.running().count() == 2 && status.workers.len() == 2);
    keep_alive.await_ok(OK_BETWEEN);
    let (kept, new) = (keep_alive.stop(), per_request.stop());
    println!("{workers:?}, {kills} kills, seed {seed}: {kept}\n{new}");
    assert_eq!(kept.failures() + new.failures(), 0, "seed {seed}: {kept}\n{new}\n{}", master.log());
    assert_eq!(master.usage_at_rest().descriptors, descriptors, "{}", master.log());
    master.stop();
}

#[test]
fn at_whatever_moment_the_master_is_killed_no_request_fails_and_the_pool_is_whole_in_the_end() {
    assert_any_moment_will_do(Workers::Axum, 12);
}

#[test]
fn at_whatever_moment_the_master_is_killed_no_request_to_node_fails() {
    assert_any_moment_will_do(Workers::Express, 6);
}

#[test]
fn at_whatever_moment_the_master_is_killed_no_request_to_a_worker_that_speaks_the_protocol_by_hand_fails() {
    assert_any_moment_will_do(Workers::Python, 6);
}

#[test]
fn a_master_that_is_killed_while_it_takes_over_is_followed_by_the_next_one() {
    let _alone = exclusive();
    let mut master = Workers::Axum.start().ready();
    let (before, load) = (master.workers(), load(&master, Mode::PerRequest));
    for moment in ["Taking over from a master that died", "Worker came back", "Listener came back"] {
        master.kill();
        master.start_again();
        let _now = master.await_log(moment);
        master.kill();
        load.await_ok(OK_BETWEEN);
        master.start_again();
        let _adopted = master.await_log("Cluster adopted");
        assert_eq!(master.workers(), before, "{}", master.log());
    }
    let _report = load.stop_without_failure(master.log());
    master.stop();
}

#[test]
fn workers_that_do_not_come_back_are_replaced_and_their_listener_is_kept() {
    let mut master = Start::test_worker("hello listen listening stay serve drained hang").ready();
    let address = master.address();
    master.kill();
    master.start_again();
    let _adopted = master.await_log("Cluster adopted");
    master.eventually("they are replaced", |status| status.workers.len() == 2 && status.running().all(|worker| worker.id > 2));
    assert_eq!(master.log().count("Waiting before the next start"), 0, "nobody is to blame:\n{}", master.log());
    assert_eq!(master.address(), address);
    let _served = get(address, "/");
    master.stop();
}

#[test]
fn a_master_that_is_started_with_other_options_replaces_the_workers_that_it_takes_over() {
    let start = Workers::Axum.start();
    let mut master = start.clone().ready();
    master.kill();
    master.start_again_as(start.option("-n", "3").option("--settle-time", "0s"));
    let _complete = master.await_log("Restart complete");
    assert_eq!(master.workers().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 4, 5], "{}", master.log());
    master.stop();
}

/// A master that died after it had spawned a worker and before it had written down which process that is.
#[test]
fn a_worker_whose_process_was_not_written_down_is_known_by_its_token() {
    let mut master = Workers::Axum.start().ready();
    let before = master.workers();
    master.kill();
    let state = master.socket().with_extension("state");
    let mut written: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).expect("a state was written")).expect("it is JSON");
    for worker in written["state"]["workers"]["by_id"].as_object_mut().expect("there are workers").values_mut().take(1) {
        (worker["pid"], worker["began"]) = (serde_json::Value::Null, serde_json::Value::Null);
    }
    std::fs::write(&state, written.to_string()).expect("it can be written");
    master.start_again();
    let _adopted = master.await_log("Cluster adopted");
    assert_eq!(master.workers(), before, "{}", master.log());
    // It is watched like the others.
    master.status().pids().into_iter().for_each(|pid| send(pid, SIGKILL));
    master.eventually("they are replaced", |status| status.running().filter(|worker| worker.id > 2).count() == 2);
    master.stop();
}

#[test]
fn when_nobody_lives_the_next_start_is_a_first_one() {
    let mut master = Workers::Axum.start().ready();
    let pids = master.status().pids();
    master.kill();
    pids.into_iter().for_each(|pid| send(pid, SIGKILL));
    while master.processes().iter().any(|pid| is_alive(*pid)) {
        std::thread::yield_now();
    }
    master.start_again();
    let _ready = master.await_log("Cluster ready");
    assert_eq!(master.workers().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2], "{}", master.log());
    master.stop();
}
