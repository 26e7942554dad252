//! The promise: another program takes the master's place while it serves. The process stays, and with it every worker, every connection and whatever is under way; one that is unfit changes nothing.
#![allow(clippy::print_stdout)] // the numbers are worth seeing

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use dutch_master_tests::harness::{Client, Finished, Master, Start, binary, exclusive, get, send, wanted};
use dutch_master_tests::load::{Load, Mode, Plan};
use dutch_master_tests::rolling::Workers;
use nix::sys::signal::Signal::{SIGKILL, SIGTERM, SIGTTIN, SIGUSR1};
use tempfile::TempDir;

/// Requests that succeed between two deeds.
const OK_BETWEEN: u64 = 50;

fn load(master: &Master, mode: Mode) -> Load {
    Load::start(Plan { mode, clients: 20, think_ms: 0..=20, ..Plan::new(master.address()) })
}

/// By inode: the listener in the master, which is all that it has of TCP, and in each worker the connection to the master, which is all that it has of Unix sockets with what its runtime made at its start.
fn sockets(master: &Master) -> Vec<BTreeSet<String>> {
    let table = fs::read_to_string("/proc/net/unix").expect("the system lists sockets");
    let unix: BTreeSet<_> = table.lines().filter_map(|line| line.split_whitespace().nth(6)).map(|inode| format!("socket:[{inode}]")).collect();
    let of = |pid: i32, is_unix: bool| -> BTreeSet<String> {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives");
        let targets = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()?.into_os_string().into_string().ok());
        targets.filter(|target| target.starts_with("socket:") && unix.contains(target) == is_unix).collect()
    };
    [of(master.pid(), false)].into_iter().chain(master.status().pids().into_iter().map(|pid| of(pid, true))).collect()
}

/// Programs that could take over, and such that cannot.
struct Programs(TempDir);

/// What each of them is, and a part of the reason that is told. One that hangs has a test of its own.
const UNFIT: [(&str, &str); 9] = [
    ("missing", "No such file or directory"),
    ("not-executable", "Permission denied"),
    ("a-folder", "Permission denied"),
    ("garbage", "Exec format error"),
    ("ends", "and said: not today"),
    ("refuses", "refuses: the state is of another age"),
    ("another-program", "cannot take over"),
    ("wraps", "a script has to run it by `exec`"),
    // It passes the preflight, and then it is the exec that fails.
    ("vanishes", "No such file or directory"),
];

const VANISHES: &str = "#!/bin/sh\nrm \"$0\"\necho '{\"takes-over\":\"9.9.9\"}'\n";

