//! Workers that run as another user than the master, which is root: what they get, what they can do, and what they cannot. The claims of docs/security.md about them.
#![allow(clippy::print_stdout)] // a test that only root can run says so

mod world;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use dutch_master_tests::harness::{Master, PATIENCE, Start, binary, exclusive, is_alive, repository, send};
use dutch_master_tests::load::{Failure, Load};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use world::{World, is_root, line, load};

/// Requests that succeed between two deeds.
const OK_BETWEEN: u64 = 50;

/// Restarts in a storm: each is a chance to stop the master with a child.
const RESTARTS: usize = 10;

/// The user that a process runs as.
fn uid_of(pid: i32) -> String {
    line(pid, "status", "Uid:").split(' ').next().unwrap_or_default().to_owned()
}

/// The end of a load: a restart under it fails nothing, and nothing had failed before.
#[track_caller]
fn restart_without_failure(master: &Master, load: Load) {
    load.await_ok(OK_BETWEEN);
    master.restart();
    load.await_ok(OK_BETWEEN);
    let _report = load.stop_without_failure(master.log());
}

#[test]
fn workers_get_the_user_groups_mask_and_limits_that_were_configured_and_can_gain_nothing() {
    if !is_root("users") {
        return;
    }
    let world = World::new();
    let master = world.http_worker().option("--groups", "7,8").option("--umask", "027").option("--limit", "nofile=500:600").ready();
    for pid in master.status().pids() {
        let (uid, status) = (world.uid, |name| line(pid, "status", name));
        assert_eq!((status("Uid:"), status("Gid:")), ([uid; 4].map(|uid| uid.to_string()).join(" "), [uid; 4].map(|uid| uid.to_string()).join(" ")));
        assert_eq!((status("Groups:"), status("Umask:"), status("NoNewPrivs:")), ("7 8".into(), "0027".into(), "1".into()));
        for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(status(capabilities), "0".repeat(16), "{capabilities}");
        }
        assert_eq!(line(pid, "limits", "Max open files"), "500 600 files");
        let environment = fs::read(format!("/proc/{pid}/environ")).expect("it lives");
        assert!(environment.split(|byte| *byte == 0).any(|variable| variable == b"HOME=/"), "not the master's");
    }
    assert_eq!(
        (line(master.pid(), "status", "Uid:"), line(master.pid(), "status", "NoNewPrivs:")),
        ("0 0 0 0".into(), "0".into()),
        "the master stays what it is"
    );
    master.stop();
}

#[test]
fn a_user_of_the_system_brings_its_groups_and_its_home() {
    if !is_root("users by name") {
        return;
    }
    let world = World::new();
    // One that every system has.
    let start = Start::new(world.program("http-worker")).option("--dir", "/").option("--user", "nobody").env("HOME", "/root").option("--env", "LOGNAME=chosen");
    let master = start.ready();
    let user = nix::unistd::User::from_name("nobody").expect("users can be looked up").expect("there is one");
    let pid = master.status().pids()[0];
    assert_eq!(uid_of(pid), user.uid.to_string());
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("it lives");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let variables: Vec<_> = environment.split('\0').collect();
    for variable in [format!("HOME={}", user.dir.display()), "USER=nobody".into(), "LOGNAME=chosen".into()] {
        assert!(variables.contains(&variable.as_str()), "{variable} is not in {variables:?}");
    }
    master.stop();
}

#[test]
fn workers_of_another_user_are_restarted_told_killed_and_stopped_without_a_failed_request() {
    if !is_root("signals to another user") {
        return;
    }
    let _alone = exclusive();
    let world = World::new();
    let master = world.http_worker().ready();
    let load = load(&master);
    load.await_ok(OK_BETWEEN);
    for _ in 0..3 {
        master.restart();
        load.await_ok(OK_BETWEEN);
    }
    assert_eq!(master.run(["scale", "1"]).code, Some(0));
    load.await_ok(OK_BETWEEN);
    let _report = load.stop_without_failure(master.log());
    master.stop();

    let stubborn = ["hello", "listen", "listening", "ignore-term", "child", "hang"].into_iter().fold(Start::new(world.program("test-worker")), Start::arg);
    let master = world.of_another_user(stubborn).option("--kill-timeout", "1s").ready();
    master.signal(Signal::SIGTERM);
    assert_eq!(master.exit_code(), Some(1), "each had to be killed:\n{}", master.log());
    assert_eq!(master.processes(), [0; 0], "with all that it had started");
}

#[test]
fn a_privileged_port_is_bound_by_the_master_for_workers_that_could_not() {
    if !is_root("a privileged port") {
        return;
    }
    let world = World::new();
    let port = (600..1_000).rev().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("one is free");
    let start = world.of_another_user(Start::new(world.program("http-worker")).without_listener().option("--listen", format!("web=127.0.0.1:{port}")));
    let master = start.ready();
    assert_eq!(master.address().port(), port);
    let load = load(&master);
    restart_without_failure(&master, load);
    master.stop();
}

