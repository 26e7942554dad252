//! The master dies one system call before or after another, at every place where it could leave something half done: nothing is lost, nothing half-written, and the next master goes on.
#![cfg(debug_assertions)] // a release build has no such places
#![allow(clippy::print_stdout)] // the numbers are worth seeing

use std::fs;

use dutch_master_tests::harness::exclusive;
use dutch_master_tests::load::{Load, Mode, Plan};
use dutch_master_tests::rolling::Workers;

/// Reached in a rolling restart, the nth time.
const IN_A_RESTART: [&str; 9] = [
    "Spawned 1",
    "Spawned 2",
    "BeforeFrame 1",
    "BeforeFrame 2",
    "BeforeDescriptor 1",
    "BeforeDescriptor 2",
    "StateOpened 1",
    "StateWritten 2",
    "StateReplaced 3",
];

/// Reached by a master that takes over two workers.
const IN_AN_ADOPTION: [&str; 8] =
    ["WorkerAdopted 1", "WorkerAdopted 2", "WorkerBack 1", "WorkerBack 2", "ListenerBack 1", "StateOpened 1", "StateWritten 1", "StateReplaced 1"];

#[test]
fn wherever_the_master_dies_no_request_fails_and_the_next_one_goes_on() {
    let _alone = exclusive();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let armed = folder.path().join("failpoint");
    let mut master = Workers::Axum.start().env("DUTCH_MASTER_FAILPOINT", &armed).option("--settle-time", "0s").ready();
    let state = master.socket().with_extension("state");
    let start = |mode| Load::start(Plan { mode, clients: 15, think_ms: 0..=20, ..Plan::new(master.address()) });
    let loads = [start(Mode::KeepAlive), start(Mode::PerRequest)];
    let mut last_id = 2;
    let restarts = IN_A_RESTART.into_iter().map(|place| (place, true));
    for (place, is_in_a_restart) in restarts.chain(IN_AN_ADOPTION.into_iter().map(|place| (place, false))) {
        loads.iter().for_each(|load| load.await_ok(20));
        if is_in_a_restart {
            fs::write(&armed, place).expect("a file can be written");
            let restart = master.begin(["restart"]);
            master.await_death();
            drop(restart.finish());
        } else {
            master.kill();
            fs::write(&armed, place).expect("a file can be written");
            master.start_again();
            master.await_death();
        }
        let written = fs::read(&state).expect("there is a state");
        let _whole: serde_json::Value = serde_json::from_slice(&written).unwrap_or_else(|error| panic!("{place}: half a state: {error}"));
        fs::remove_file(&armed).expect("a file can be removed");
        loads.iter().for_each(|load| load.await_ok(20));
        master.start_again();
        let _adopted = master.await_log("Cluster adopted");
        master.eventually(&format!("{place}: two workers of one generation, and no others"), |status| {
            let generations: Vec<_> = status.running().map(|worker| worker.generation).collect();
            matches!(generations[..], [one, other] if one == other) && status.workers.len() == 2
        });
        let least_id = master.status().running().map(|worker| worker.id).min().unwrap_or_default();
        assert!(least_id >= last_id - 1, "{place}: no id is used twice:\n{}", master.log());
        last_id = master.status().running().map(|worker| worker.id).max().unwrap_or_default();
    }
    master.restart();
    let reports = loads.map(Load::stop);
    println!("17 deaths: {}\n{}", reports[0], reports[1]);
    assert_eq!(reports[0].failures() + reports[1].failures(), 0, "{}\n{}\n{}", reports[0], reports[1], master.log());
    let folder = state.parent().expect("a folder").to_owned();
    master.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(master.exit_code(), Some(0), "{}", master.log());
    assert_eq!(master.processes(), [0; 0], "processes are left:\n{}", master.log());
    let left: Vec<_> =
        fs::read_dir(folder).expect("the folder").flatten().map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().contains("state")).collect();
    assert!(left.is_empty(), "files are left: {left:?}");
}