impl Programs {
    fn new() -> Programs {
        let programs = Programs(tempfile::tempdir().expect("a temporary folder can be made"));
        symlink(binary("dutch-master"), programs.path("fit")).expect("a link can be made");
        fs::write(programs.path("not-executable"), "#!/bin/sh\n").expect("it can be written");
        fs::create_dir(programs.path("a-folder")).expect("it can be made");
        programs.write("garbage", "\u{1}\u{2}nothing that runs");
        programs.write("ends", "#!/bin/sh\necho not today\nexit 3\n");
        programs.write("refuses", "#!/bin/sh\necho '{\"refuses\":\"the state is of another age\"}'\nexit 1\n");
        programs.write("hangs", "#!/bin/sh\nexec sleep 600\n");
        programs.write("vanishes", VANISHES);
        programs.write("wraps", &format!("#!/bin/sh\n{} \"$@\"\n", binary("dutch-master").display()));
        symlink("/bin/true", programs.path("another-program")).expect("a link can be made");
        programs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("it can be written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).expect("it can be made executable");
    }
}

fn upgrade_to(master: &Master, program: &Path) -> Finished {
    master.run(["upgrade", "--binary", program.to_str().expect("the path is text")])
}

/// `UPGRADES` in the environment: more of them.
#[test]
fn upgrades_fail_no_request_and_change_nothing_but_the_program() {
    let _alone = exclusive();
    let upgrades = wanted("UPGRADES").unwrap_or(2 * UNFIT.len());
    let programs = Programs::new();
    let master = Workers::Axum.start().option("--settle-time", "0s").ready();
    let (keep_alive, per_request) = (load(&master, Mode::KeepAlive), load(&master, Mode::PerRequest));
    keep_alive.await_ok(OK_BETWEEN);
    let (before, descriptors) = (master.workers(), master.usage_at_rest().descriptors);
    let sockets_before = sockets(&master);
    for n in 0..upgrades {
        keep_alive.await_ok(OK_BETWEEN);
        if n % 2 == 0 {
            let upgrade = upgrade_to(&master, &programs.path("fit"));
            assert_eq!(upgrade.code, Some(0), "{}\n{}", upgrade.stderr, master.log());
            assert!(upgrade.stdout.contains("0.1.0 has become 0.1.0"), "{}", upgrade.stdout);
        } else {
            let (name, reason) = UNFIT[n / 2 % UNFIT.len()];
            let refused = upgrade_to(&master, &programs.path(name));
            assert_eq!(refused.code, Some(1), "{name}: {}\n{}", refused.stderr, master.log());
            let told = refused.stderr.lines().last().unwrap_or_default();
            assert!(told.starts_with("Upgrade refused, nothing changes: ") && told.contains(reason), "{name}: {told}");
            programs.write("vanishes", VANISHES);
        }
        assert_eq!(master.workers(), before, "{}", master.log());
    }
    assert_eq!(master.log().count("Master upgraded"), upgrades.div_ceil(2), "{}", master.log());
    assert_eq!(master.log().count("Worker connected"), 2, "nobody had to connect again:\n{}", master.log());
    assert_eq!(master.log().count("Worker spawned"), 2, "{}", master.log());
    assert_eq!(master.usage_at_rest().descriptors, descriptors, "{}", master.log());
    assert_eq!(sockets(&master), sockets_before, "the very same ones");
    // Its workers are its children, and are replaced and stopped like any others.
    master.restart();
    assert_eq!(master.workers().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 4], "{}", master.log());
    keep_alive.await_ok(OK_BETWEEN);
    let (kept, new) = (keep_alive.stop(), per_request.stop());
    println!("{upgrades} upgrades: {kept}\n{new}");
    assert_eq!(kept.failures() + new.failures(), 0, "{kept}\n{new}\n{}", master.log());
    master.stop();
}

#[test]
fn a_program_that_does_not_answer_is_given_up_and_everything_goes_on_meanwhile() {
    let programs = Programs::new();
    let master = Workers::Axum.start().option("--settle-time", "0s").ready();
    let asked = master.begin(["upgrade", "--binary", programs.path("hangs").to_str().expect("the path is text")]);
    let _requested = master.await_log("Upgrade requested");
    master.restart();
    let another = master.run(["upgrade"]);
    assert_eq!((another.code, another.stderr.contains("another upgrade is under way")), (Some(1), true), "{}", another.stderr);
    let given_up = asked.finish();
    assert_eq!((given_up.code, given_up.stderr.contains("did not answer within 10 s")), (Some(1), true), "{}", given_up.stderr);
    master.upgrade();
    master.stop();
}

#[test]
fn a_rolling_restart_under_way_is_completed_by_the_successor_and_whoever_waits_for_it_is_told() {
    let _alone = exclusive();
    let master = Workers::Axum.start().ready();
    let load = load(&master, Mode::KeepAlive);
    load.await_ok(OK_BETWEEN);
    let restart = master.begin(["restart"]);
    // It has to last before the old ones are told to go.
    master.log().forget();
    let _begun = master.await_log("Worker listening");
    master.upgrade();
    assert_eq!(master.status().pool.restarts, 0, "still under way:\n{}", master.log());
    let restart = restart.finish();
    assert_eq!(restart.code, Some(0), "{}\n{}", restart.stderr, master.log());
    assert_eq!(master.workers().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 4], "{}", master.log());
    let _report = load.stop_without_failure(master.log());
    master.stop();
}

#[test]
fn a_request_in_flight_is_answered_by_a_worker_that_was_told_to_go_before_the_upgrade() {
    let master = Workers::Axum.start().option("--settle-time", "0s").ready();
    let mut client = Client::connect(master.address());
    client.ask("/slow?ms=3000");
    master.restart();
    master.eventually("it drains", |status| status.workers.iter().any(|worker| worker.state == "draining"));
    master.upgrade();
    assert!(client.body().contains("a while"));
    master.eventually("it has gone", |status| status.workers.len() == 2);
    assert_eq!(master.log().count("Worker did not end in time, killing it"), 0, "{}", master.log());
    master.stop();
}