#[test]
fn a_killed_master_finds_workers_of_another_user_again() {
    if !is_root("survival with another user") {
        return;
    }
    let _alone = exclusive();
    let world = World::new();
    let mut master = world.http_worker().ready();
    let (before, load) = (master.status().pids(), load(&master));
    load.await_ok(OK_BETWEEN);
    master.kill();
    load.await_ok(OK_BETWEEN);
    master.start_again();
    let _adopted = master.await_log("Cluster adopted");
    assert_eq!(master.status().pids(), before, "{}", master.log());
    restart_without_failure(&master, load);
    master.stop();
}

#[test]
fn an_upgraded_master_keeps_workers_of_another_user_and_starts_more_of_them() {
    if !is_root("an upgrade with another user") {
        return;
    }
    let _alone = exclusive();
    let world = World::new();
    let master = world.http_worker().ready();
    let (before, load) = (master.workers(), load(&master));
    load.await_ok(OK_BETWEEN);
    master.upgrade();
    assert_eq!(master.workers(), before, "{}", master.log());
    restart_without_failure(&master, load);
    for pid in master.status().pids() {
        assert_eq!(uid_of(pid), world.uid.to_string());
    }
    master.stop();
}

#[test]
fn a_start_with_another_user_replaces_the_workers_of_the_one_before_and_refuses_nobody() {
    if !is_root("a change of users") {
        return;
    }
    let _alone = exclusive();
    let (old, new) = (World::new(), World::new());
    let mut master = old.http_worker().ready();
    let (before, load) = (master.status().pids(), load(&master));
    load.await_ok(OK_BETWEEN);
    master.kill();
    load.await_ok(OK_BETWEEN);
    master.start_again_as(new.http_worker());
    for _ in 0..2 {
        let _new = master.await_log("Worker listening");
    }
    load.await_ok(OK_BETWEEN);
    let until = Instant::now() + PATIENCE;
    while before.iter().any(|pid| is_alive(*pid)) {
        assert!(Instant::now() < until, "the old ones go:\n{}", master.log());
    }
    for pid in master.status().pids() {
        assert_eq!(uid_of(pid), new.uid.to_string());
    }
    load.await_ok(OK_BETWEEN);
    let report = load.stop();
    // What they were answering when they had to go is lost: they could not be told to finish it. Nobody is refused.
    assert_eq!(report.failures(), report.count(Failure::Eof) + report.count(Failure::Reset), "{report}\n{}", master.log());
    master.stop();
}

/// Whether this system lets everybody bind every port.
fn lends_to_all() -> bool {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok().and_then(|text| text.trim().parse::<u16>().ok());
    first.is_some_and(|first| first < 1_024)
}

/// What the hostile worker can do to anybody of its own user, and what nobody keeps it from: its siblings are no strangers to it.
const ALWAYS: [&str; 2] = ["read-environment-of-sibling", "signal-sibling"];

#[test]
fn a_hostile_worker_of_another_user_is_refused_everything_but_its_siblings() {
    if !is_root("a hostile worker of another user") {
        return;
    }
    let world = World::new();
    let master = world.of_another_user(Start::new(world.program("hostile-worker")).arg(world.path("report"))).ready();
    let expected = [
        ("read-memory-of-master", "EACCES"),
        ("read-environment-of-master", "EACCES"),
        ("list-descriptors-of-master", "EACCES"),
        ("take-descriptor-of-master", "EPERM"),
        ("signal-master", "EPERM"),
        ("limit-master", "EPERM"),
        ("give-orders", "forbidden"),
        ("read-state", "EACCES"),
        ("write-lock", "EACCES"),
        ("list-runtime-directory", "EACCES"),
        ("make-file-in-runtime-directory", "EACCES"),
        ("remove-control-socket", "EACCES"),
        ("bind-privileged-port", if lends_to_all() { "ok" } else { "EACCES" }),
        ("ask-for-privileged-port", "EACCES"),
        ("ask-for-unix-path", "EACCES"),
        ("become-root", "EPERM"),
        ("raise-limit", "EPERM"),
    ];
    let expected =
        expected.into_iter().chain(ALWAYS.map(|name| (name, "ok"))).map(|(name, outcome)| (name.into(), outcome.into())).collect::<BTreeMap<String, String>>();
    assert_eq!(world.report(), expected, "{}", master.log());
    assert_eq!(master.status().pids().len(), 2, "nothing has happened:\n{}", master.log());
    master.stop();
}

