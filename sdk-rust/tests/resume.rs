//! A worker outlives its master: it serves on, comes back to the next one, and goes on where it was.
#![allow(clippy::unwrap_used)] // also in what is not itself a test

mod fake_master;
mod rig;

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use dutch_master_protocol::message::{
    AppMessage, DisconnectReason, Drained, FromMaster, FromWorker, Listening, RequestRestart, ResumeState, ReturnListener, Welcome,
};
use dutch_master_worker::{Event, Reason, Worker};
use fake_master::{FakeMaster, PATIENCE, tcp, welcome};
use rig::Rig;

const LONG: Duration = Duration::from_secs(60);

/// How long a master is away: several attempts to reach it fail.
const ABSENCE: Duration = Duration::from_millis(300);

fn events(worker: &Worker) -> mpsc::Receiver<Event> {
    let (tell, told) = mpsc::channel();
    worker.on_event(move |event| drop(tell.send(event)));
    told
}

#[test]
fn an_idle_worker_comes_back_to_the_next_master() {
    let mut master = FakeMaster::new();
    let (worker, peer) = master.connect(welcome());
    let told = events(&worker);
    worker.listening(None);
    master.die(peer);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Event::Disconnected { ordered: false }));
    assert_eq!(events(&worker).recv_timeout(PATIENCE), Ok(Event::Disconnected { ordered: false }), "who comes late is told, too");
    worker.message("1").unwrap();
    std::thread::sleep(ABSENCE);
    master.succeed();
    let (mut peer, resume) = master.take_back(Welcome { size: 5, heartbeat_ms: Some(50), ..welcome() });
    assert_eq!((resume.generation, resume.state), (3, ResumeState::Running));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Event::Reconnected));
    assert_eq!((worker.id(), worker.pool_size(), worker.heartbeat_interval()), (7, 5, Some(Duration::from_millis(50))));
    assert_eq!(peer.expect(), FromWorker::Message(AppMessage { json: "1".into() }));
    peer.disconnect(DisconnectReason::Restart, LONG);
    assert_eq!(worker.wait_for_order().reason, Reason::Restart);
}

#[test]
fn a_worker_that_has_answered_more_than_the_next_master_allows_asks_once_to_be_recycled() {
    let mut master = FakeMaster::new();
    let allows = |limit| Welcome { max_requests: Some(limit), ..welcome() };
    let (worker, peer) = master.connect(allows(9));
    let told = events(&worker);
    worker.listening(None);
    (0..5).for_each(|_| worker.answered());
    master.die(peer);
    master.succeed();
    // Each slot has a share of the limit, which depends on the size of the pool, and that may have changed.
    let (mut peer, _) = master.take_back(allows(3));
    while told.recv_timeout(PATIENCE).unwrap() != Event::Reconnected {}
    (0..2).for_each(|_| worker.answered());
    worker.message("1").unwrap();
    assert!(matches!(peer.expect(), FromWorker::RequestRestart(RequestRestart { reason: Some(_) })));
    assert_eq!(peer.expect(), FromWorker::Message(AppMessage { json: "1".into() }));
}

#[test]
fn a_request_for_a_listener_is_answered_by_the_next_master() {
    let mut master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let bound = tcp();
    let address = bound.local_addr().unwrap();
    let asking = std::thread::spawn(move || worker.listen_blocking(address).unwrap());
    let asked = peer.expect_listen();
    master.die(peer);
    master.succeed();
    let (mut peer, resume) = master.take_back(welcome());
    assert_eq!((resume.state, &resume.keys[..]), (ResumeState::Starting, &[][..]));
    assert_eq!(peer.expect_listen(), asked);
    peer.hand_over(asked.seq, &bound);
    let _client = TcpStream::connect(address).unwrap();
    asking.join().unwrap().into_std_tcp().unwrap().accept().unwrap();
}

#[test]
fn a_draining_worker_finishes_and_says_so_to_the_next_master() {
    let mut rig = Rig::start(Duration::ZERO);
    let mut client = rig.client();
    client.send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n");
    rig.entered.recv_timeout(PATIENCE).unwrap();
    rig.order(DisconnectReason::Restart, LONG);
    let deadline = rig.worker.order().unwrap().deadline;
    rig = rig.next_master(|resume| {
        assert_eq!((resume.state, &resume.keys[..]), (ResumeState::Draining, &[][..]));
        assert!(Duration::from_millis(resume.remaining_ms.unwrap()) > LONG / 2);
    });
    assert_eq!(rig.worker.order().unwrap().deadline, deadline);
    rig.gate.add_permits(1);
    assert!(client.response().contains("connection: close"));
    drop(client);
    rig.expect_drained();
}

#[test]
fn the_last_word_of_a_worker_reaches_the_next_master() {
    let mut master = FakeMaster::new();
    let (worker, peer) = master.connect(welcome());
    peer.disconnect(DisconnectReason::Restart, LONG);
    worker.wait_for_order();
    master.die(peer);
    worker.drained();
    master.succeed();
    let (mut peer, resume) = master.take_back(welcome());
    assert_eq!(resume.state, ResumeState::Draining);
    assert_eq!(peer.expect(), FromWorker::Disconnect(Drained::default()));
}

