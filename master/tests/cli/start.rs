//! `dutch-master start` with workers that never serve: what concerns the program around the master.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::process::{Folder, HANG, Running, program, run};

/// A worker that waits until it is told to end.
const WORKER: [&str; 2] = ["sleep", "1000"];

fn start(folder: &Folder, options: &[&str]) -> Command {
    let args: Vec<&str> = ["start", "-n", "1", "--log-format", "json"].into_iter().chain(options.iter().copied()).chain(WORKER).collect();
    program(folder, &args)
}

/// A master whose first worker was spawned.
#[track_caller]
fn started(folder: &Folder, options: &[&str]) -> Running {
    let mut master = Running::start(start(folder, options));
    master.wait_for("Creating new worker");
    master
}

#[track_caller]
fn status(folder: &Folder, args: &[&str]) -> Value {
    let said = run(program(folder, &[&["status", "--json"], args].concat()));
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn a_size_has_bounds() {
    let folder = Folder::new("bounds");
    let _master = started(&folder, &[]);
    for (change, code, told, size) in [
        (&["+1"][..], 0, "The size is 2 now.", 2),
        (&["-5"], 0, "The size is 1 now, the least that there can be.", 1),
        (&["-1"], 0, "The size is 1 now, the least that there can be.", 1),
        (&["0"], 2, "`dutch-master stop` ends all workers", 1),
        (&["100000"], 2, "a number from 1 to 4096 is wanted", 1),
        (&["+1", "-1"], 2, "`scale` takes one number", 1),
    ] {
        let said = run(program(&folder, &[&["scale", "--no-wait"], change].concat()));
        assert_eq!(said.code, Some(code), "{change:?}: {said:?}");
        assert!(said.stdout.contains(told) || said.stderr.contains(told), "{change:?}: {said:?}");
        assert_eq!(status(&folder, &[])["size"], size, "{change:?}");
    }
}

#[test]
fn sigterm_and_sigint_stop_the_master_and_say_which() {
    for (signal, name) in [(Signal::SIGTERM, "SIGTERM"), (Signal::SIGINT, "SIGINT")] {
        let folder = Folder::new(name);
        let mut master = started(&folder, &[]);
        master.signal(signal);
        let line: Value = serde_json::from_str(&master.wait_for("Shutdown requested")).unwrap();
        assert_eq!(line["signal"], name);
        let said = master.end();
        assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said:?}");
        assert!(said.stderr.lines().last().unwrap().contains("Cluster shutdown cleanly"), "{said:?}");
    }
}

#[test]
fn a_stop_at_once_is_told_as_what_was_asked_for() {
    let folder = Folder::new("at-once-stop");
    let mut master = started(&folder, &[]);
    let said = run(program(&folder, &["stop", "--now"]));
    let told = "The master has stopped: at once, as asked; workers that had not ended were killed\n";
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), told), "{said:?}");
    let line: Value = serde_json::from_str(&master.wait_for("Cluster shutdown at once, as asked")).unwrap();
    assert_eq!(line["level"], "info");
    let said = master.end();
    assert_eq!((said.code, said.stderr.matches("Shutdown requested").count()), (Some(1), 1), "a worker was killed: {said:?}");
    assert!(!said.stderr.contains("did not end in time"), "{said:?}");
}

#[test]
fn the_restart_signal_can_be_chosen() {
    let folder = Folder::new("usr1");
    let mut master = started(&folder, &["--restart-signal", "usr1"]);
    master.signal(Signal::SIGUSR1);
    let line: Value = serde_json::from_str(&master.wait_for("Restart requested")).unwrap();
    assert_eq!(line["signal"], "SIGUSR1");
}

#[test]
fn a_hang_up_can_be_the_restart_signal() {
    let folder = Folder::new("hup-restart");
    let mut master = started(&folder, &["--restart-signal", "SIGHUP"]);
    master.signal(Signal::SIGHUP);
    master.wait_for("Restart requested");
}

#[test]
fn a_hang_up_without_a_terminal_that_closed_is_a_reload() {
    let folder = Folder::new("hup");
    let mut master = started(&folder, &[]);
    master.signal(Signal::SIGHUP);
    let line: Value = serde_json::from_str(&master.wait_for("Reload requested")).unwrap();
    assert_eq!(line["signal"], "SIGHUP");
    master.wait_for("Restart requested");
}

