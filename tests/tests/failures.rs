//! Workers that fail, in every phase of their lives: what the master does about it, and what it leaves alone.

use std::fs;
use std::time::{Duration, Instant};

use dutch_master_tests::harness::{GOOD, Line, Master, Releases, Start, binary, get, is_alive, send};
use nix::sys::signal::Signal::{self, SIGKILL};

/// Waits for a worker's exit.
fn await_exit(master: &Master, pid: i32) -> Line {
    loop {
        let exit = master.await_log("Worker exited");
        if exit.worker_pid() == pid {
            return exit;
        }
    }
}

/// A first start that cannot work ends the master, which says why.
#[track_caller]
fn assert_hopeless(start: Start, reason: &str) {
    let master = start.start();
    assert_eq!(master.exit_code(), Some(1), "{}", master.log());
    let log = master.log().to_string();
    assert!(log.contains(reason), "the log does not say “{reason}”:\n{log}");
    assert_eq!(master.processes(), [0; 0], "{log}");
}

#[test]
fn a_first_start_with_a_worker_that_crashes_before_hello_ends_with_its_status() {
    assert_hopeless(Start::test_worker("exit:7"), "exited with code 7");
}

#[test]
fn a_first_start_with_a_worker_that_crashes_after_hello_ends_with_its_status() {
    assert_hopeless(Start::test_worker("hello listen exit:8"), "exited with code 8");
}

#[test]
fn a_first_start_with_a_worker_that_never_says_listening_ends_with_the_reason() {
    assert_hopeless(Start::test_worker("hello hang").option("--start-timeout", "300ms"), "did not say `listening` within 0.3 s");
}

#[test]
fn a_worker_that_does_not_exist_ends_the_start_before_anything_is_spawned() {
    let master = Start::new("/no/such/worker").start();
    assert_eq!(master.exit_code(), Some(1), "{}", master.log());
    assert_eq!(master.log().count("Creating new worker"), 0, "{}", master.log());
    assert_eq!(master.log().to_string().lines().count(), 1, "one clear line:\n{}", master.log());
    assert!(master.log().to_string().contains("/no/such/worker"), "{}", master.log());
}

#[test]
fn a_port_in_use_ends_the_start_before_anything_is_spawned() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let master = Start::test_worker(GOOD).without_listener().option("--listen", &address).start();
    assert_eq!(master.exit_code(), Some(1), "{}", master.log());
    assert_eq!(master.log().count("Creating new worker"), 0, "{}", master.log());
    assert!(master.log().to_string().contains(&address), "{}", master.log());
}

#[test]
fn a_before_fork_that_fails_is_a_failed_start() {
    assert_hopeless(Start::test_worker(GOOD).option("--before-fork", "echo no database >&2; exit 3"), "code 3");
}

#[test]
fn a_before_fork_that_begins_to_fail_costs_no_running_worker() {
    let releases = Releases::new("v1", GOOD);
    let master = Start::release(&releases).option("--before-fork", "test ! -e broken").ready();
    let before = master.status().pids();
    fs::write(releases.current().join("broken"), "").expect("a file can be written");
    let restart = master.run(["restart"]);
    assert_eq!(restart.code, Some(1), "{}", master.log());
    assert_eq!(master.status().pids(), before);
    fs::remove_file(releases.current().join("broken")).expect("it is there");
    master.restart();
    master.stop();
}

#[test]
fn a_worker_killed_while_running_is_replaced_at_once() {
    let master = Start::test_worker(GOOD).ready();
    let before = master.status().pids();
    let killed = Instant::now();
    send(before[0], SIGKILL);
    assert_eq!(await_exit(&master, before[0]).text("signal"), Some("SIGKILL"));
    let _replacement = master.await_log("Worker listening");
    assert!(killed.elapsed() < Duration::from_millis(900), "the first failure costs no delay, but this took {:?}", killed.elapsed());
    let after = master.status().pids();
    assert_eq!(after.len(), 2);
    assert!(after.contains(&before[1]) && !after.contains(&before[0]), "{before:?} became {after:?}");
    master.stop();
}

#[test]
fn a_worker_that_crashes_while_draining_is_gone_and_nothing_else_happens() {
    let master = Start::test_worker("hello listen listening serve exit:9").option("--settle-time", "0s").ready();
    let before = master.status().pids();
    master.restart();
    for _ in &before {
        let exit = master.await_log("Worker exited");
        assert!(before.contains(&exit.worker_pid()), "{}", master.log());
        assert_eq!(exit.number("code"), 9);
    }
    assert_eq!(master.status().pids().len(), 2);
    assert_eq!(master.log().count("Creating new worker"), 4, "{}", master.log());
    assert_eq!(master.log().count("Worker disconnection was unexpected"), 0, "{}", master.log());
    master.stop();
}

