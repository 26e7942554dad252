//! The master's log: where it goes, what a flood makes of it, and that each line about a worker says which.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::{Folder, HANG, Running, program, run};

fn start(folder: &Folder, options: &[&str]) -> Command {
    let args = [&["start", "--name", "m", "-n", "1"], options, &["sleep", "1000"]].concat();
    program(folder, &args)
}

/// Waits until the file contains this text, and returns all of it.
#[track_caller]
fn wait_for(path: &Path, text: &str) -> String {
    let deadline = Instant::now() + HANG;
    loop {
        let content = fs::read_to_string(path).unwrap_or_default();
        if content.contains(text) {
            return content;
        }
        assert!(Instant::now() < deadline, "`{text}` did not come: {content}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn the_log_goes_to_the_file_and_what_workers_print_does_not() {
    let folder = Folder::new("to-file");
    let path = folder.path().join("m.log");
    fs::write(&path, "before\n").unwrap();
    let mut master = Running::start(start(&folder, &["--log-file", "m.log", "--before-fork", "echo of-the-hook >&2"]));
    master.wait_for("of-the-hook");
    wait_for(&path, "Creating new worker");
    master.signal(Signal::SIGTERM);
    let said = master.end();
    assert_eq!((said.code, said.stderr.as_str(), said.stdout.as_str()), (Some(0), "of-the-hook\n", ""));
    let log = fs::read_to_string(&path).unwrap();
    assert!(log.starts_with("before\n") && log.contains("Cluster shutdown cleanly") && !log.contains("of-the-hook"), "{log}");
    assert!(!log.contains('\x1b'), "{log}");
}

#[test]
fn a_new_log_file_is_not_for_everybody() {
    let folder = Folder::new("mode");
    let mut shell = Command::new("sh");
    let line = "umask 022; exec \"$0\" start -n 1 --log-file m.log --before-fork 'echo ready >&2' sleep 1000";
    shell.args(["-c", line, env!("CARGO_BIN_EXE_dutch-master")]).current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path());
    let mut master = Running::start(shell);
    master.wait_for("ready");
    assert_eq!(fs::metadata(folder.path().join("m.log")).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn sigusr1_opens_the_log_file_again_and_one_that_cannot_be_had_leaves_the_old_one() {
    let folder = Folder::new("reopen");
    let (path, old) = (folder.path().join("logs/m.log"), folder.path().join("logs/m.log.1"));
    fs::create_dir(folder.path().join("logs")).unwrap();
    let master = Running::start(start(&folder, &["--log-file", path.to_str().unwrap()]));
    wait_for(&path, "Creating new worker");
    fs::rename(&path, &old).unwrap();
    master.signal(Signal::SIGUSR1);
    let new = wait_for(&path, "Log file opened again");
    assert!(!new.contains("Creating new worker"), "{new}");
    let before = fs::read_to_string(&old).unwrap();
    fs::rename(folder.path().join("logs"), folder.path().join("moved")).unwrap();
    master.signal(Signal::SIGUSR1);
    let told = wait_for(&folder.path().join("moved/m.log"), "Log file cannot be opened again, the old one stays in use");
    assert!(told.contains("make its directory first"), "{told}");
    let upgrade = run(program(&folder, &["upgrade", "--name", "m"]));
    assert_eq!(upgrade.code, Some(1));
    assert!(upgrade.stderr.contains("Upgrade refused, nothing changes: ") && upgrade.stderr.contains("cannot open the log file"), "{upgrade:?}");
    master.signal(Signal::SIGTERM);
    let said = master.end();
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    assert!(fs::read_to_string(folder.path().join("moved/m.log")).unwrap().contains("Cluster shutdown cleanly"));
    assert_eq!(fs::read_to_string(folder.path().join("moved/m.log.1")).unwrap(), before, "the rotated file is left alone");
}

#[test]
fn sigusr1_without_a_log_file_asks_for_an_upgrade() {
    let folder = Folder::new("usr1-idle");
    let mut master = Running::start(start(&folder, &[]));
    master.wait_for("Creating new worker");
    master.signal(Signal::SIGUSR1);
    master.wait_for("Upgrade requested");
    master.wait_for("Master upgraded");
    master.signal(Signal::SIGTERM);
    assert_eq!(master.end().code, Some(0));
}

#[test]
fn another_log_file_needs_a_new_start() {
    let folder = Folder::new("log-reload");
    fs::write(folder.path().join("a.toml"), "worker = \"sleep\"\nargs = [\"1000\"]\nlog_file = \"a.log\"\n").unwrap();
    let master = Running::start(program(&folder, &["start", "-c", "a.toml"]));
    wait_for(&folder.path().join("a.log"), "Creating new worker");
    fs::write(folder.path().join("a.toml"), "worker = \"sleep\"\nargs = [\"1000\"]\nlog_file = \"b.log\"\n").unwrap();
    master.signal(Signal::SIGHUP);
    let log = wait_for(&folder.path().join("a.log"), "Some changes need a new start");
    assert!(log.contains("reason=log_file"), "{log}");
    assert!(!folder.path().join("b.log").exists());
}

#[test]
fn a_start_that_fails_is_told_on_standard_error_too() {
    let folder = Folder::new("told-twice");
    let said = run(program(&folder, &["start", "--log-file", "m.log", "./nonesuch"]));
    assert_eq!((said.code, said.stderr.lines().count()), (Some(1), 1), "{said:?}");
    assert!(said.stderr.starts_with("dutch-master: the worker ./nonesuch is not in"), "{said:?}");
    assert!(fs::read_to_string(folder.path().join("m.log")).unwrap().contains(" ERROR the worker ./nonesuch is not in"));
    let said = run(program(&folder, &["start", "--log-file", "m.log", "--restart-attempts", "1", "false"]));
    assert_eq!(
        (said.code, said.stderr.as_str()),
        (Some(1), format!("dutch-master: ended with exit code 1; {} says why\n", folder.path().join("m.log").display()).as_str())
    );
}

#[test]
fn a_full_disk_under_the_log_file_is_told_once_and_stops_nothing() {
    let folder = Folder::new("log-full");
    let mut master = Running::start(start(&folder, &["--log-file", "/dev/full", "--before-fork", "echo forked >&2"]));
    let told = master.wait_for("Log file cannot be written");
    assert!(told.contains("/dev/full: ENOSPC") || told.contains("/dev/full: No space left on device"), "{told}");
    assert!(told.contains("make room there"), "{told}");
    master.wait_for("forked");
    master.signal(Signal::SIGTERM);
    let said = master.end();
    assert_eq!((said.code, said.stderr.lines().count()), (Some(0), 2), "{said:?}");
}

/// Catches: leaving SIGXFSZ at its default.
#[test]
fn a_log_file_that_reached_the_limit_of_file_sizes_stops_nothing() {
    let folder = Folder::new("xfsz");
    let mut shell = Command::new("sh");
    let line = "ulimit -f 2; exec \"$0\" start -n 1 --name m --log-level debug --log-format json --log-file m.log sleep 1000";
    shell.args(["-c", line, env!("CARGO_BIN_EXE_dutch-master")]).current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path());
    let mut master = Running::start(shell);
    wait_for(&folder.path().join("m.log"), "Worker spawned");
    for _ in 0..30 {
        let said = run(program(&folder, &["status"]));
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    let told = master.wait_for("Log file cannot be written");
    assert!(told.contains("File too large") && told.contains("ulimit -f"), "{told}");
    master.signal(Signal::SIGTERM);
    assert_eq!(master.end().code, Some(0));
}

#[test]
fn lines_that_a_flood_repeats_are_counted_and_none_is_lost() {
    let folder = Folder::new("flood");
    let mut master = Running::start(start(&folder, &["--log-format", "json"]));
    master.wait_for("Creating new worker");
    let flood = |times: u64| {
        for _ in 0..times {
            let mut stranger = UnixStream::connect(folder.path().join("dutch-master/m.sock")).unwrap();
            stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let _ = stranger.read_to_end(&mut Vec::new());
        }
    };
    flood(60);
    // It is told when its time has come, though nothing else happens.
    master.wait_for("Connection refused (repeated ");
    flood(40);
    master.signal(Signal::SIGTERM);
    let said = master.end();
    let records = said.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_flood: Vec<Value> = records.filter(|record| record["msg"].as_str().unwrap().starts_with("Connection refused")).collect();
    let told: u64 = of_flood.iter().map(|record| record["repeated"].as_u64().unwrap_or(1)).sum();
    assert_eq!(told, 100, "{of_flood:#?}");
    assert!(of_flood.len() < 50, "{of_flood:#?}");
    let summary = of_flood.iter().find(|record| record["repeated"].is_u64()).unwrap();
    assert!(summary["reason"].is_string() && summary["uid"].is_u64(), "it says what the lines said: {summary}");
}

/// The fields that a line about a worker has in each format.
fn fields(format: &str, line: &str) -> Option<(String, [Option<String>; 3])> {
    const NAMES: [&str; 3] = ["workerId", "workerPid", "generation"];
    if format == "pretty" {
        let message = line.split_whitespace().skip(2).take_while(|word| !word.contains('=')).collect::<Vec<_>>().join(" ");
        let value = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=').map(String::from));
        return value(NAMES[0]).map(|_| (message, NAMES.map(value)));
    }
    let record: Value = serde_json::from_str(line).unwrap();
    let value = |name: &str| record[name].as_u64().map(|number| number.to_string());
    value(NAMES[0]).map(|_| (record["msg"].as_str().unwrap().into(), NAMES.map(value)))
}

#[test]
fn each_line_about_a_worker_has_its_id_pid_and_generation_in_every_format() {
    for format in ["pretty", "json", "bunyan"] {
        let folder = Folder::new(&format!("known-{format}"));
        let options = ["--log-format", format, "--log-level", "debug", "--ready-on", "hello", "--kill-timeout", "1s"];
        let mut master = Running::start(start(&folder, &options));
        master.wait_for("Worker spawned");
        master.signal(Signal::SIGTERM);
        let said = master.end();
        let lines: Vec<_> = said.stderr.lines().filter_map(|line| fields(format, line)).collect();
        let messages: Vec<_> = lines.iter().map(|(message, _)| message.as_str()).collect();
        assert_eq!(messages, ["Creating new worker", "Worker spawned", "Start of worker cancelled", "Worker exited"], "{said:?}");
        for (message, [id, pid, generation]) in &lines {
            assert_eq!((id.as_deref(), generation.as_deref()), (Some("1"), Some("1")), "{format}: {message}");
            assert_eq!(pid.is_some(), message != "Creating new worker", "{format}: {message}: it has a process only after that");
        }
    }
}
