//! As the first process of a PID namespace, which is what a container's command is: nobody else reaps there, and no signal has a default.
#![allow(clippy::print_stdout)] // what was not run is said

use std::fs;
use std::process::Command;
use std::time::Instant;

use dutch_master_tests::harness::{GOOD, Master, PATIENCE, Start, binary, get, send};
use nix::sys::signal::Signal::SIGTERM;

const IN_A_NAMESPACE: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// Whether a PID namespace can be had; else the test says that it was not run.
fn is_possible(test: &str) -> bool {
    let is_possible = Command::new(IN_A_NAMESPACE[0]).args(&IN_A_NAMESPACE[1..]).arg("true").status().is_ok_and(|status| status.success());
    if !is_possible {
        println!("NOT RUN: {test}: PID namespaces need root");
    }
    is_possible
}

fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The master's pid outside of the namespace.
fn first_process(master: &Master) -> i32 {
    *children(master.pid()).first().expect("the namespace has a first process")
}

/// State and name of each child of the first process, as the system shows them outside.
fn states(first: i32) -> Vec<String> {
    let stats = children(first).into_iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stats.map(|stat| stat.rsplit_once(')').map_or(String::new(), |(name, rest)| format!("{}){}", name, &rest[..2]))).collect()
}

#[test]
fn orphans_by_the_thousand_leave_no_zombie_and_take_no_exit_code_from_a_worker() {
    if !is_possible("orphans of workers in a PID namespace") {
        return;
    }
    let crashing = Start::test_worker("hello listen listening orphans:300 exit:7").by(IN_A_NAMESPACE);
    let master = crashing.option("--settle-time", "0s").option("--num-workers", "4").start();
    for _ in 0..8 {
        let exited = master.await_log("Worker exited");
        assert_eq!((exited.field("code").and_then(serde_json::Value::as_i64), exited.text("signal")), (Some(7), None), "{}", master.log());
    }
    let first = first_process(&master);
    // Nobody asks for more of them; what is left has been told, and is reaped.
    assert_eq!(master.run(["stop"]).code, Some(0), "{}", master.log());
    assert_eq!(master.exit_code(), Some(0), "{}", master.log());
    assert!(states(first).is_empty());
    let reaped: i64 = master.log().entries("Orphans reaped").iter().map(|line| line.number("reaped")).sum();
    assert!(reaped > 1_000, "{reaped} orphans were reaped");
}

#[test]
fn a_namespace_with_a_living_pool_has_no_zombie_and_sigterm_stops_it() {
    if !is_possible("a pool in a PID namespace") {
        return;
    }
    let master = Start::test_worker("hello listen listening orphans:300 serve drained hang").by(IN_A_NAMESPACE).start();
    let _ready = master.await_log("Cluster ready");
    let _served = get(master.address(), "/");
    let (first, until) = (first_process(&master), Instant::now() + PATIENCE);
    // What lives on in a session of its own is nobody's business.
    let is_at_rest = |states: &[String]| states.iter().all(|state| !state.ends_with(" Z")) && states.iter().any(|state| state.contains("sleep"));
    while !is_at_rest(&states(first)) {
        assert!(Instant::now() < until, "no zombie, and what sleeps: {:?}\n{}", states(first), master.log());
        std::thread::yield_now();
    }
    send(first, SIGTERM);
    assert_eq!(master.await_log("Shutdown requested").text("signal"), Some("SIGTERM"));
    assert_eq!(master.exit_code(), Some(0), "{}", master.log());
    assert_eq!(master.processes(), [0; 0], "the namespace ends with its first process");
}

#[test]
fn rolling_restarts_in_a_namespace_are_as_elsewhere() {
    if !is_possible("restarts in a PID namespace") {
        return;
    }
    let master = Start::test_worker(GOOD).by(IN_A_NAMESPACE).option("--settle-time", "0s").start();
    let _ready = master.await_log("Cluster ready");
    (0..3).for_each(|_| master.restart());
    let exits = master.log().entries("Worker exited");
    assert!(!exits.is_empty() && exits.iter().all(|line| line.field("code").is_some() || line.text("signal") == Some("SIGTERM")), "{}", master.log());
    send(first_process(&master), SIGTERM);
    assert_eq!(master.exit_code(), Some(0), "{}", master.log());
}

#[test]
fn where_nothing_can_be_written_the_start_says_what_helps_and_that_helps() {
    if !is_possible("a root that is read-only") {
        return;
    }
    let run = |variable: &str| {
        let line = format!(
            "mount -t tmpfs -o ro none /run && exec env -u XDG_RUNTIME_DIR -u RUNTIME_DIRECTORY {variable} {} start --name ro false",
            binary("dutch-master").display()
        );
        let output = Command::new("unshare").args(["--mount", "sh", "-c", &line]).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run("A=1");
    assert!(code == Some(1) && said.contains("/run/dutch-master") && said.contains("needs a small tmpfs"), "{said}");
    let folder = tempfile::tempdir().expect("a folder");
    let (code, said) = run(&format!("RUNTIME_DIRECTORY={}", folder.path().display()));
    assert!(code == Some(1) && said.contains("Cluster could not be started") && !said.contains("runtime directory"), "{said}");
}