#[test]
fn a_stop_under_way_goes_on() {
    let master = Workers::Axum.start().ready();
    let mut client = Client::connect(master.address());
    client.ask("/slow?ms=2000");
    let _accepted = get(master.address(), "/");
    let stop = master.begin(["stop"]);
    let _begun = master.await_log("Shutdown requested");
    master.upgrade();
    assert!(client.body().contains("a while"));
    assert_eq!(stop.finish().code, Some(0), "{}", master.log());
    assert_eq!(master.exit_code(), Some(0), "{}", master.log());
    assert_eq!(master.processes(), [0; 0], "{}", master.log());
}

#[test]
fn half_a_message_of_a_worker_is_kept_until_the_rest_comes() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = |name: &str| folder.path().join(name).to_str().expect("the path is text").to_owned();
    let behaviour = format!("hello listen part touch:{} await:{} rest serve drained hang", file("half"), file("go"));
    let master = Start::test_worker(&behaviour).option("-n", "1").start();
    while !Path::new(&file("half")).exists() {
        std::thread::yield_now();
    }
    // What it wrote before is read before this is answered.
    let _read = master.status();
    master.upgrade();
    assert_eq!(master.log().count("Worker listening"), 0, "{}", master.log());
    fs::write(file("go"), "").expect("it can be written");
    let _whole = master.await_log("Worker listening");
    assert_eq!(master.log().count("Worker connected"), 1, "{}", master.log());
    let _served = get(master.address(), "/");
    master.stop();
}

#[test]
fn a_hook_that_runs_is_waited_for_and_its_worker_started() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (begun, go) = (folder.path().join("begun"), folder.path().join("go"));
    let hook = format!("touch {}; while [ ! -e {} ]; do sleep 0.05; done", begun.display(), go.display());
    let master = Workers::Axum.start().option("--before-fork", hook).start();
    while !begun.exists() {
        std::thread::yield_now();
    }
    master.upgrade();
    assert_eq!(master.log().count("Worker spawned"), 0, "{}", master.log());
    fs::write(go, "").expect("it can be written");
    let _ready = master.await_log("Cluster ready");
    master.stop();
}

#[test]
fn signals_and_deaths_that_come_during_an_upgrade_are_not_lost() {
    let master = Workers::Axum.start().option("--settle-time", "0s").ready();
    for round in 1..=5 {
        let victim = master.status().pids()[0];
        let under_way = master.begin(["upgrade"]);
        let _requested = master.await_log("Upgrade requested");
        send(victim, SIGKILL);
        master.signal(SIGTTIN);
        let done = under_way.finish();
        assert_eq!(done.code, Some(0), "{}\n{}", done.stderr, master.log());
        master.eventually("one more, and the dead one replaced", |status| status.running().count() == 2 + round && !status.pids().contains(&victim));
        // No child is left unreaped.
        assert!(!master.processes().contains(&victim), "{}", master.log());
    }
    master.stop();
}

#[test]
fn a_signal_asks_for_it_where_no_log_file_is_opened_again_by_that() {
    let master = Workers::Axum.start().ready();
    let before = master.workers();
    master.signal(SIGUSR1);
    let _upgraded = master.await_log("Master upgraded");
    assert_eq!(master.workers(), before);
    master.stop();
}

#[test]
fn workers_of_an_upgraded_master_get_what_those_before_got_and_nothing_else() {
    let master = Workers::Axum.start().option("--settle-time", "0s").ready();
    let of_worker = |what: &str| {
        let pid = master.status().pids()[0];
        fs::read_to_string(format!("/proc/{pid}/{what}")).expect("the worker lives")
    };
    let names = |environment: String| environment.split('\0').filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect::<BTreeSet<_>>();
    let mask = |status: String| status.lines().filter(|line| line.starts_with("Sig") && !line.starts_with("SigQ")).map(String::from).collect::<Vec<_>>();
    let limit = |limits: String| limits.lines().find(|line| line.starts_with("Max open files")).map(String::from);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", master.status().pids()[0])).expect("the worker lives").count();
    let before = (names(of_worker("environ")), mask(of_worker("status")), limit(of_worker("limits")), descriptors());
    master.upgrade();
    master.upgrade();
    master.restart();
    master.eventually("the old ones are gone", |status| status.workers.len() == 2);
    assert_eq!((names(of_worker("environ")), mask(of_worker("status")), limit(of_worker("limits")), descriptors()), before);
    master.stop();
}