#[test]
fn a_worker_that_ignores_the_order_and_sigterm_is_killed_at_the_deadline_with_its_children() {
    let master = Start::test_worker("ignore-term child hello listen listening serve hang")
        .option("-n", "1")
        .option("--settle-time", "0s")
        .option("--kill-timeout", "1s")
        .ready();
    let old = master.processes();
    assert_eq!(old.len(), 2, "a worker and its child");
    let ordered = Instant::now();
    master.restart();
    let exit = master.await_log("Worker exited");
    let took = exit.at - ordered;
    assert_eq!(exit.text("signal"), Some("SIGKILL"));
    assert!((Duration::from_millis(1_000)..Duration::from_millis(2_500)).contains(&took), "killed after {took:?}");
    assert!(old.iter().all(|pid| !is_alive(*pid)), "{}", master.log());
    // At the end again, and then it was no clean stop.
    master.signal(Signal::SIGTERM);
    assert_eq!(master.exit_code(), Some(1), "{}", master.log());
    assert_eq!(master.processes(), [0; 0], "{}", master.log());
}

#[test]
fn a_child_that_a_worker_leaves_behind_dies_with_it() {
    let master = Start::test_worker("child hello listen listening serve drained exit:0").option("-n", "1").ready();
    assert_eq!(master.processes().len(), 2);
    master.stop();
}

#[test]
fn a_worker_whose_connection_ends_while_it_lives_is_replaced_and_then_told_to_go() {
    let releases = Releases::new("v1", "hello listen listening serve:1500 drop hang");
    let master = Start::release(&releases).option("-n", "1").option("--settle-time", "0s").ready();
    let before = master.status().pids();
    releases.add("v1", GOOD);
    let _lost = master.await_log("Worker disconnection was unexpected");
    let _replacement = master.await_log("Worker listening");
    assert_eq!(await_exit(&master, before[0]).text("signal"), Some("SIGTERM"));
    assert_ne!(master.status().pids(), before);
    master.stop();
}

#[test]
fn a_worker_that_ends_by_itself_with_status_0_is_replaced_and_no_failure_is_counted() {
    let master = Start::test_worker("hello listen listening serve:50 exit:0").option("-n", "1").option("--settle-time", "0s").ready();
    for _ in 0..5 {
        assert_eq!(master.await_log("Worker exited").number("code"), 0);
        let _replacement = master.await_log("Worker listening");
    }
    // With failures counted, the fifth would have come after eight seconds.
    let (first, last) = (master.log().entries("Worker exited")[0].at, master.log().entries("Worker exited")[4].at);
    assert!(last - first < Duration::from_secs(3), "five took {:?}:\n{}", last - first, master.log());
}

#[test]
fn a_worker_that_asks_gets_one_replacement_and_then_goes() {
    let releases = Releases::new("v1", "hello listen listening serve:500 ask ask ask serve drained hang");
    let master = Start::release(&releases).option("-n", "1").option("--settle-time", "0s").ready();
    let before = master.status().pids();
    releases.add("v1", GOOD);
    let _asked = master.await_log("Worker dying");
    assert_eq!(await_exit(&master, before[0]).text("signal"), Some("SIGTERM"));
    assert_eq!(master.log().count("Creating new worker"), 2, "{}", master.log());
    master.stop();
}

#[test]
fn a_crash_loop_makes_at_most_six_spawns_in_six_seconds() {
    let releases = Releases::new("v1", GOOD);
    let master = Start::release(&releases).ready();
    releases.add("v1", "hello exit:1");
    let (begun, already) = (Instant::now(), master.log().count("Creating new worker"));
    master.status().pids().into_iter().for_each(|pid| send(pid, SIGKILL));
    while begun.elapsed() < Duration::from_secs(6) {
        let spawns = master.log().count("Creating new worker") - already;
        assert!(spawns <= 6, "{spawns} spawns after {:?}:\n{}", begun.elapsed(), master.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(master.log().count("Creating new worker") - already >= 3, "it goes on trying:\n{}", master.log());
    releases.add("v1", GOOD);
    master.restart();
    assert_eq!(get(master.address(), "/"), "v1");
    master.stop();
}

/// A worker behind a shell: the process that the master started is not the one that connects.
fn wrapped() -> Master {
    let script = format!("{} {GOOD} & wait", binary("test-worker").display());
    Start::new("/bin/sh").arg("-c").arg(script).option("-n", "1").option("--settle-time", "0s").ready()
}

#[test]
fn a_worker_behind_a_shell_is_rolled_over_and_stopped_like_any_other() {
    let master = wrapped();
    let before = master.processes();
    assert_eq!(before.len(), 2, "a shell and a worker");
    master.restart();
    let _exit = master.await_log("Worker exited");
    assert!(before.iter().all(|pid| !is_alive(*pid)), "{}", master.log());
    master.stop();
}

#[test]
fn a_worker_is_replaced_when_its_leader_dies_first_and_when_its_connection_ends_first() {
    let master = wrapped();
    for leader_first in [true, false, true, false] {
        let leader = master.status().pids()[0];
        let killed = master.processes().into_iter().find(|pid| (*pid == leader) == leader_first).expect("there are a leader and a worker");
        let before = master.processes();
        send(killed, SIGKILL);
        let _exit = await_exit(&master, leader);
        let _replacement = master.await_log("Worker listening");
        assert!(before.iter().all(|pid| !is_alive(*pid)), "{}", master.log());
    }
    assert_eq!(master.status().pids().len(), 1);
    master.stop();
}