#[test]
fn a_hostile_worker_of_the_masters_own_user_can_do_what_the_master_can() {
    // The control of the test above: the attempts do work where nothing keeps anybody from them.
    let world = World::new();
    if geteuid().is_root()
        && !Command::new(binary("dutch-master")).arg("--version").uid(world.uid).current_dir("/").status().is_ok_and(|status| status.success())
    {
        println!("skipped: another user cannot run what was built here");
        return;
    }
    let start = Start::new(world.program("hostile-worker")).arg(world.path("report")).option("--dir", world.folder.path()).option("-n", "1");
    let master = if geteuid().is_root() { start.as_user(world.uid) } else { start }.ready();
    let report = world.report();
    for can in [
        "read-environment-of-master",
        "list-descriptors-of-master",
        "signal-master",
        "limit-master",
        "give-orders",
        "read-state",
        "write-lock",
        "list-runtime-directory",
        "ask-for-unix-path",
    ] {
        assert_eq!(report[can], "ok", "{can}: {report:?}");
    }
    // Some systems keep processes of one user from each other's memory and descriptors.
    for may in ["read-memory-of-master", "take-descriptor-of-master"] {
        assert!(["ok", "EACCES", "EPERM"].contains(&report[may].as_str()), "{may}: {report:?}");
    }
    for cannot in ["become-root", "raise-limit"] {
        assert!(["EACCES", "EPERM"].contains(&report[cannot].as_str()), "{cannot}: {report:?}");
    }
    let _put_right = master.await_log("Control socket was removed, made again");
    master.stop();
}

#[test]
fn a_user_that_stops_whatever_it_can_cannot_stop_the_master() {
    if !is_root("a storm of signals") {
        return;
    }
    let _alone = exclusive();
    let world = World::new();
    let (hostile, good) = (world.program("hostile-worker"), world.program("http-worker"));
    let folder = world.folder.path().display();
    let script = format!("if mkdir {folder}/once 2>/dev/null; then exec {} {folder}/storms storm; else exec {}; fi", hostile.display(), good.display());
    let start = world
        .of_another_user(Start::new("/bin/sh").arg("-c").arg(script))
        .option("-n", "1")
        .option("--start-timeout", "1s")
        .option("--kill-timeout", "500ms")
        .option("--restart-attempts", "1000");
    let master = start.ready();
    let _storms = world.await_file("storms");
    let stormy = master.status().pids();
    let mut restarts = 0;
    // Each is a child that is stopped as soon as it is that user's; some of them before they are another program.
    while restarts < RESTARTS {
        assert_eq!(master.run(["restart", "--no-wait"]).code, Some(0), "{}", master.log());
        let _another = master.await_log("Creating new worker");
        assert_eq!(master.run(["status"]).code, Some(0), "the master answers:\n{}", master.log());
        restarts += 1;
    }
    println!("{} of {restarts} were stopped before they ran", master.log().to_string().matches("stopped it before it ran").count());
    stormy.into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
    let _healed = master.await_log("Worker listening");
    master.eventually("what was stopped has gone", |status| status.workers.len() <= 1);
    master.stop();
}

#[test]
fn a_unix_listener_has_the_mode_and_the_owner_that_were_configured_also_when_it_is_bound_anew() {
    if !is_root("the owner of a listener") {
        return;
    }
    let world = World::new();
    let path = world.path("web.sock");
    let uid = world.uid;
    let listen = format!("web=unix:{},mode=0620,owner={},group={uid}", path.display(), uid + 1);
    let worker = ["hello", "listen", "listening", "hang"].into_iter().fold(Start::new(world.program("test-worker")), Start::arg);
    let start = worker.without_listener().option("--listen", listen).option("--kill-timeout", "1s");
    let master = world.of_another_user(start).ready();
    let is_right = |path: &Path| {
        let found = path.symlink_metadata().expect("it is there");
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o620, uid + 1, uid));
        let _connection = UnixStream::connect(path).expect("it is served");
    };
    is_right(&path);
    // Its worker owns the folder.
    let _warned = master.log().entries("Workers can replace the socket of a listener: their user may write to its directory").first().expect("that is told");
    fs::remove_file(&path).expect("the folder is the user's");
    let _anew = master.await_log("Socket file of a listener was removed, bound anew");
    is_right(&path);
    master.stop_past_its_time();
}

#[test]
fn node_says_eacces_for_a_port_that_the_master_does_not_lend() {
    if !is_root("Node as another user") {
        return;
    }
    let world = World::new();
    let node = Command::new("node").args(["-e", "0"]).uid(world.uid).gid(world.uid).current_dir("/").status();
    if !node.is_ok_and(|status| status.success()) {
        println!("skipped: another user cannot run node");
        return;
    }
    let sdk = world.path("sdk");
    fs::create_dir(&sdk).expect("a folder can be made");
    for entry in fs::read_dir(repository("sdk-node/worker")).expect("a folder").flatten().filter(|entry| entry.file_name() != "node_modules") {
        assert!(Command::new("cp").arg("-r").arg(entry.path()).arg(&sdk).status().is_ok_and(|status| status.success()));
    }
    let report = world.path("refused");
    let app = format!(
        "require('net').createServer().on('error', (error) => require('fs').writeFileSync({report:?}, error.code)).listen(1023, '127.0.0.1')\n\
         require('http').createServer((_, answer) => answer.end('hello')).listen(0, '127.0.0.1')\n"
    );
    fs::write(world.path("app.js"), app).expect("a file can be written");
    let master = world.of_another_user(Start::new("app.js").without_listener()).option("-n", "1").option("--node-sdk", &sdk).ready();
    let until = Instant::now() + PATIENCE;
    while world.await_file("refused").is_empty() {
        assert!(Instant::now() < until);
    }
    assert_eq!(world.await_file("refused"), "EACCES", "{}", master.log());
    master.stop();
}
