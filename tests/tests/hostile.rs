//! Hostile peers against a master whose workers are under load: the offender is cut and the log says why, healthy workers lose nothing, and the master has what it had before.
#![allow(clippy::print_stdout)] // the numbers are worth seeing

use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use dutch_master_protocol::codec::encode;
use dutch_master_protocol::env;
use dutch_master_protocol::message::{FromWorker, Hello, VERSION};
use dutch_master_protocol::socket::send_fd;
use dutch_master_tests::harness::{Master, PATIENCE, Start, Usage, binary, exclusive};
use dutch_master_tests::load::{Failure, Load, Mode, Plan, Report};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tempfile::TempDir;

/// What the allocator may keep of what thirty half frames took for a moment, which is three times as much: had they leaked, it would show.
const RESIDENT_NOISE_KIB: usize = 600;

/// What waits for one peer that does not read: of that, the allocator may keep something for the next time.
const OUTBOX_KIB: usize = 1_024;

/// Clients of each kind. Each has one request under way at a time.
const CLIENTS: usize = 10;

/// Strangers of a kind at the same time.
const PEERS: usize = 2;

/// Load of both kinds.
struct Loads([Load; 2]);

impl Loads {
    fn start(master: &Master) -> Loads {
        let plan = |mode| Plan { mode, clients: CLIENTS, think_ms: 0..=20, ..Plan::new(master.address()) };
        Loads([Mode::KeepAlive, Mode::PerRequest].map(|mode| Load::start(plan(mode))))
    }

    fn await_ok(&self, more: u64) {
        self.0.iter().for_each(|load| load.await_ok(more));
    }

    fn stop(self) -> [Report; 2] {
        self.0.map(Load::stop)
    }

    #[track_caller]
    fn assert_none_failed(self, master: &Master) {
        for report in self.stop() {
            println!("{report}");
            assert_eq!((report.failures(), report.torn_idle), (0, 0), "{report}\n{}", master.log());
        }
    }
}

/// Two workers that are healthy, and a third one that does `offence` when it is told to, once: its successors are healthy. It accepts nothing, so that no request is lost with it.
struct OneBad {
    master: Master,
    before: Usage,
    files: TempDir,
}

impl OneBad {
    fn start(offence: &str) -> OneBad {
        let files = TempDir::new().expect("a temporary folder can be made");
        let (at, bad, good) = (files.path().display(), binary("test-worker"), binary("http-worker"));
        let script = format!(
            "if [ $DUTCH_MASTER_SLOT = 2 ] && mkdir {at}/once 2>/dev/null; then exec {} hello listen listening await:{at}/now {offence} touch:{at}/done hang; else exec {}; fi",
            bad.display(),
            good.display()
        );
        let master = Start::new("/bin/sh").arg("-c").arg(script).option("-n", "3").option("--settle-time", "0s").option("--kill-timeout", "6s").ready();
        OneBad { before: master.usage_at_rest(), master, files }
    }

    /// Lets it happen.
    fn offend(&self) {
        File::create(self.files.path().join("now")).expect("a file can be made");
    }

