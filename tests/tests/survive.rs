//! The promise: the master may be killed at any moment. What serves goes on serving, and a master that is started again by the same command has the pool back.
#![allow(clippy::print_stdout)] // the numbers are worth seeing

use dutch_master_tests::harness::{GOOD, Master, Start, exclusive, get};
use dutch_master_tests::load::{Load, Mode, Plan};
use dutch_master_tests::rolling::Workers;

const KILLS: usize = 5;

/// Requests that succeed between two deeds.
const OK_BETWEEN: u64 = 50;

fn load(master: &Master, mode: Mode) -> Load {
    Load::start(Plan { mode, clients: 20, think_ms: 0..=20, ..Plan::new(master.address()) })
}

/// Ids and pids of those that run.
fn workers(master: &Master) -> Vec<(u32, Option<u32>)> {
    master.status().running().map(|worker| (worker.id, worker.pid)).collect()
}

#[track_caller]
fn assert_nothing_fails(workers_of: Workers, mode: Mode) {
    let _alone = exclusive();
    let mut master = workers_of.start().option("--settle-time", "0s").ready();
    let (before, load) = (workers(&master), load(&master, mode));
    let descriptors = master.usage().descriptors;
    for _ in 0..KILLS {
        load.await_ok(OK_BETWEEN);
        master.kill();
        load.await_ok(OK_BETWEEN);
        master.start_again();
        let adopted = master.await_log("Cluster adopted");
        assert_eq!(adopted.number("workers"), 2, "{}", master.log());
        assert_eq!(workers(&master), before, "the same workers, known by the same ids:\n{}", master.log());
    }
    load.await_ok(OK_BETWEEN);
    assert_eq!(master.log().count("Creating new worker"), 0, "{}", master.log());
    assert_eq!(master.usage().descriptors, descriptors, "{}", master.log());
    // What was adopted can be replaced, and ids go on.
    master.restart();
    assert_eq!(workers(&master).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 4], "{}", master.log());
    load.await_ok(OK_BETWEEN);
    let report = load.stop();
    println!("{workers_of:?}, {mode:?}, {KILLS} kills: {report}");
    assert_eq!(report.failures(), 0, "{report}\n{}", master.log());
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
fn a_rolling_restart_that_the_master_does_not_live_to_see_is_completed_by_the_next_one() {
    let _alone = exclusive();
    let mut master = Workers::Axum.start().option("--settle-time", "0s").ready();
    let load = load(&master, Mode::KeepAlive);
    for (round, moment) in ["Creating new worker", "Worker spawned", "Worker connected", "Worker listening", "Replacement worker available - disconnecting", "Worker disconnected", "Worker exited"].into_iter().enumerate() {
        load.await_ok(OK_BETWEEN);
        let restart = master.begin(["restart"]);
        let _now = master.await_log(moment);
        master.kill();
        assert_ne!(restart.finish().code, Some(0));
        master.start_again();
        let _complete = master.await_log("Restart complete");
        while master.processes().len() > 2 {
            let _old = master.await_log("Worker exited");
        }
        let status = master.status();
        let generation = u32::try_from(round + 2).expect("few rounds");
        assert!(status.running().count() == 2 && status.running().all(|worker| worker.generation == generation), "killed at “{moment}”: {status:?}\n{}", master.log());
    }
    load.await_ok(OK_BETWEEN);
    let report = load.stop();
    println!("{report}");
    assert_eq!(report.failures(), 0, "{report}\n{}", master.log());
    master.stop();
}

#[test]
fn a_master_that_is_killed_while_it_takes_over_is_followed_by_the_next_one() {
    let _alone = exclusive();
    let mut master = Workers::Axum.start().ready();
    let (before, load) = (workers(&master), load(&master, Mode::PerRequest));
    for moment in ["Taking over from a master that died", "Worker came back", "Listener came back"] {
        master.kill();
        master.start_again();
        let _now = master.await_log(moment);
        master.kill();
        load.await_ok(OK_BETWEEN);
        master.start_again();
        let _adopted = master.await_log("Cluster adopted");
        assert_eq!(workers(&master), before, "{}", master.log());
    }
    let report = load.stop();
    assert_eq!(report.failures(), 0, "{report}\n{}", master.log());
    master.stop();
}

#[test]
fn workers_that_do_not_come_back_are_replaced_and_their_listener_is_kept() {
    let mut master = Start::test_worker(GOOD).ready();
    let address = master.address();
    master.kill();
    master.start_again();
    let _adopted = master.await_log("Cluster adopted");
    for _ in 0..2 {
        let _new = master.await_log("Worker listening");
    }
    for _ in 0..2 {
        let _old = master.await_log("Worker exited");
    }
    assert_eq!(workers(&master).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 4], "{}", master.log());
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
    assert_eq!(workers(&master).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 4, 5], "{}", master.log());
    master.stop();
}

#[test]
fn when_nobody_lives_the_next_start_is_a_first_one() {
    let mut master = Workers::Axum.start().ready();
    let pids = master.status().pids();
    master.kill();
    pids.into_iter().for_each(|pid| dutch_master_tests::harness::send(pid, nix::sys::signal::Signal::SIGKILL));
    while master.processes().iter().any(|pid| dutch_master_tests::harness::is_alive(*pid)) {
        std::thread::yield_now();
    }
    master.start_again();
    let _ready = master.await_log("Cluster ready");
    assert_eq!(workers(&master).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2], "{}", master.log());
    master.stop();
}
