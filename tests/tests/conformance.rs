//! The conformance kit: what keeps the rules passes, and each fault fails the cases that it should and no other.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use dutch_master_tests::harness::{Finished, Running, binary, repository};
use serde_json::Value;

/// Runs the kit on a worker.
#[track_caller]
fn kit(options: &[&str], worker: &[&str]) -> (Finished, Value) {
    let mut command = Command::new(binary("dutch-master"));
    command.args(["conformance", "--json"]).args(options).arg("--").args(worker).current_dir(repository("."));
    let finished = Running::start(command).finish();
    let report = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.stderr));
    (finished, report)
}

/// The ids of the cases that ended so.
fn ended<'a>(report: &'a Value, result: &str) -> BTreeSet<&'a str> {
    let cases = report["cases"].as_array().into_iter().flatten();
    cases.filter(|case| case["result"] == result).filter_map(|case| case["id"].as_str()).collect()
}

#[track_caller]
fn passes(options: &[&str], worker: &[&str]) {
    let (finished, report) = kit(options, worker);
    let failed: Vec<_> = report["cases"].as_array().into_iter().flatten().filter(|case| case["result"] == "failed").collect();
    assert!(failed.is_empty() && finished.code == Some(0), "{worker:?}: {failed:#?}");
    assert!(ended(&report, "ok").len() > 40, "{worker:?}: {report:#}");
    // Nothing but what the worker does not offer.
    assert!(
        ended(&report, "untested").iter().all(|id| ["6.5", "6.8", "5.5.3", "6.1.2", "6.14"].contains(&id.split('/').next().unwrap_or(id))),
        "{worker:?}: {report:#}"
    );
}

fn path(path: &Path) -> &str {
    path.to_str().expect("paths here are text")
}

#[test]
fn a_worker_that_keeps_every_rule_passes() {
    passes(&["--strict"], &[path(&binary("zoo")), "good"]);
}

#[test]
fn the_worker_of_the_specification_passes() {
    let spec = std::fs::read_to_string(repository("protocol/SPEC.md")).expect("the specification");
    let snippet = spec.split_once("```python\n").and_then(|(_, rest)| rest.split_once("```")).map(|(snippet, _)| snippet).expect("a worker in Python");
    assert!(snippet.lines().count() < 80, "it is to be short");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let worker = folder.path().join("worker.py");
    std::fs::write(&worker, snippet).expect("a file");
    passes(&[], &["python3", path(&worker)]);
}

/// An SDK that offers everything, so that nothing stays untested.
#[track_caller]
fn passes_in_full(worker: &[&str]) {
    let (finished, report) = kit(&["--strict"], worker);
    let others: Vec<_> = report["cases"].as_array().into_iter().flatten().filter(|case| case["result"] != "ok").collect();
    assert!(others.is_empty() && finished.code == Some(0), "{worker:?}: {others:#?}");
    assert!(ended(&report, "ok").len() > 65, "{worker:?}: {report:#}");
}

#[test]
fn the_rust_sdk_passes() {
    passes_in_full(&[path(&binary("dutch-master-example-axum"))]);
}

#[test]
fn the_node_sdk_passes() {
    let _installed = repository("examples/express/node_modules/express");
    passes_in_full(&["examples/express/app.js"]);
}

/// Runs a program to its end; false, said visibly, where the machine does not have it.
#[track_caller]
fn has(program: &str, arguments: &[&str], folder: &str) -> bool {
    let mut command = Command::new(program);
    // Go keeps what it builds below the home folder, which a test may not have.
    command.args(arguments).current_dir(repository(folder)).env("GOCACHE", std::env::temp_dir().join("dm-go-cache")).env("GOFLAGS", "-mod=mod");
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(_) => {
            // Past the capture of output, so that it is seen when the test passes.
            std::io::stderr().write_all(format!("skipped: {program} is missing\n").as_bytes()).expect("stderr");
            false
        }
    }
}

#[test]
fn the_example_in_python_passes() {
    if has("python3", &["-c", "import socket; socket.recv_fds"], ".") {
        passes(&["--strict"], &["python3", "examples/python/worker.py"]);
    }
}

#[test]
fn the_example_in_ruby_passes() {
    if has("ruby", &["--version"], ".") {
        passes(&["--strict"], &["ruby", "examples/ruby/worker.rb"]);
    }
}

#[test]
fn the_example_in_go_passes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let worker = folder.path().join("worker");
    if has("go", &["build", "-o", path(&worker), "."], "examples/go") {
        passes(&["--strict"], &[path(&worker)]);
    }
}