    /// Waits until it has happened; only what the worker survives.
    fn await_done(&self) {
        while !self.files.path().join("done").exists() {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[track_caller]
fn assert_as_before(what: &str, before: Usage, master: &Master) {
    let after = master.usage_at_rest();
    println!("{what}: before {before:?}, after {after:?}");
    assert_eq!((after.descriptors, after.threads), (before.descriptors, before.threads), "{what}\n{}", master.log());
    let outbox = if what.starts_with("deaf") { OUTBOX_KIB } else { 0 };
    assert!(after.resident_kib <= before.resident_kib + RESIDENT_NOISE_KIB + outbox, "{what}: {before:?}, {after:?}");
}

/// Waits until the master closes the connection.
fn await_end(mut peer: UnixStream) {
    peer.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let _last_words = peer.read_to_end(&mut Vec::new()).map_err(|error| assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset));
}

fn hello(token: Option<String>) -> Vec<u8> {
    encode(&FromWorker::Hello(Hello { protocol: VERSION, token, ..Hello::default() })).expect("it fits")
}

/// Several descriptors in one message.
fn send_several(peer: &UnixStream, bytes: &[u8]) {
    let null = File::open("/dev/null").expect("there is one");
    let fds = [null.as_raw_fd(); 20];
    let sent = sendmsg::<()>(peer.as_raw_fd(), &[IoSlice::new(bytes)], &[ControlMessage::ScmRights(&fds)], MsgFlags::empty(), None);
    sent.expect("descriptors can be sent");
}

#[test]
fn strangers_of_every_kind_are_cut_and_harm_nobody() {
    let _alone = exclusive();
    let master = Start::new(binary("http-worker")).option("--settle-time", "0s").ready();
    let environment = fs::read(format!("/proc/{}/environ", master.status().pids()[0])).expect("a worker runs");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let token = environment.split('\0').find_map(|variable| variable.strip_prefix(env::TOKEN)?.strip_prefix('=')).map(str::to_owned);
    assert!(token.is_some());
    let before = master.usage_at_rest();
    let loads = Loads::start(&master);
    loads.await_ok(100);
    type Offence<'a> = (&'a str, &'a dyn Fn(&mut UnixStream));
    let say = |peer: &mut UnixStream, bytes: &[u8]| peer.write_all(bytes).expect("the master reads");
    let offences: [Offence<'_>; 9] = [
        ("the limit is", &|peer| say(peer, b"GET / HTTP/1.1\r\n\r\n")),
        ("length 0", &|peer| say(peer, &[0, 0, 0, 0])),
        ("no map at byte", &|peer| say(peer, &[0, 0, 0, 1, 0xc1])),
        ("is that of no living worker", &|peer| say(peer, &hello(Some("0".repeat(32))))),
        ("connected already", &|peer| say(peer, &hello(token.clone()))),
        ("descriptors came", &|peer| send_fd(peer.as_fd(), File::open("/dev/null").expect("there is one").as_fd()).expect("it can be sent")),
        ("descriptors came", &|peer| send_several(peer, &hello(None))),
        // Half a frame, and one that never ends: until the time for `hello` is over.
        ("no `hello` within", &|peer| say(peer, &[0, 0, 0, 9, 0x81])),
        ("no `hello` within", &|peer| say(peer, &[&[0, 1, 0, 0][..], &[0xc0; 60_000]].concat())),
    ];
    for (reason, offend) in offences {
        let mut peers: Vec<_> = (0..PEERS).map(|_| UnixStream::connect(master.socket()).expect("the master listens")).collect();
        peers.iter_mut().for_each(offend);
        peers.into_iter().for_each(await_end);
        for _ in 0..PEERS {
            let refused = master.await_log("Connection refused");
            assert!(refused.to_string().contains(reason), "{reason}: {refused}");
        }
        loads.await_ok(50);
    }
    let thousand: Vec<_> = (0..1_000).map(|_| UnixStream::connect(master.socket()).expect("the master listens")).collect();
    loads.await_ok(200);
    assert_eq!(master.status().pids().len(), 2, "commands get through");
    thousand.into_iter().for_each(await_end);
    loads.await_ok(100);
    loads.assert_none_failed(&master);
    assert_eq!(master.log().count("Worker exited"), 0, "{}", master.log());
    assert_as_before("strangers", before, &master);
    master.stop();
}

/// The worker loses its connection and is replaced, and nobody else notices.
#[track_caller]
fn assert_cut_and_replaced(offence: &str, reason: &str) {
    let _alone = exclusive();
    let bad = OneBad::start(offence);
    let master = &bad.master;
    let loads = Loads::start(master);
    loads.await_ok(100);
    bad.offend();
    let refused = master.await_log("Connection refused");
    assert!(refused.to_string().contains(reason) && refused.number("workerId") > 0, "{refused}");
    let _lost = master.await_log("Worker disconnection was unexpected");
    let _replacement = master.await_log("Worker listening");
    let _gone = master.await_log("Worker exited");
    loads.await_ok(100);
    loads.assert_none_failed(master);
    assert_eq!(master.log().count("Creating new worker"), 4, "one is replaced, once:\n{}", master.log());
    assert_as_before(offence, bad.before, master);
    bad.master.stop();
}

#[test]
fn a_worker_that_floods_is_cut_and_replaced() {
    assert_cut_and_replaced("flood:100000", "too many messages");
}

#[test]
fn a_worker_that_never_reads_is_cut_and_replaced() {
    assert_cut_and_replaced("deaf:9000", "the peer does not read");
}

#[test]
fn a_worker_that_sends_garbage_is_cut_and_replaced() {
    assert_cut_and_replaced("garbage", "no map at byte");
    assert_cut_and_replaced("oversized", "the limit is");
    assert_cut_and_replaced("hello-again", "comes once");
}

#[test]
fn a_worker_that_sends_a_descriptor_is_cut_and_replaced() {
    assert_cut_and_replaced("descriptor", "descriptors came");
}

#[test]
fn a_worker_that_stops_within_a_message_disturbs_nobody() {
    let _alone = exclusive();
    let bad = OneBad::start("half");
    let loads = Loads::start(&bad.master);
    bad.offend();
    bad.await_done();
    loads.await_ok(100);
    bad.master.restart();
    loads.await_ok(100);
    loads.assert_none_failed(&bad.master);
    bad.master.stop_past_its_time();
}

#[test]
fn a_worker_that_shuts_the_listener_down_fails_only_what_comes_before_it_listens_again() {
    let _alone = exclusive();
    let bad = OneBad::start("shutdown");
    let master = &bad.master;
    let loads = Loads::start(master);
    loads.await_ok(100);
    bad.offend();
    let revived = master.await_log("Listener was shut down, listening again");
    println!("{revived}");
    let late = Loads::start(master);
    for _ in 0..3 {
        let _replaced = master.await_log("Worker exited");
    }
    for loads in [&loads, &late] {
        loads.await_ok(200);
    }
    for report in loads.stop() {
        println!("{report}");
        // A client has one connection on its way at a time, and the next one finds the listener again.
        assert!(report.failures() <= CLIENTS as u64, "{report}\n{}", master.log());
        assert_eq!(report.failures(), report.count(Failure::Refused) + report.count(Failure::Reset), "{report}\n{}", master.log());
    }
    late.assert_none_failed(master);
    assert_eq!(master.log().count("Creating new worker"), 6, "each is replaced once:\n{}", master.log());
    assert_as_before("shutdown", bad.before, master);
    bad.master.stop();
}

#[test]
fn a_worker_that_makes_the_listener_blocking_fails_no_request() {
    let _alone = exclusive();
    let bad = OneBad::start("blocking");
    let loads = Loads::start(&bad.master);
    loads.await_ok(100);
    bad.offend();
    bad.await_done();
    // Nothing tells the master; it looks whenever it hears of a worker or a client.
    let _any_command = bad.master.status();
    let _told = bad.master.await_log("Listener was made blocking, put right");
    loads.await_ok(200);
    loads.assert_none_failed(&bad.master);
    assert_as_before("blocking", bad.before, &bad.master);
    bad.master.stop_past_its_time();
}
