//! Under systemd: what it is told and when, what it hands over, and what it keeps while nobody else does. Its side is played here, or is systemd's own where that can be run without booting it.
#![allow(clippy::print_stdout)] // what was not run is said

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use dutch_master_tests::harness::{Client, GOOD, Manager, Master, Start, binary, get, repository, send};
use nix::sys::signal::Signal::{SIGHUP, SIGKILL, SIGTERM};

#[test]
fn it_is_ready_when_all_workers_listen_and_not_before() {
    let (manager, folder) = (Manager::new(), tempfile::tempdir().expect("a folder"));
    let gate = folder.path().join("gate");
    let master = Start::test_worker(&format!("hello listen await:{} listening serve drained hang", gate.display())).under(&manager).start();
    for _ in 0..2 {
        let _connected = master.await_log("Worker connected");
    }
    assert_eq!(manager.await_said("STATUS="), "STATUS=Starting: 0 of 2 workers serve, generation 1");
    let too_early = manager.said().contains(&"READY=1".into());
    File::create(gate).expect("a file");
    let _ready = manager.await_said("READY=1");
    assert!(!too_early);
    assert_eq!(manager.await_said("STATUS=2"), "STATUS=2 of 2 workers serve, generation 1");
    assert!(!manager.said().iter().any(|said| said.starts_with("WATCHDOG")), "nobody asked for it");
    master.stop();
}

#[test]
fn a_stop_is_told_before_the_workers_have_gone() {
    let manager = Manager::new();
    let master = Start::test_worker("hello listen listening serve sleep:300 drained hang").under(&manager).ready();
    master.signal(SIGTERM);
    let _stopping = manager.await_said("STOPPING=1");
    assert_eq!(manager.await_said("STATUS="), "STATUS=Stopping: 2 workers still finish their requests");
    assert_eq!(master.exit_code(), Some(0), "{}", master.log());
}

/// Microseconds since boot, as systemd counts them.
fn monotonic() -> i64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("the system has a clock");
    now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000
}

#[track_caller]
fn assert_reloads(manager: &Manager, master: &Master, status: &str) {
    let before = monotonic();
    master.signal(SIGHUP);
    let _reloading = manager.await_said("RELOADING=1");
    let said = manager.await_said("MONOTONIC_USEC=");
    let at: i64 = said.trim_start_matches("MONOTONIC_USEC=").parse().expect("a number");
    assert!(at >= before, "systemd takes an older one for the answer to an earlier reload: {at}, {before}");
    let _ready = manager.await_said("READY=1");
    let said = manager.await_said("STATUS=");
    assert!(said.starts_with(status), "{said}");
}

