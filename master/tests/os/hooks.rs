//! The `before_fork` hook.

use std::fs::read_to_string;

use nix::sys::signal::Signal;

use crate::harness::{Folder, Master, eventually, is_alive};
use crate::peer::Peer;

#[test]
fn hooks_run_one_after_the_other_each_before_its_worker() {
    let folder = Folder::new();
    let hook = "echo begin >> order; sleep 0.05; echo end >> order";
    let mut master = Master::start(&folder, &["-n", "3", "--before-fork", hook]);
    let _workers: Vec<_> = (0..3).map(|_| Peer::of_next_serving_worker(&mut master)).collect();
    master.next("Cluster ready");
    assert_eq!(read_to_string(folder.path().join("order")).unwrap(), "begin\nend\n".repeat(3));
}

#[test]
fn a_hook_may_make_the_worker_that_is_not_there_yet() {
    let folder = Folder::new();
    let hook = "printf '#!/bin/sh\\nexec sleep 60\\n' > made; chmod +x made";
    let mut master = Master::start(&folder, &["-n", "1", "--before-fork", hook, "--", "./made"]);
    assert!(is_alive(master.next_worker()));
}

#[test]
fn a_hook_that_fails_is_a_failed_start() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--restart-attempts", "1", "--before-fork", "exit 7"]);
    assert_eq!(master.next("Worker could not be started")["reason"], "before_fork exited with code 7");
    assert_eq!(master.wait().code(), Some(1));
    assert_eq!(master.count("Worker spawned"), 0);
}

#[test]
fn a_stop_ends_a_hook_and_what_it_started() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "2", "--before-fork", "sleep 60 & echo $! > child; wait"]);
    let child = || read_to_string(folder.path().join("child")).ok().and_then(|pid| pid.trim().parse().ok());
    eventually("the hook has a child", || child().is_some());
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().code(), Some(0));
    eventually("the child is dead", || !is_alive(child().unwrap()));
    assert_eq!(master.count("Worker spawned"), 0);
}