#[test]
fn a_master_that_was_upgraded_may_be_killed_like_any_other_and_one_that_adopted_may_be_upgraded() {
    let mut master = Workers::Axum.start().option("--settle-time", "0s").ready();
    let before = master.workers();
    master.upgrade();
    master.kill();
    master.start_again();
    let _adopted = master.await_log("Cluster adopted");
    master.upgrade();
    assert_eq!(master.workers(), before, "{}", master.log());
    master.restart();
    master.signal(SIGTERM);
    assert_eq!(master.exit_code(), Some(0), "{}", master.log());
}

#[test]
fn a_program_that_says_that_it_can_and_then_ends_costs_no_request_and_the_next_start_takes_over() {
    let _alone = exclusive();
    let programs = Programs::new();
    programs.write("lies", "#!/bin/sh\n[ \"$1\" = preflight ] || exit 7\necho '{\"takes-over\":\"9.9.9\"}'\n");
    let mut master = Workers::Axum.start().option("--settle-time", "0s").ready();
    let (before, load) = (master.workers(), load(&master, Mode::PerRequest));
    load.await_ok(OK_BETWEEN);
    let cut = upgrade_to(&master, &programs.path("lies"));
    assert_eq!((cut.code, master.exit_code()), (Some(1), Some(7)), "{}", cut.stderr);
    load.await_ok(OK_BETWEEN);
    master.start_again();
    let _adopted = master.await_log("Cluster adopted");
    assert_eq!(master.workers(), before, "{}", master.log());
    load.await_ok(OK_BETWEEN);
    let _report = load.stop_without_failure(master.log());
    master.stop();
}

#[test]
fn a_successor_that_lacks_something_goes_on_as_after_the_death_of_a_master() {
    let _alone = exclusive();
    let programs = Programs::new();
    let master = Workers::Axum.start().option("--settle-time", "0s").ready();
    let (before, load) = (master.workers(), load(&master, Mode::PerRequest));
    load.await_ok(OK_BETWEEN);
    let fds = fs::read_dir(format!("/proc/{}/fd", master.pid())).expect("the master lives").flatten();
    let lock = fds.filter(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.ends_with("pool.lock")));
    let lock = lock.map(|fd| fd.file_name().into_string().expect("a number")).next().expect("it has a lock");
    let program = binary("dutch-master");
    programs.write("loses", &format!("#!/bin/bash\n[ \"$1\" = preflight ] || exec {lock}>&-\nexec {} \"$@\"\n", program.display()));
    let cut = upgrade_to(&master, &programs.path("loses"));
    assert_eq!(cut.code, Some(1), "{}", cut.stdout);
    let _told = master.await_log("Upgrade failed, going on as after the death of a master");
    let _adopted = master.await_log("Cluster adopted");
    assert_eq!(master.workers(), before, "{}", master.log());
    load.await_ok(OK_BETWEEN);
    master.upgrade();
    master.restart();
    let _report = load.stop_without_failure(master.log());
    master.stop();
}

/// Where the old program or the new one may die in an upgrade.
#[test]
#[cfg(debug_assertions)] // a release build has no such places
fn wherever_in_an_upgrade_the_master_dies_no_request_fails_and_the_next_one_goes_on() {
    let _alone = exclusive();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let armed = folder.path().join("failpoint");
    let mut master = Workers::Axum.start().env("DUTCH_MASTER_FAILPOINT", &armed).option("--settle-time", "0s").ready();
    let (before, loads) = (master.workers(), [load(&master, Mode::KeepAlive), load(&master, Mode::PerRequest)]);
    for place in ["BeforeExec", "AfterExec", "Upgraded"] {
        loads.iter().for_each(|load| load.await_ok(OK_BETWEEN));
        fs::write(&armed, place).expect("a file can be written");
        let cut = master.begin(["upgrade"]);
        master.await_death();
        assert_eq!(cut.finish().code, Some(1), "{place}");
        fs::remove_file(&armed).expect("a file can be removed");
        loads.iter().for_each(|load| load.await_ok(OK_BETWEEN));
        master.start_again();
        let _adopted = master.await_log("Cluster adopted");
        assert_eq!(master.workers(), before, "{place}:\n{}", master.log());
    }
    master.upgrade();
    for load in loads {
        let _report = load.stop_without_failure(master.log());
    }
    master.stop();
}