#[test]
fn the_example_in_c_passes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let worker = folder.path().join("worker");
    if has("cc", &["-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", path(&worker), "worker.c"], "examples/c") {
        passes(&["--strict"], &[path(&worker)]);
    }
}

#[test]
fn the_example_in_perl_passes() {
    if has("perl", &["-e", "require 'sys/syscall.ph'"], ".") {
        passes(&["--strict"], &["perl", "examples/perl/worker.pl"]);
    }
}

#[test]
fn a_worker_that_never_connects_is_told_once_unless_every_case_is_asked_for() {
    let (finished, report) = kit(&["--timeout", "1s"], &[path(&binary("zoo")), "never-connects"]);
    assert_eq!((finished.code, ended(&report, "failed")), (Some(1), BTreeSet::from(["2.4.1/hello"])), "{report:#}");
    assert_eq!(report["cases"].as_array().map(Vec::len), Some(1));
    assert!(finished.stderr.contains("the worker never connected to its master") && finished.stderr.contains("--all"), "{}", finished.stderr);
    let (_, report) = kit(&["--strict", "--timeout", "1s", "--only", "2.4.1"], &["true"]);
    assert_eq!(ended(&report, "failed").len(), 2, "{report:#}");
}

/// How many faults are tried at the same time: nearly all of it is waiting.
const AT_A_TIME: usize = 3;

#[test]
fn each_fault_fails_the_cases_that_it_should() {
    for faults in FAULTS.chunks(AT_A_TIME) {
        std::thread::scope(|scope| faults.iter().for_each(|(fault, expected)| _ = scope.spawn(|| fails(fault, expected))));
    }
}

fn fails(fault: &str, expected: &Expected) {
    let (finished, report) = kit(&["--all", "--strict", "--timeout", "3s", "--jobs", "16"], &[path(&binary("zoo")), fault]);
    let failed = ended(&report, "failed");
    let all: BTreeSet<_> = report["cases"].as_array().into_iter().flatten().filter_map(|case| case["id"].as_str()).collect();
    let expected: BTreeSet<_> = match expected {
        Expected::These(ids) => ids.iter().copied().collect(),
        Expected::AllBut(ids) => all.iter().copied().filter(|id| !ids.contains(id)).collect(),
    };
    assert_eq!(failed, expected, "{fault}");
    assert_eq!(finished.code, Some(1), "{fault}");
}

enum Expected {
    These(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

use Expected::{AllBut, These};

const FAULTS: &[(&str, Expected)] = &[
    ("never-connects", AllBut(&[])),
    ("wrong-token", These(&["2.4.1/hello"])),
    // Whatever needs a listener; what does not are the ends that come before.
    (
        "buffered-reads",
        AllBut(&[
            "2.2.2/nobody",
            "2.2.2/closed",
            "2.2.2/refused",
            "2.3",
            "2.4.1/hello",
            "2.4.1/patience",
            "5.1/silence",
            "6.10/version",
            "4.4/byte",
            "4.4/none",
            "4.4/two",
            "4.4/count",
            "6.2",
            "5.2/starting",
            "6.8",
            "6.5/max-requests",
            "5.5.3/refused",
            "5.5.3/bad-token",
            "5.5.3/mistaken",
            "5.5.3/orphan",
            "5.5.3/pace",
            "5.5.3/superseded",
            "5.5.3/draining",
            "6.1.2",
            "6.14",
            "6.14/not-held",
        ]),
    ),
    ("shuts-listener", These(&["11/shutdown", "12.1.2"])),
    ("resets-idle", These(&["12.3", "12.4", "12.4/linger"])),
    // Whatever gives an order.
    (
        "ignores-disconnect",
        These(&[
            "3.1.4/pieces",
            "3.1.4/glued",
            "3.3.8",
            "3.4.1",
            "3.5.1",
            "3.6.1/unknown",
            "3.6.1/own",
            "3.6.2",
            "6.13/reason",
            "5.2/starting",
            "5.2/going",
            "5.2.3",
            "5.4.2/longer",
            "5.4.2/shorter",
            "6.7",
            "6.13/at-once",
            "6.3",
            "12.1.1",
            "12.1.2",
            "12.1.2/closed",
            "12.2.1",
            "12.2.2",
            "12.2.3",
            "12.3",
            "12.3/end",
            "12.4",
            "12.4/linger",
            "12.5.1",
        ]),
    ),
    ("exits-before-draining", These(&["5.5.6", "12.1.1", "12.2.1", "12.2.2", "12.2.3", "12.2.3/grace", "12.2.4", "12.3", "12.4", "12.4/linger"])),
    ("floods", These(&["6.7", "9/pace"])),
    (
        "ignores-malformed",
        These(&["3.2.1/no-map", "3.2.1/behind", "3.2.2", "3.3.1", "3.3.2", "3.3.3", "3.3.4", "3.3.5", "3.3.6", "3.3.7/type", "3.3.7/range", "3.5.2"]),
    ),
    ("takes-two", These(&["4.4/two"])),
    ("ignores-refusal", These(&["6.2"])),
    ("ignores-term", These(&["5.2.5/term"])),
    ("takes-longer", These(&["5.4.2/longer"])),
    ("keeps-accepting", These(&["12.1.2", "12.1.2/closed"])),
    ("keeps-listener", These(&["12.1.2/closed"])),
    ("new-is-idle", These(&["12.2.3/grace", "12.2.4"])),
    ("no-linger", These(&["12.4", "12.4/linger"])),
    // What needs a feature, save what a worker without it does as well.
    (
        "promises-features",
        These(&["6.8", "6.5/max-requests", "5.5.3/refused", "5.5.3/bad-token", "5.5.3/mistaken", "5.5.3/pace", "6.1.2", "6.14", "6.14/not-held"]),
    ),
];

#[test]
fn wrong_usage_is_told_apart_from_a_failure() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(binary("dutch-master"));
        command.arg("conformance").args(arguments);
        Running::start(command).finish()
    };
    assert_eq!(run(&["--only", "99", "--", "true"]).code, Some(2));
    assert_eq!(run(&["--", "/no/such/worker"]).code, Some(2));
    assert_eq!(run(&[]).code, Some(2));
    let listed = run(&["--list", "--only", "12"]);
    assert_eq!(listed.code, Some(0));
    assert!(listed.stdout.contains("12.2.1") && listed.stdout.contains("Not tried"), "{}", listed.stdout);
    assert!(!listed.stdout.contains("5.5.1"));
}