#[test]
fn a_hang_up_that_was_ignored_from_the_beginning_stays_ignored() {
    let folder = Folder::new("nohup");
    let program = start(&folder, &[]);
    let mut nohup = Command::new("sh");
    nohup
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(folder.path())
        .env("XDG_RUNTIME_DIR", folder.path());
    let mut master = Running::start(nohup);
    master.wait_for("Creating new worker");
    master.signal(Signal::SIGHUP);
    master.signal(Signal::SIGTERM);
    let said = master.end();
    assert_eq!(said.code, Some(0));
    assert!(!said.stderr.contains("SIGHUP"), "{said:?}");
}

#[test]
fn commands_say_that_a_master_has_died_while_its_workers_serve_on() {
    let folder = Folder::new("died");
    let mut master = started(&folder, &["--name", "web"]);
    let worker = loop {
        if let Some(pid) = status(&folder, &[])["workers"][0]["pid"].as_i64() {
            break Pid::from_raw(pid.try_into().unwrap());
        }
    };
    master.signal(Signal::SIGKILL);
    while !master.has_ended() {
        std::thread::yield_now();
    }
    for args in [&["status"][..], &["stop", "--name", "web"]] {
        let said = run(program(&folder, args));
        assert_eq!((said.code, said.stderr.contains("`web` died, and its workers serve on")), (Some(3), true), "{said:?}");
    }
    assert!(run(program(&folder, &["stop", "--name", "other"])).stderr.contains("no master of the name `other` runs"));
    kill(worker, Signal::SIGKILL).unwrap();
    let until = Instant::now() + HANG;
    while !run(program(&folder, &["status"])).stderr.contains("start WORKER") {
        assert!(Instant::now() < until, "nobody is left");
    }
}

#[test]
fn descriptors_that_a_service_manager_did_not_pass_after_all_stop_no_start() {
    for count in ["1", "3", "9", "300"] {
        let folder = Folder::new(&format!("lent-{count}"));
        let program = start(&folder, &[]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "export LISTEN_PID=$$; exec \"$@\"", "sh"]).arg(program.get_program()).args(program.get_args());
        shell.current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path()).env("LISTEN_FDS", count);
        let mut master = Running::start(shell);
        master.wait_for("Socket of the service manager cannot be used");
        master.wait_for("Creating new worker");
        master.signal(Signal::SIGTERM);
        assert_eq!(master.end().code, Some(0));
    }
}

#[test]
fn a_terminal_that_closes_stops_the_master() {
    let folder = Folder::new("terminal");
    let terminal = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let inside = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(ptsname_r(&terminal).unwrap()).unwrap();
    let program = start(&folder, &[]);
    // As the shell of a terminal does it: a session of its own, whose terminal is standard input.
    let mut session = Command::new("setsid");
    session.args(["--ctty", "--wait"]).arg(program.get_program()).args(program.get_args()).current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path());
    let mut master = Running::start_with(session, inside.into());
    master.wait_for("Creating new worker");
    drop(terminal);
    let line: Value = serde_json::from_str(&master.wait_for("Shutdown requested")).unwrap();
    assert_eq!(line["signal"], "SIGHUP");
    assert_eq!(master.end().code, Some(0));
}

#[test]
fn sigttin_and_sigttou_change_the_size() {
    let folder = Folder::new("tt");
    let mut master = started(&folder, &[]);
    master.signal(Signal::SIGTTIN);
    master.wait_for("Creating new worker");
    assert_eq!(status(&folder, &[])["size"], 2);
    master.signal(Signal::SIGTTOU);
    master.wait_for("Worker exited");
    assert_eq!(status(&folder, &[])["size"], 1);
}

