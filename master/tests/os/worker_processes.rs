//! The processes that the master starts: what they inherit, how they are signalled, how they end.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use dutch_master_protocol::message::{Drained, FromMaster, FromWorker};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getsid};

use crate::harness::{Folder, Master, eventually, ignoring, is_alive, pid_in, signal_to, start_command, variable};
use crate::peer::Peer;

/// 32 and 33, which no program can change by means of the C library.
const C_LIBRARY_SIGNALS: u64 = 0b11 << 31;

fn status_field(pid: u32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim_start_matches(':').trim().to_owned()
}

#[test]
fn a_worker_is_a_session_of_its_own_and_owes_the_master_nothing() {
    let folder = Folder::new();
    let mut command = start_command(&folder, "m", &["-n", "1", "-e", "COLOUR=orange", "--", "sleep", "60"]);
    command.env("NOTIFY_SOCKET", "/nowhere").env("LISTEN_FDS", "1").env("WATCHDOG_USEC", "1").env("NODE_CHANNEL_FD", "3").env("KEPT", "yes");
    // What the master's own parent ignored and left open is not the worker's.
    let (_pipe, left_open) = nix::unistd::pipe().unwrap();
    let mut master = Master::from(ignoring(command, &[Signal::SIGHUP, Signal::SIGUSR1]), &folder);
    drop(left_open);
    let pid = master.next_worker();
    assert_eq!(getsid(Some(Pid::from_raw(pid.cast_signed()))).unwrap().as_raw().unsigned_abs(), pid);
    for mask in ["SigIgn", "SigBlk", "SigCgt"] {
        let signals = u64::from_str_radix(&status_field(pid, mask), 16).unwrap();
        assert_eq!(signals & !C_LIBRARY_SIGNALS, 0, "{mask}: {signals:x}");
    }
    let descriptors = || -> BTreeSet<_> { std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
    // It opens files of its own while it starts.
    eventually("it has the standard descriptors alone", || descriptors() == ["0", "1", "2"].map(OsString::from).into());
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap(), Path::new("/dev/null"));
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), folder.path());
    for (name, value) in [
        ("DUTCH_MASTER_SOCKET", master.socket.to_str()),
        ("DUTCH_MASTER_WORKER_ID", Some("1")),
        ("DUTCH_MASTER_SLOT", Some("0")),
        ("PWD", folder.path().to_str()),
        ("COLOUR", Some("orange")),
        ("KEPT", Some("yes")),
        ("NOTIFY_SOCKET", None),
        ("LISTEN_FDS", None),
        ("WATCHDOG_USEC", None),
        ("NODE_CHANNEL_FD", None),
        ("NODE_UNIQUE_ID", None),
    ] {
        assert_eq!(variable(pid, name).as_deref(), value, "{name}");
    }
    assert_eq!(variable(pid, "DUTCH_MASTER_TOKEN").unwrap().len(), 32);
}

#[test]
fn the_master_takes_all_descriptors_that_it_may_have_and_workers_have_the_limit_it_was_started_with() {
    let folder = Folder::new();
    let mut command = Command::new("sh");
    let start = start_command(&folder, "m", &["-n", "1", "--", "sleep", "60"]);
    command.args(["-c", "ulimit -Sn 300; exec \"$0\" \"$@\""]).arg(start.get_program()).args(start.get_args()).current_dir(folder.path());
    command.envs(start.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut master = Master::from(command, &folder);
    let worker = master.next_worker();
    let limits = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let open_files =
        |pid| limits(pid).lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().map(String::from).collect::<Vec<_>>();
    let (own, given) = (open_files(master.pid()), open_files(worker));
    assert_eq!((&own[3], &own[4]), (&given[4], &given[4]));
    assert_eq!(given[3], "300");
}

#[test]
fn standard_output_belongs_to_the_workers_alone() {
    let folder = Folder::new();
    let mut command = start_command(&folder, "m", &["-n", "1", "--before-fork", "echo hook", "--restart-attempts", "1", "--", "sh", "-c", "echo worker"]);
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "worker\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("hook\n"));
}

#[test]
fn when_a_leader_exits_what_is_left_of_its_group_is_killed() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--", "sh", "-c", "sleep 60 & echo $! > child; wait"]);
    let leader = master.next_worker();
    let child = || std::fs::read_to_string(folder.path().join("child")).ok().and_then(|pid| pid.trim().parse().ok());
    eventually("the worker has a child", || child().is_some());
    let child = child().unwrap();
    assert!(is_alive(child));
    signal_to(leader, Signal::SIGKILL);
    assert_eq!(pid_in(&master.next("Worker exited")), leader);
    eventually("the child is dead", || !is_alive(child));
}

#[test]
fn sigterm_goes_to_the_program_that_connected_and_not_to_the_wrapper_around_it() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--kill-timeout", "2s"]);
    let pid = master.next_worker();
    let mut worker = Peer::of_serving_worker(&master, pid);
    master.next("Cluster ready");
    master.signal(Signal::SIGTERM);
    assert!(matches!(worker.hear(), Some(FromMaster::Disconnect(_))));
    worker.say(&FromWorker::Disconnect(Drained::default()));
    master.next("Worker disconnected");
    assert!(is_alive(pid), "the leader of the group got nothing");
    let exited = master.next("Worker exited");
    assert_eq!(exited["signal"], "SIGKILL", "and is killed in the end");
    assert_eq!(master.wait().code(), Some(1));
}

#[test]
fn a_worker_without_a_connection_is_stopped_by_a_signal_to_its_group() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--", "sh", "-c", "sleep 60 & wait"]);
    master.next_worker();
    master.signal(Signal::SIGTERM);
    assert_eq!(master.next("Worker exited")["signal"], "SIGTERM");
    assert_eq!(master.wait().code(), Some(0));
}

#[test]
fn a_program_that_cannot_be_executed_is_a_failed_start_with_the_reason() {
    let folder = Folder::new();
    let program = folder.path().join("broken");
    std::fs::write(&program, "#!/nowhere/interpreter\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut master = Master::start(&folder, &["-n", "1", "--restart-attempts", "1", "--", "broken"]);
    let reason = master.next("Cluster could not be started")["reason"].clone();
    assert!(reason.as_str().unwrap().contains("broken: No such file or directory"), "{reason}");
    assert_eq!(master.wait().code(), Some(1));
}

#[test]
fn exits_are_seen_even_if_the_masters_parent_ignored_sigchld() {
    let folder = Folder::new();
    let command = start_command(&folder, "m", &["-n", "1", "--restart-attempts", "1", "--", "sh", "-c", "exit 7"]);
    let mut master = Master::from(ignoring(command, &[Signal::SIGCHLD]), &folder);
    assert_eq!(master.next("Worker exited")["code"], 7);
}

/// Rule: a turn of the loop launches a limited number of workers.
#[test]
fn a_stop_is_heard_while_many_workers_are_being_started() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "400", "--", "sh", "-c", "kill -TERM $PPID; exec sleep 60"]);
    master.next("Starting cluster");
    master.next("Worker spawned");
    master.wait();
    let spawned = master.count("Worker spawned");
    assert!(spawned < 400, "{spawned}");
}
