//! What an operator is told of a pool in trouble: a crash loop, a stop that cut requests, a worker that wants to go.

use dutch_master_protocol::control::{FromControl, Phase, PoolStatus, Status, Stop, ToControl};
use dutch_master_protocol::message::{Drained, FromMaster, FromWorker, RequestRestart};
use nix::sys::signal::Signal;

use crate::harness::{Folder, Master, signal_to};
use crate::peer::Peer;

#[track_caller]
fn status(client: &mut Peer) -> PoolStatus {
    client.say(&FromControl::Status(Status {}));
    let Some(ToControl::Pool(pool)) = client.hear() else { panic!("no status") };
    while !matches!(client.hear(), Some(ToControl::Done(_))) {}
    pool
}

#[test]
fn status_tells_of_a_crash_loop_why_and_when_the_next_worker_is_tried() {
    for (script, code, signal, reason) in
        [("exit 7", Some(7), None, "the worker exited with code 7"), ("kill -SEGV $$", None, Some("SIGSEGV"), "the worker was ended by signal 11")]
    {
        let folder = Folder::new();
        let mut master = Master::start(&folder, &["-n", "1", "--keep-trying", "--", "sh", "-c", script]);
        master.next("Waiting before the next start");
        let mut client = Peer::client(&master);
        let (pool, failing) = loop {
            let pool = status(&mut client);
            match pool.failing.clone().expect("it fails") {
                // One is being tried at this moment.
                failing if failing.retry_in_ms.is_none() => {}
                failing => break (pool, failing),
            }
        };
        assert!(failing.failures >= 2, "{failing:?}");
        assert_eq!((failing.code, failing.signal.as_deref(), failing.reason.as_str()), (code, signal, reason));
        assert_eq!(failing.worker, Some(failing.failures), "each worker fails once");
        assert_eq!((pool.phase, pool.failed_starts, pool.crashes), (Phase::Starting, Some(failing.failures.into()), Some(0)));
    }
}

#[test]
fn status_tells_crashes_from_restarts() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--settle-time", "0s"]);
    let first = master.next_worker();
    let _first = Peer::of_serving_worker(&master, first);
    master.next("Cluster ready");
    let mut client = Peer::client(&master);
    let pool = status(&mut client);
    assert_eq!((pool.failing, pool.restarts, pool.crashes, pool.failed_starts), (None, 0, Some(0), Some(0)));
    signal_to(first, Signal::SIGSEGV);
    master.next("Worker exited");
    let pool = status(&mut client);
    assert_eq!((pool.restarts, pool.crashes, pool.failed_starts), (0, Some(1), Some(0)));
}

/// A master whose worker was told to go by a client that waits for the stop.
fn stopping(folder: &Folder) -> (Master, u32, Peer, Peer) {
    let mut master = Master::start(folder, &["-n", "1"]);
    let pid = master.next_worker();
    let mut worker = Peer::of_serving_worker(&master, pid);
    master.next("Cluster ready");
    let mut client = Peer::client(&master);
    client.say(&FromControl::Stop(Stop { now: false }));
    assert!(matches!(worker.hear(), Some(FromMaster::Disconnect(_))));
    (master, pid, worker, client)
}

fn outcome(client: &mut Peer) -> Option<String> {
    loop {
        match client.hear() {
            Some(ToControl::Done(done)) => return done.message,
            Some(_) => {}
            None => panic!("no outcome"),
        }
    }
}

/// Catches: a stop told as one where every worker ended by itself although requests were cut; one that takes a worker's number twice.
#[test]
fn a_stop_that_cut_connections_says_so_and_is_no_failure() {
    for (cut, told, last) in [
        (None, None, "Cluster shutdown cleanly"),
        (Some(3), Some("3 connections were cut when the time was over"), "Cluster shutdown, not everything finished in time"),
    ] {
        let folder = Folder::new();
        let (mut master, pid, mut worker, mut client) = stopping(&folder);
        (0..2).for_each(|_| worker.say(&FromWorker::Disconnect(Drained { cut })));
        if cut.is_some() {
            let line = master.next("Worker cut connections that did not end in time");
            assert_eq!((line["connections"].as_u64(), line["workerId"].as_u64()), (Some(3), Some(1)));
        }
        master.next("Worker disconnected");
        signal_to(pid, Signal::SIGTERM);
        assert_eq!(outcome(&mut client).as_deref(), told);
        let line = master.next(last);
        assert_eq!(line["reason"].as_str(), told);
        assert_eq!(master.wait().code(), Some(0));
        assert_eq!(master.count("Worker cut connections that did not end in time"), usize::from(cut.is_some()));
    }
}

#[test]
fn why_a_worker_wants_to_be_replaced_is_on_its_line_and_has_a_limit() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "2"]);
    let mut workers = [Peer::of_next_serving_worker(&mut master), Peer::of_next_serving_worker(&mut master)];
    master.next("Cluster ready");
    let mut ask = |worker: usize, reason: Option<String>| {
        workers[worker].say(&FromWorker::RequestRestart(RequestRestart { reason }));
        master.next("Worker dying")["reason"].as_str().map(str::to_owned)
    };
    assert_eq!(ask(0, None), None);
    let told = ask(1, Some(format!("leaks\n{}", "x".repeat(5_000)))).expect("a reason");
    assert!(told.starts_with("leaks\nxx") && told.ends_with("x…") && told.len() < 1_100, "{told}");
}