#[test]
fn of_several_masters_one_must_be_named() {
    let folder = Folder::new("several");
    let _masters = [started(&folder, &["--name", "one"]), started(&folder, &["--name", "two"])];
    let said = run(program(&folder, &["status"]));
    assert_eq!(said.code, Some(3));
    assert!(said.stderr.contains("\n  one  (pid ") && said.stderr.contains("\n  two  (pid "), "{said:?}");
    assert_eq!(status(&folder, &["--name", "two"])["name"], "two");
    let all = status(&folder, &["--all"]);
    assert_eq!(all.as_array().unwrap().iter().map(|master| master["name"].as_str().unwrap()).collect::<Vec<_>>(), ["one", "two"]);
    let unknown = run(program(&folder, &["stop", "--name", "three"]));
    assert_eq!(unknown.code, Some(3));
    assert!(unknown.stderr.contains("\n  one"), "{unknown:?}");
}

#[test]
fn stop_ends_when_the_name_can_be_used_again() {
    let folder = Folder::new("again");
    for _ in 0..3 {
        let master = started(&folder, &["--name", "web"]);
        let stopped = run(program(&folder, &["stop"]));
        assert_eq!(stopped.code, Some(0), "{stopped:?}");
        assert_eq!(run(program(&folder, &["status"])).code, Some(3));
        assert_eq!(master.end().code, Some(0));
    }
}

#[test]
fn a_socket_elsewhere_is_found_by_path_and_by_environment() {
    let (folder, other) = (Folder::new("elsewhere"), Folder::new("other"));
    let socket = other.path().join("m.sock");
    let _master = started(&folder, &["--socket", socket.to_str().unwrap()]);
    assert_eq!(status(&other, &["--socket", socket.to_str().unwrap()])["size"], 1);
    let said = run({
        let mut command = program(&other, &["status"]);
        command.env("DUTCH_MASTER_SOCKET", &socket);
        command
    });
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn every_line_of_a_bunyan_log_is_a_bunyan_record() {
    let folder = Folder::new("bunyan");
    let mut master = Running::start(program(&folder, &["start", "-n", "1", "--log-format", "bunyan", "sleep", "1000"]));
    master.wait_for("Creating new worker");
    master.signal(Signal::SIGTERM);
    let said = master.end();
    let records: Vec<Value> = said.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for record in &records {
        assert_eq!((record["v"].as_u64(), record["name"].as_str()), (Some(0), Some("dutch-master")), "{record}");
        assert!(
            record["level"].is_u64() && record["pid"].is_u64() && record["hostname"].is_string() && record["msg"].is_string() && record["time"].is_string(),
            "{record}"
        );
    }
    assert!(records.iter().any(|record| record["msg"] == "Starting cluster" && record["numWorkers"] == 1), "{said:?}");
}

#[test]
fn the_log_level_hides_what_matters_less() {
    let folder = Folder::new("level");
    let mut master = Running::start(start(&folder, &["--log-level", "warn", "--before-fork", "echo forked >&2"]));
    master.wait_for("forked");
    master.signal(Signal::SIGTERM);
    let said = master.end();
    assert!(!said.stderr.contains("\"level\":\"info\""), "{said:?}");
}

/// A program that is handed a listener and answers nobody.
const ADAPTED: &str =
    "import socket, sys\nserver = socket.socket(fileno=int(sys.argv[1]))\nserver.setblocking(True)\nwhile True:\n    server.accept()[0].recv(1)\n";

#[test]
fn an_adapted_program_is_seen_to_serve_where_proc_shows_processes_alone() {
    let folder = Folder::new("subset");
    // As `ProcSubset=pid` of a unit has it; what is mounted goes with the processes.
    let alone = |then: &str| {
        let mut command = Command::new("unshare");
        let line = format!("mount -t proc -o subset=pid proc /proc && {then}");
        command.args(["-pf", "--kill-child", "--mount-proc", "sh", "-c", &line, env!("CARGO_BIN_EXE_dutch-master")]);
        command.current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path()).env_remove("RUNTIME_DIRECTORY");
        command
    };
    if !nix::unistd::geteuid().is_root() || run(alone("test ! -e /proc/sys")).code != Some(0) {
        eprintln!("skipped: this system cannot show processes alone");
        return;
    }
    std::fs::write(folder.path().join("serve.py"), ADAPTED).unwrap();
    let mut master = Running::start(alone("exec $0 start -n 1 -l 127.0.0.1:0 --adapt -- python3 serve.py '{fd}'"));
    master.wait_for("Cluster ready");
}