#[test]
fn a_worker_that_is_not_taken_back_has_to_go() {
    let mut master = FakeMaster::new();
    let (worker, peer) = master.connect(welcome());
    let told = events(&worker);
    master.die(peer);
    master.succeed();
    let (peer, _) = master.accept();
    peer.refuse(None, "resume-refused");
    assert_eq!(worker.wait_for_order().reason, Reason::Orphaned);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Event::Disconnected { ordered: false }));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Event::Error { code: "resume-refused".into(), message: "no".into() }));
    worker.drained();
}

#[test]
fn a_worker_to_which_no_master_comes_has_to_go() {
    let mut master = FakeMaster::new();
    let (worker, peer) = master.connect(Welcome { orphan_timeout_ms: Some(50), ..welcome() });
    master.die(peer);
    assert_eq!(worker.wait_for_order().reason, Reason::Orphaned);
}

#[test]
fn a_master_may_die_while_a_worker_comes_back() {
    let mut master = FakeMaster::new();
    let (worker, peer) = master.connect(welcome());
    let told = events(&worker);
    master.die(peer);
    for _ in 0..2 {
        master.succeed();
        let (peer, hello) = master.accept();
        assert!(hello.resume.is_some());
        master.die(peer);
    }
    master.succeed();
    master.take_back(welcome());
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Event::Disconnected { ordered: false }));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Event::Reconnected));
    assert_eq!(worker.order(), None);
}

#[test]
fn requests_survive_twenty_masters() {
    let mut rig = Rig::start(LONG);
    let (mut long, mut kept_alive) = (rig.client(), rig.client());
    long.send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n");
    rig.entered.recv_timeout(PATIENCE).unwrap();
    for _ in 0..20 {
        rig = rig.next_master(|resume| assert_eq!((resume.state, &resume.keys[..]), (ResumeState::Running, &["key 1".to_owned()][..])));
        assert!(kept_alive.get("/").contains("200 ok"));
        assert!(rig.client().get("/").contains("200 ok"));
    }
    rig.gate.add_permits(1);
    assert!(long.response().contains("through"));
    rig.order(DisconnectReason::Restart, LONG);
    drop((long, kept_alive));
    rig.expect_drained();
}

#[test]
fn the_next_master_gets_a_listener_back_and_the_worker_keeps_its_own() {
    let mut rig = Rig::start(LONG);
    rig = rig.next_master(|resume| assert_eq!(resume.keys, ["key 1"]));
    let ask = |key: &str| FromMaster::ReturnListener(ReturnListener { seq: 9, key: key.into() });
    rig.peer.say(&ask("key 1"));
    let (answer, fd) = rig.peer.expect_listener();
    assert_eq!((answer.seq, answer.key.as_str()), (9, "key 1"));
    assert_eq!(TcpListener::from(fd).local_addr().unwrap(), rig.address);
    assert!(rig.client().get("/").contains("200 ok"));
    rig.peer.say(&ask("key 2"));
    assert!(matches!(rig.peer.expect(), FromWorker::Error(error) if error.seq == Some(9) && error.code == "EBADF"));
    rig.order(DisconnectReason::Restart, LONG);
    rig.peer.say(&ask("key 1"));
    // The server is drained as well by now, or soon.
    let answers = [rig.peer.expect(), rig.peer.expect()];
    assert!(answers.iter().any(|answer| matches!(answer, FromWorker::Error(error) if error.code == "EBADF")), "{answers:?}");
}

#[test]
fn when_the_pool_stops_the_session_keeps_no_listener_open() {
    let mut master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let bound = tcp();
    let address = bound.local_addr().unwrap();
    let asking = std::thread::spawn({
        let worker = worker.clone();
        move || worker.listen_blocking(address).unwrap()
    });
    let seq = peer.expect_listen().seq;
    peer.hand_over(seq, &bound);
    let listener = asking.join().unwrap();
    drop(bound);
    peer.disconnect(DisconnectReason::Stop, LONG);
    worker.wait_for_order();
    drop(listener);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    master.die(peer);
}

#[test]
fn a_worker_that_begins_to_serve_without_a_master_is_known_to_the_next_one_as_running() {
    let mut master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let told = events(&worker);
    worker.message("{}").unwrap();
    peer.expect();
    master.die(peer);
    told.recv_timeout(PATIENCE).unwrap();
    worker.listening(None);
    master.succeed();
    let (peer, hello) = master.accept();
    assert_eq!(hello.resume.unwrap().state, ResumeState::Running);
    worker.listening(None);
    worker.request_restart(None);
    let mut peer = peer;
    peer.say(&FromMaster::Welcome(welcome()));
    assert!(matches!(peer.expect(), FromWorker::RequestRestart(_)), "and nothing is said between hello and welcome");
    worker.listening(None);
    assert_eq!(peer.expect(), FromWorker::Listening(Listening { address: None }));
}
