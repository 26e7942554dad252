//! What the master uses does not grow, however often it replaces its workers.
#![allow(clippy::print_stdout)] // the numbers are worth seeing

use dutch_master_tests::harness::{GOOD, Releases, Start, Usage, exclusive, send};
use nix::sys::signal::Signal::SIGKILL;

/// What the allocator may keep at one time and not at another: a thousand restarts were seen to differ by less.
const RESIDENT_NOISE_KIB: usize = 256;

#[track_caller]
fn assert_no_growth(early: Usage, late: Usage) {
    println!("early {early:?}, late {late:?}");
    assert_eq!(late.descriptors, early.descriptors, "descriptors");
    assert_eq!(late.threads, early.threads, "threads");
    assert!(late.resident_kib <= early.resident_kib + RESIDENT_NOISE_KIB, "memory grows: {early:?}, {late:?}");
}

#[test]
fn after_a_hundred_restarts_the_master_uses_what_it_used_after_ten() {
    let _alone = exclusive();
    let master = Start::test_worker(GOOD).option("--settle-time", "0s").ready();
    let usage_after = |restarts| {
        for _ in 0..restarts {
            master.restart();
            for _ in 0..2 {
                let _old = master.await_log("Worker exited");
            }
        }
        master.usage_at_rest()
    };
    assert_no_growth(usage_after(10), usage_after(90));
    master.stop();
}

#[test]
fn crashes_and_restarts_that_are_given_up_leave_nothing_behind_in_the_master() {
    let _alone = exclusive();
    let releases = Releases::new("v1", GOOD);
    releases.add("broken", "hello listen exit:1");
    let master = Start::release(&releases).option("--settle-time", "0s").option("--restart-attempts", "1").ready();
    let usage_after = |rounds| {
        for _ in 0..rounds {
            releases.switch("broken");
            assert_eq!(master.run(["restart"]).code, Some(1), "{}", master.log());
            let _broken = master.await_log("Worker exited");
            releases.switch("v1");
            send(master.status().pids()[0], SIGKILL);
            let _killed = master.await_log("Worker exited");
            let _replacement = master.await_log("Worker listening");
        }
        master.usage_at_rest()
    };
    assert_no_growth(usage_after(5), usage_after(45));
    master.stop();
}
