//! Workers that are replaced because of their age, memory or requests, and one that is blocked: a replacement first, one after the other, and no request fails.

use dutch_master_tests::harness::{Master, Start, binary, exclusive, get};
use dutch_master_tests::load::{Load, Mode, Plan};

fn workers(limit: &str, value: &str) -> Master {
    Start::new(binary("http-worker")).option("--settle-time", "0s").option(limit, value).ready()
}

/// The reasons for which workers were due, in order.
fn reasons(master: &Master) -> Vec<String> {
    let due = master.log().entries("Worker due to be recycled");
    due.iter().map(|line| line.text("reason").unwrap_or_default().to_owned()).collect()
}

/// Under load four workers go, and others have come before them.
#[track_caller]
fn assert_recycled_without_a_failure(limit: &str, value: &str, reason: &str) {
    let _alone = exclusive();
    let master = workers(limit, value);
    let loads = [Mode::PerRequest, Mode::KeepAlive].map(|mode| Load::start(Plan { mode, clients: 10, think_ms: 0..=20, ..Plan::new(master.address()) }));
    for _ in 0..4 {
        let _told = master.await_log("Replacement worker available - disconnecting");
    }
    for load in loads {
        load.await_ok(50);
        let _report = load.stop_without_failure(master.log());
    }
    assert!(master.log().least_running() >= 2, "there are never fewer than two:\n{}", master.log());
    assert!(reasons(&master).iter().all(|told| told == reason), "{}", master.log());
    master.stop();
}

#[test]
fn a_worker_that_has_answered_its_requests_is_recycled_without_a_failure() {
    assert_recycled_without_a_failure("--max-requests", "400", "requests");
}

#[test]
fn a_worker_that_has_lived_for_long_enough_is_recycled_without_a_failure() {
    assert_recycled_without_a_failure("--max-lifetime", "2s", "lifetime");
}

#[test]
fn a_worker_that_takes_too_much_memory_is_recycled_and_the_others_stay() {
    let _alone = exclusive();
    let master = workers("--max-memory", "64M");
    assert_eq!(get(master.address(), "/leak?mib=100"), "Gone\n");
    let due = master.await_log("Worker due to be recycled");
    assert_eq!(due.text("reason"), Some("memory"));
    assert_eq!(due.number("maxMemory"), 64 << 20);
    assert!(due.number("memory") > 100 << 20, "{}", due.number("memory"));
    while master.await_log("Worker exited").worker_pid() != due.worker_pid() {}
    assert_eq!(reasons(&master), ["memory"], "{}", master.log());
    assert_eq!(master.log().count("Worker listening"), 3, "{}", master.log());
    master.stop();
}

#[test]
fn a_blocked_worker_is_killed_and_replaced_and_the_log_says_for_how_long_it_was_silent() {
    let _alone = exclusive();
    let master = workers("--heartbeat", "1s");
    assert_eq!(get(master.address(), "/block"), "Soon\n");
    let blocked = master.await_log("Worker is blocked, killing it");
    let reason = blocked.text("reason").unwrap_or_default().to_owned();
    assert!(reason.starts_with("no heartbeat for 1."), "{reason}");
    let exited = master.await_log("Worker exited");
    assert_eq!((exited.worker_pid(), exited.text("signal")), (blocked.worker_pid(), Some("SIGKILL")));
    while master.log().count("Worker listening") < 3 {
        let _replacement = master.await_log("Worker listening");
    }
    assert_eq!(master.log().count("Worker is blocked, killing it"), 1, "the other one beats:\n{}", master.log());
    master.stop();
}