#[test]
fn a_reload_is_told_from_its_beginning_to_its_end_also_when_it_is_refused() {
    let (manager, folder) = (Manager::new(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("pool.toml");
    fs::write(&file, "kill_timeout = \"20s\"\n").expect("a file");
    let master = Start::test_worker(GOOD).option("--config", &file).option("--settle-time", "0s").under(&manager).ready();
    let _ready = manager.await_said("READY=1");
    assert_reloads(&manager, &master, "STATUS=2 of 2 workers serve, generation 2");
    fs::write(&file, "nonsense = 1\n").expect("a file");
    assert_reloads(&manager, &master, "STATUS=Reload refused, nothing changed (");
    fs::write(&file, "").expect("a file");
    assert_reloads(&manager, &master, "STATUS=2 of 2 workers serve, generation 3");
    master.stop();
}

#[test]
fn a_restart_by_sighup_is_a_reload_to_systemd() {
    let manager = Manager::new();
    let master = Start::test_worker(GOOD).option("--restart-signal", "SIGHUP").option("--settle-time", "0s").under(&manager).ready();
    let _ready = manager.await_said("READY=1");
    assert_reloads(&manager, &master, "STATUS=2 of 2 workers serve, generation 2");
    master.stop();
}

#[test]
fn a_release_that_does_not_come_up_is_told_in_the_status() {
    let (manager, folder) = (Manager::new(), tempfile::tempdir().expect("a folder"));
    let script = folder.path().join("script");
    fs::write(&script, GOOD).expect("a file");
    let master = Start::test_worker(&format!("@{}", script.display())).option("--restart-attempts", "1").under(&manager).ready();
    fs::write(&script, "exit:9").expect("a file");
    master.signal(SIGHUP);
    let _reloading = manager.await_said("RELOADING=1");
    let _ready = manager.await_said("READY=1");
    let said = manager.await_said("STATUS=");
    assert!(said.starts_with("STATUS=Restart given up: generation 2 does not come up (") && said.contains("code 9"), "{said}");
    master.stop();
}

#[test]
fn the_watchdog_is_told_again_and_again_where_it_is_asked_for() {
    let manager = Manager::new().watching(100_000);
    let master = Start::test_worker(GOOD).under(&manager).ready();
    for _ in 0..3 {
        let _alive = manager.await_said("WATCHDOG=1");
    }
    master.stop();
}

#[test]
fn workers_and_hooks_see_nothing_of_systemd() {
    let (folder, lent) = (tempfile::tempdir().expect("a folder"), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let (manager, seen) = (Manager::new().watching(60_000_000).lending("web", lent), folder.path().join("seen"));
    let hook = format!("env > {}; ls /proc/self/fd >> {}", seen.display(), seen.display());
    let master = Start::test_worker(GOOD).without_listener().option("--before-fork", hook).under(&manager).ready();
    let environments = master.status().pids().into_iter().map(|pid| fs::read_to_string(format!("/proc/{pid}/environ")).expect("the worker lives"));
    for environment in environments.chain([fs::read_to_string(&seen).expect("the hook wrote it")]) {
        for name in ["NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "FDSTORE"] {
            assert!(!environment.contains(name), "{name} in {environment}");
        }
    }
    master.stop();
}

#[test]
fn a_lent_socket_is_the_configured_listener_of_its_address_and_stays_with_systemd() {
    let lent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, copy) = (lent.local_addr().expect("an address"), lent.try_clone().expect("a copy"));
    // Queued before there is a master.
    let mut early = Client::connect(address);
    early.ask("/");
    let manager = Manager::new().lending("pool.socket", lent);
    let master = Start::test_worker(GOOD).without_listener().option("--listen", format!("site={address}")).under(&manager).ready();
    let _answered = early.body();
    assert_eq!(master.status().listeners[0].name.as_deref(), Some("site"));
    assert!(manager.kept().is_empty(), "it is kept anyway");
    master.stop();
    let mut next = Client::connect(address);
    next.ask("/");
    drop(next);
    drop(copy);
}

#[test]
fn a_lent_socket_without_a_word_in_the_configuration_has_the_name_of_its_unit_and_what_is_no_listener_is_told() {
    let (lent, file) = (TcpListener::bind("127.0.0.1:0").expect("a port"), File::open("/dev/null").expect("a file"));
    let address = lent.local_addr().expect("an address");
    let manager = Manager::new().lending("site.socket", lent).lending("fifo", file);
    let master = Start::test_worker(GOOD).without_listener().under(&manager).ready();
    let status = master.status();
    assert_eq!((status.listeners.len(), status.listeners[0].name.as_deref(), status.address()), (1, Some("site"), address));
    let _answer = get(address, "/");
    let told = master.log().entries("Socket of the service manager cannot be used");
    assert_eq!(told.iter().map(|line| line.text("socket")).collect::<Vec<_>>(), [Some("fifo")], "{}", master.log());
    master.restart();
    master.stop();
}

#[test]
fn a_socket_that_has_the_name_of_a_listener_and_another_address_is_told_and_not_used() {
    let (lent, other) = (TcpListener::bind("127.0.0.1:0").expect("a port"), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let address = other.local_addr().expect("an address");
    drop(other);
    let manager = Manager::new().lending("web", lent);
    let master = Start::test_worker(GOOD).without_listener().option("--listen", format!("web={address}")).under(&manager).ready();
    assert_eq!(master.log().count("Socket of the service manager cannot be used"), 1, "{}", master.log());
    assert_eq!(master.address(), address);
    master.stop();
}

/// Kills master and workers, whatever they do.
fn kill_all(master: &Master) {
    let workers = master.processes();
    master.kill();
    workers.into_iter().for_each(|pid| send(pid, SIGKILL));
    while !master.processes().is_empty() {
        std::thread::yield_now();
    }
}

#[track_caller]
fn assert_outlives_everything(start: Start) {
    let manager = Manager::new();
    let mut master = start.under(&manager).ready();
    let (address, _kept) = (master.address(), manager.await_said("FDSTORE=1"));
    for _ in 0..2 {
        kill_all(&master);
        let mut waiting: Vec<_> = (0..20).map(|_| Client::connect(address)).collect();
        waiting.iter_mut().for_each(|client| client.ask("/"));
        master.start_again();
        let _ready = master.await_log("Cluster ready");
        assert_eq!(master.address(), address, "{}", master.log());
        waiting.into_iter().for_each(|client| drop(client.body()));
        assert_eq!(manager.kept().len(), 1, "{:?}", manager.said());
    }
    master.stop();
    let _removed = manager.await_said("FDSTOREREMOVE=1");
    assert!(manager.kept().is_empty(), "{:?}", manager.said());
    assert!(TcpStream::connect(address).is_err(), "nobody holds it any more");
}

#[test]
fn a_configured_listener_outlives_master_and_workers_and_what_was_queued_is_served() {
    assert_outlives_everything(Start::test_worker(GOOD));
}

#[test]
fn a_listener_that_workers_asked_for_outlives_them_too() {
    assert_outlives_everything(Start::test_worker("hello listen-at:127.0.0.1:0 listening serve drained hang").without_listener());
}

#[test]
fn a_kept_listener_that_has_another_name_in_the_next_configuration_is_the_same_listener() {
    let manager = Manager::new();
    let mut master = Start::test_worker(GOOD).under(&manager).ready();
    let (address, before) = (master.address(), manager.await_said("FDNAME="));
    kill_all(&master);
    let mut waiting = Client::connect(address);
    waiting.ask("/");
    master.start_again_as(Start::test_worker(GOOD).without_listener().option("--listen", format!("site={address}")).under(&manager));
    let _ready = master.await_log("Cluster ready");
    let _answered = waiting.body();
    let after = manager.await_said("FDNAME=dm-listener-site");
    assert_eq!(manager.kept(), [after.trim_start_matches("FDNAME=")], "and not as {before}");
    master.stop();
}

#[test]
fn a_kept_listener_makes_room_for_one_that_is_configured_across_it() {
    let manager = Manager::new();
    let mut master = Start::test_worker(GOOD).under(&manager).ready();
    let (address, before) = (master.address(), manager.await_said("FDNAME="));
    kill_all(&master);
    let everywhere = format!("everywhere=0.0.0.0:{}", address.port());
    master.start_again_as(Start::test_worker(GOOD).without_listener().option("--listen", &everywhere).under(&manager));
    let _ready = master.await_log("Cluster ready");
    let _answer = get(address, "/");
    let after = manager.await_said("FDNAME=dm-listener-everywhere");
    assert_eq!(manager.kept(), [after.trim_start_matches("FDNAME=")], "and not {before}");
    master.stop();
}

#[test]
fn a_kept_listener_that_living_workers_serve_is_not_closed_for_another_and_the_start_says_so() {
    let manager = Manager::new();
    let mut master = Start::new(binary("http-worker")).under(&manager).ready();
    let (address, _kept) = (master.address(), manager.await_said("FDSTORE=1"));
    master.kill();
    let everywhere = format!("everywhere=0.0.0.0:{}", address.port());
    master.start_again_as(Start::new(binary("http-worker")).without_listener().option("--listen", &everywhere).under(&manager));
    assert_eq!(master.exit_code(), Some(1));
    let said = format!("workers that live serve {address}, which is in its way: go back to that address");
    assert!(master.log().to_string().contains(&said), "{}", master.log());
    let _answer = get(address, "/");
    master.start_again_as(Start::new(binary("http-worker")).under(&manager));
    let _adopted = master.await_log("Cluster adopted");
    master.stop();
}

#[test]
fn a_master_that_died_alone_has_its_listener_back_at_once_and_its_workers_too() {
    let manager = Manager::new();
    let mut master = Start::new(binary("http-worker")).under(&manager).ready();
    let (address, pids, _kept) = (master.address(), master.status().pids(), manager.await_said("FDSTORE=1"));
    master.kill();
    master.start_again();
    let _taken = master.await_log("Listener taken from the service manager");
    let _adopted = master.await_log("Cluster adopted");
    assert_eq!((master.address(), master.status().pids()), (address, pids), "{}", master.log());
    let _answer = get(address, "/");
    let _ready = manager.await_said("READY=1");
    master.stop();
}

/// Whether this program is here; else the test says that it was not run.
fn is_here(program: &str, test: &str) -> bool {
    let is_here = Command::new(program).arg("--version").output().is_ok();
    if !is_here {
        println!("NOT RUN: {test}: there is no {program} here");
    }
    is_here
}

#[test]
fn systemds_own_socket_activation_starts_the_master_with_its_socket() {
    if !is_here("systemd-socket-activate", "socket activation by systemd's own tool") {
        return;
    }
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let words = ["systemd-socket-activate", "--listen", &free.to_string(), "--fdname", "web", "--setenv", "XDG_RUNTIME_DIR"].map(String::from);
    let master = Start::test_worker(GOOD).without_listener().by(words.iter().map(String::as_str)).start();
    let mut client = loop {
        // It binds some time after it was started.
        if let Ok(stream) = TcpStream::connect(free) {
            drop(stream);
            break Client::connect(free);
        }
        std::thread::yield_now();
    };
    client.ask("/");
    let _ready = master.await_log("Cluster ready");
    let _answered = client.body();
    assert_eq!(master.status().listeners[0].name.as_deref(), Some("web"));
    master.stop();
}

/// The units that are delivered, with programs that are here.
fn units() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for unit in ["dutch-master@.service", "dutch-master@shop.socket"] {
        let text = fs::read_to_string(repository("deploy/systemd").join(unit)).expect("the unit");
        let text = text.replace("/usr/local/bin/dutch-master", &binary("dutch-master").display().to_string()).replace("User=dutch-master", "User=daemon");
        fs::write(folder.path().join(unit), text).expect("a file");
    }
    let (template, instance) = (folder.path().join("dutch-master@.service"), folder.path().join("dutch-master@shop.service"));
    fs::copy(template, instance).expect("a file");
    folder
}

#[track_caller]
fn analyze(words: &[&str], unit: &Path) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(words).arg(unit).output().expect("it runs");
    (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn systemd_takes_the_units_that_are_delivered_and_finds_them_hardened() {
    if !is_here("systemd-analyze", "systemd's own look at the units") {
        return;
    }
    let folder = units();
    for unit in ["dutch-master@shop.service", "dutch-master@shop.socket"] {
        let (_, said) = analyze(&["verify"], &folder.path().join(unit));
        // What systemd before 253 does not know, it passes over, as the unit says.
        let faults: Vec<_> = said.lines().filter(|line| line.contains("dutch-master@") && !line.contains("notify-reload")).collect();
        assert!(faults.is_empty(), "{said}");
    }
    let (is_well, said) = analyze(&["security", "--offline=true", "--threshold=30"], &folder.path().join("dutch-master@shop.service"));
    assert!(is_well, "exposed more than 3.0 of 10: {said}");
}

#[test]
fn the_units_that_are_delivered_break_no_promise() {
    for unit in ["dutch-master@.service", "dutch-master@shop.socket"] {
        let file = repository("deploy/systemd").join(unit);
        let check = Command::new(binary("dutch-master")).args(["check", "--unit"]).arg(file).arg("/bin/true").output().expect("it runs");
        assert_eq!((check.status.code(), String::from_utf8_lossy(&check.stderr).as_ref()), (Some(0), ""), "{unit}");
    }
}

#[test]
fn check_warns_of_a_unit_that_breaks_a_promise_and_of_one_that_is_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = folder.path().join("pool.service");
    fs::write(&unit, "[Service]\nType=notify-reload\nKillMode=process\nRestart=always\nFileDescriptorStoreMax=8\nTimeoutStartSec=1h\nOOMPolicy=continue\n")
        .expect("a file");
    let check = |unit: &Path| {
        let output = Command::new(binary("dutch-master")).args(["check", "--kill-timeout", "2m", "--unit"]).arg(unit).arg("/bin/true").output();
        let output = output.expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = check(&unit);
    assert!(code == Some(0) && said.lines().count() == 1 && said.contains("TimeoutStopSec=2m 5s"), "{said}");
    fs::create_dir(folder.path().join("pool.service.d")).expect("a folder");
    fs::write(folder.path().join("pool.service.d/time.conf"), "[Service]\nTimeoutStopSec=3min\n").expect("a file");
    assert_eq!(check(&unit), (Some(0), String::new()));
    let (code, said) = check(&folder.path().join("other.service"));
    assert!(code == Some(1) && said.contains("other.service"), "{said}");
}
