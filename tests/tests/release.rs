//! New releases: good, broken, broken a little later, and faster than they can start.

use std::time::Duration;

use dutch_master_tests::harness::{Finished, GOOD, Master, PATIENCE, Releases, Start, get, send};
use nix::sys::signal::Signal::SIGKILL;

/// Deploys a release that does not work: the restart is given up, and the old workers have not been touched.
#[track_caller]
fn assert_given_up(start: impl FnOnce(Start) -> Start, behaviour: &str, reason: &str) -> (Releases, Master) {
    let releases = Releases::new("v1", GOOD);
    let master = start(Start::release(&releases)).ready();
    let before = master.status().pids();
    releases.add("v2", behaviour);
    releases.switch("v2");
    let Finished { code, stderr, .. } = master.run(["restart"]);
    assert_eq!(code, Some(1), "{stderr}\n{}", master.log());
    assert!(stderr.contains(reason), "the command does not say “{reason}”: {stderr}");
    let status = master.status();
    assert_eq!(status.pids(), before, "{}", master.log());
    assert!(status.pool.given_up.is_some_and(|why| why.contains(reason)), "{}", master.log());
    for _ in 0..10 {
        assert_eq!(get(master.address(), "/"), "v1");
    }
    (releases, master)
}

fn as_it_is(start: Start) -> Start {
    start
}

#[test]
fn a_link_that_was_switched_is_followed_by_a_restart_and_by_crash_replacements() {
    let releases = Releases::new("v1", GOOD);
    let master = Start::release(&releases).option("-n", "1").option("--settle-time", "0s").ready();
    assert_eq!(get(master.address(), "/"), "v1");
    releases.add("v2", GOOD);
    releases.switch("v2");
    assert_eq!(get(master.address(), "/"), "v1", "nothing happens by itself");
    master.restart();
    let _old = master.await_log("Worker exited");
    assert_eq!(get(master.address(), "/"), "v2");
    releases.add("v3", GOOD);
    releases.switch("v3");
    send(master.status().pids()[0], SIGKILL);
    let _replacement = master.await_log("Worker exited");
    assert_eq!(get(master.address(), "/"), "v3");
    master.stop();
}

#[test]
fn a_release_that_crashes_before_hello_is_given_up() {
    assert_given_up(as_it_is, "exit:7", "exited with code 7").1.stop();
}

#[test]
fn a_release_that_crashes_after_hello_is_given_up() {
    assert_given_up(as_it_is, "hello exit:8", "exited with code 8").1.stop();
}

#[test]
fn a_release_that_never_says_listening_is_given_up() {
    assert_given_up(|start| start.option("--start-timeout", "500ms"), "hello listen hang", "did not say `listening` within 0.5 s").1.stop();
}

#[test]
fn a_release_that_dies_one_second_after_listening_is_given_up() {
    assert_given_up(as_it_is, "hello listen listening serve:1000 exit:5", "exited with code 5").1.stop();
}

#[test]
fn after_giving_up_workers_that_crash_are_replaced_from_the_old_release_until_a_fixed_one_comes() {
    let (releases, master) = assert_given_up(|start| start.option("-n", "1"), "exit:7", "exited with code 7");
    master.log().forget();
    send(master.status().pids()[0], SIGKILL);
    let _replacement = master.await_log("Worker listening");
    assert_eq!(get(master.address(), "/"), "v1");
    let status = master.status();
    assert_eq!((status.pool.committed, status.running().next().map(|worker| worker.generation)), (Some(1), Some(1)), "numbers of generations");
    releases.add("v3", GOOD);
    releases.switch("v3");
    master.restart();
    let status = master.status();
    assert_eq!((status.pool.committed, status.pool.given_up), (Some(3), None), "generation 2 is not used again");
    master.stop();
}

#[test]
fn a_restart_during_a_restart_takes_its_place() {
    let releases = Releases::new("v1", GOOD);
    let master = Start::release(&releases).option("--settle-time", "0s").ready();
    releases.add("v1", "sleep:700 hello listen listening serve drained hang");
    master.log().forget();
    let first = master.begin(["restart"]);
    let _begun = master.await_log("Creating new worker");
    let second = master.run(["restart"]);
    let first = first.finish();
    assert_eq!(first.code, Some(4), "superseded: {}", first.stderr);
    assert!(first.stderr.contains('3'), "by generation 3: {}", first.stderr);
    assert_eq!(second.code, Some(0), "{}\n{}", second.stderr, master.log());
    assert!(master.status().running().all(|worker| worker.generation == 3), "{}", master.log());
    master.stop();
}

#[test]
fn restarts_faster_than_workers_boot_never_leave_fewer_than_the_size_and_the_last_one_wins() {
    let releases = Releases::new("v1", GOOD);
    let master = Start::release(&releases).option("--settle-time", "0s").ready();
    releases.add("v1", "sleep:3000 hello listen listening serve drained hang");
    for _ in 0..5 {
        assert_eq!(master.run(["restart", "--no-wait"]).code, Some(0));
        std::thread::sleep(Duration::from_secs(1)); // the scenario
        let status = master.status();
        assert!(status.running().count() >= 2, "{status:?}\n{}", master.log());
        assert!(status.workers.len() <= 7, "3 × size + surge at most: {status:?}");
    }
    master.restart();
    let status = master.status();
    assert_eq!(status.running().map(|worker| worker.generation).collect::<Vec<_>>(), [7, 7], "{}", master.log());
    assert_eq!(master.log().least_running(), 2, "{}", master.log());
    master.stop();
}

#[test]
fn without_waiting_a_restart_is_done_all_the_same() {
    let master = Start::test_worker(GOOD).option("--settle-time", "0s").ready();
    let before = master.status().pids();
    let restart = master.run(["restart", "--no-wait"]);
    assert_eq!(restart.code, Some(0), "{}", restart.stderr);
    let _done = master.await_log("Restart complete");
    assert!(master.status().pids().iter().all(|pid| !before.contains(pid)));
    master.stop();
}

#[test]
fn the_restart_signal_restarts_also_while_the_master_is_starting() {
    let master = Start::test_worker("sleep:500 hello listen listening serve drained hang").option("--settle-time", "0s").start();
    let _begun = master.await_log("Creating new worker");
    master.signal(nix::sys::signal::Signal::SIGUSR2);
    let requested = master.await_log("Restart requested");
    assert_eq!(requested.text("signal"), Some("SIGUSR2"));
    let _done = master.await_log("Restart complete");
    assert!(master.status().running().all(|worker| worker.generation == 2), "{}", master.log());
    master.stop();
}

#[test]
fn a_restart_that_the_client_does_not_wait_for_long_enough_goes_on() {
    let releases = Releases::new("v1", GOOD);
    let master = Start::release(&releases).option("--settle-time", "0s").ready();
    releases.add("v1", "sleep:1500 hello listen listening serve drained hang");
    let restart = master.run(["restart", "--timeout", "300ms"]);
    assert_eq!(restart.code, Some(1), "{}", restart.stderr);
    assert!(restart.took < PATIENCE, "{:?}", restart.took);
    let _done = master.await_log("Restart complete");
    master.stop();
}
