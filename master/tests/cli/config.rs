//! The configuration file as the program takes it.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::{Folder, Running, Said, program, run};

const SLEEPER: &str = "worker = \"sleep\"\nargs = [\"1000\"]\nnum_workers = 1\n";

fn write(folder: &Folder, name: &str, text: &str) {
    std::fs::write(folder.path().join(name), text).unwrap();
}

#[track_caller]
fn status(folder: &Folder) -> Value {
    let said = run(program(folder, &["status", "--json"]));
    serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"))
}

#[track_caller]
fn check(folder: &Folder, args: &[&str]) -> Said {
    run(program(folder, &[&["check"], args].concat()))
}

#[test]
fn without_a_worker_the_file_in_this_directory_is_taken() {
    let folder = Folder::new("usual");
    write(&folder, "dutch-master.toml", SLEEPER);
    let mut master = Running::start(program(&folder, &["start"]));
    master.wait_for("Creating new worker");
    assert_eq!((status(&folder)["command"][0].as_str(), status(&folder)["size"].as_u64()), (Some("sleep"), Some(1)));
    master.signal(Signal::SIGTERM);
    assert_eq!(master.end().code, Some(0));
}

#[test]
fn with_a_worker_only_a_file_that_is_named_is_taken_and_the_command_line_wins() {
    let folder = Folder::new("wins");
    write(&folder, "dutch-master.toml", "num_workers = 3\nname = \"from-file\"\n");
    for (args, name, size) in
        [(vec!["start", "--name", "x", "sleep", "1000"], "x", 2), (vec!["start", "-c", "dutch-master.toml", "-n", "1", "sleep", "1000"], "from-file", 1)]
    {
        let mut master = Running::start(program(&folder, &args));
        master.wait_for("Creating new worker");
        assert_eq!((status(&folder)["name"].as_str(), status(&folder)["size"].as_u64()), (Some(name), Some(size)), "{args:?}");
        master.signal(Signal::SIGTERM);
        assert_eq!(master.end().code, Some(0));
    }
}

#[test]
fn the_log_is_as_the_file_says() {
    let folder = Folder::new("log");
    write(&folder, "dutch-master.toml", &format!("log_format = \"json\"\n{SLEEPER}"));
    let mut master = Running::start(program(&folder, &["start"]));
    let line: Value = serde_json::from_str(&master.wait_for("Starting cluster")).unwrap();
    assert_eq!(line["msg"], "Starting cluster");
}

#[test]
fn a_start_from_a_broken_file_exits_with_1_and_a_line_for_each_fault() {
    let folder = Folder::new("broken-file");
    write(&folder, "a.toml", "worker = \"sleep\"\nnum_worker = 3\nsurge = true\n");
    let said = run(program(&folder, &["start", "-c", "a.toml"]));
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.lines().count()), (Some(1), "", 2), "{said:?}");
    assert!(said.stderr.contains("a.toml:2:1: unknown key `num_worker`; did you mean `num_workers`?"), "{said:?}");
    assert!(said.stderr.contains("a.toml:3:9: `surge`"), "{said:?}");
    for (name, text) in [("none.toml", "cannot read"), (".", "no regular file")] {
        let said = run(program(&folder, &["start", "-c", name]));
        assert_eq!((said.code, said.stderr.lines().count()), (Some(1), 1), "{said:?}");
        assert!(said.stderr.contains(text), "{said:?}");
    }
}

#[test]
fn check_says_whether_it_can_be_started() {
    let folder = Folder::new("check");
    write(&folder, "dutch-master.toml", SLEEPER);
    let said = check(&folder, &[]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "The configuration is right.\n", ""));
    for (text, line) in [
        ("worker = 3", "dutch-master.toml:1:10: `worker`: a string is wanted, not an integer"),
        ("worker = \"./no-such\"", "the worker ./no-such is not in "),
        ("num_workers = 3", "`worker` is missing"),
        ("worker = \"a\"\nname = ", "dutch-master.toml:2:"),
    ] {
        write(&folder, "dutch-master.toml", text);
        let said = check(&folder, &[]);
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.lines().count()), (Some(1), "", 1), "{text}: {said:?}");
        assert!(said.stderr.contains(line), "{said:?}");
    }
    std::fs::remove_file(folder.path().join("dutch-master.toml")).unwrap();
    let said = check(&folder, &[]);
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("dutch-master.toml"), "{said:?}");
}

#[test]
fn check_leaves_a_running_master_alone() {
    let folder = Folder::new("check-running");
    write(&folder, "dutch-master.toml", SLEEPER);
    let mut master = Running::start(program(&folder, &["start"]));
    master.wait_for("Creating new worker");
    assert_eq!(check(&folder, &[]).code, Some(0));
    assert_eq!(status(&folder)["size"], 1);
}

#[test]
fn what_check_prints_can_be_started_from() {
    let folder = Folder::new("print");
    write(&folder, "dutch-master.toml", SLEEPER);
    let printed = check(&folder, &["--print", "-n", "2"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.stdout.lines().any(|line| line.starts_with("num_workers = 2 ") && line.ends_with("# command line")), "{printed:?}");
    write(&folder, "printed.toml", &printed.stdout);
    let again = check(&folder, &["-c", "printed.toml", "--print"]);
    let values = |text: &str| text.lines().filter_map(|line| line.split_once("  #")).map(|(value, _)| value.to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&again.stdout), values(&printed.stdout));
}

#[test]
fn a_reload_of_a_broken_file_fails_with_the_reason_once() {
    let folder = Folder::new("reload");
    write(&folder, "dutch-master.toml", SLEEPER);
    let mut master = Running::start(program(&folder, &["start"]));
    master.wait_for("Creating new worker");
    write(&folder, "dutch-master.toml", "worker = \"sleep\"\nsurge = 0\n");
    let said = run(program(&folder, &["reload"]));
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said:?}");
    assert_eq!(said.stderr.matches("surge").count(), 1, "{said:?}");
    assert!(said.stderr.contains("Configuration refused, nothing changes: ") && said.stderr.contains("dutch-master.toml:2:9"), "{said:?}");
    write(&folder, "dutch-master.toml", SLEEPER);
    let said = run(program(&folder, &["reload", "--no-wait"]));
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "Restart to generation 2 is under way.\n"), "{said:?}");
}