/// Plays the sessions of the specification against a master.
#[track_caller]
fn sessions(options: &[&str], master: &[&str]) -> (Finished, Value) {
    kit(&[&["--master", "--jobs", "8"], options].concat(), master)
}

#[test]
fn this_master_keeps_every_session() {
    let master = binary("dutch-master");
    let (finished, report) = sessions(&[], &[path(&master), "start", "-n", "1", "-l", "web=127.0.0.1:0", "--settle-time", "0s", "--"]);
    assert_eq!((finished.code, ended(&report, "failed")), (Some(0), BTreeSet::new()), "{report:#}");
    assert!(ended(&report, "ok").len() > 25);
}

#[test]
fn each_fault_of_a_master_fails_the_sessions_that_it_should() {
    let zoo = binary("master-zoo");
    for (fault, expected) in MASTER_FAULTS {
        let (_, report) = sessions(&["--timeout", "3s"], &[path(&zoo), fault]);
        assert_eq!(ended(&report, "failed"), expected.iter().copied().collect(), "{fault}: {report:#}");
    }
}

const MASTER_FAULTS: [(&str, &[&str]); 7] = [
    ("good", &[]),
    ("takes-any-token", &["5.1/no-token", "5.1/bad-token", "2.4.3/second"]),
    // Whatever hands over a listener.
    (
        "drops-descriptors",
        &[
            "5/whole-life",
            "5.1/no-token",
            "5.1/bad-token",
            "5.1/first",
            "2.4.3/second",
            "6.2/unknown-name",
            "6.2/neither",
            "6.2.2/held",
            "6.2.2/data",
            "6.2/port-0",
            "3.6.1/unknown",
            "3.4.1/widest",
            "3.1.4/glued",
            "3.1.2/garbage",
            "8.1.2/version",
            "8.1.1/newer",
            "7.1/status",
        ],
    ),
    ("refuses-unknown", &["3.6.1/unknown"]),
    (
        "dies-of-garbage",
        &["3.1.2/zero", "3.1.2/too-large", "3.2.1/no-map", "3.3.1/float", "3.3.2/twice", "3.5.2/missing", "3.1.2/garbage", "4.4/unexpected", "6.9/too-large"],
    ),
    // Whatever ends in an error.
    (
        "says-no-why",
        &[
            "5.1/no-token",
            "5.1/bad-token",
            "5.1/first",
            "5.1/twice",
            "2.4.3/second",
            "3.1.2/zero",
            "3.1.2/too-large",
            "3.2.1/no-map",
            "3.3.1/float",
            "3.3.2/twice",
            "3.5.2/missing",
            "3.1.2/garbage",
            "4.4/unexpected",
            "6.14/uninvited",
            "6.9/too-large",
            "8.1.2/version",
        ],
    ),
    ("ends-nobody", &["5/whole-life", "5/stop", "5.3/leaving", "5.3/drained", "6.5/twice"]),
];
