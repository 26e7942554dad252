//! What a worker says over its connection, and what it gets.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use dutch_master_protocol::codec;
use dutch_master_protocol::control::{FromControl, ListenerStatus, Status, ToControl};
use dutch_master_protocol::env;
use dutch_master_protocol::message::{
    Address, AppMessage, Close, DisconnectReason, Drained, FromMaster, FromWorker, Hello, Leaving, Listen, Listening, RequestRestart, VERSION, codes,
};
use nix::sys::signal::Signal;

use crate::harness::{Folder, Master, eventually, is_alive, pid_in, signal_to, variable};
use crate::peer::Peer;

fn listen(seq: u64, address: Address) -> FromWorker {
    FromWorker::Listen(Listen { seq, address: Some(address), ..Listen::default() })
}

#[test]
fn a_worker_gets_a_listener_that_outlives_it() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "-l", "web=127.0.0.1:0"]);
    let first = master.next_worker();
    let (mut worker, welcome) = Peer::of_worker(&master, first);
    assert_eq!((welcome.worker, welcome.generation, welcome.slot, welcome.size, welcome.names), (1, 1, 0, 1, vec!["web".to_owned()]));
    worker.say(&FromWorker::Listen(Listen { seq: 5, name: Some("web".into()), ..Listen::default() }));
    let Some(FromMaster::Listener(listener)) = worker.hear() else { panic!("no listener") };
    assert_eq!((listener.seq, listener.key.as_str(), listener.fds), (5, "web", 1));
    let ours = TcpListener::from(worker.take_fd());
    let port = ours.local_addr().unwrap().port();
    drop(ours);
    drop(worker);
    let waiting = TcpStream::connect(("127.0.0.1", port)).expect("it queues while no worker accepts");
    signal_to(first, Signal::SIGKILL);
    let (mut successor, _) = Peer::of_next_worker(&mut master);
    successor.say(&FromWorker::Listen(Listen { seq: 1, name: Some("web".into()), ..Listen::default() }));
    assert!(matches!(successor.hear(), Some(FromMaster::Listener(_))));
    let theirs = TcpListener::from(successor.take_fd());
    theirs.set_nonblocking(false).unwrap();
    assert_eq!(theirs.accept().unwrap().1, waiting.local_addr().unwrap());
}

#[test]
fn a_configured_listener_without_a_name_is_asked_for_by_its_key() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "-l", "127.0.0.1:0", "-l", "admin=127.0.0.1:0", "-l", "unix:a.sock"]);
    let (mut worker, welcome) = Peer::of_next_worker(&mut master);
    let unix = format!("unix:{}", folder.path().join("a.sock").display());
    assert_eq!(welcome.names, ["tcp:127.0.0.1:0#0", "admin", &unix], "in the order of the configuration");
    for (seq, name) in (1..).zip(&welcome.names) {
        worker.say(&FromWorker::Listen(Listen { seq, name: Some(name.clone()), ..Listen::default() }));
        let Some(FromMaster::Listener(listener)) = worker.hear() else { panic!("no listener") };
        assert_eq!((&listener.key, listener.name.is_some()), (name, name == "admin"));
        drop(worker.take_fd());
    }
}

#[test]
fn a_worker_that_calls_listen_again_leaves_the_queue_as_long_as_it_was() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "-l", "web=127.0.0.1:0"]);
    let (mut worker, _) = Peer::of_next_worker(&mut master);
    worker.say(&FromWorker::Listen(Listen { seq: 1, name: Some("web".into()), ..Listen::default() }));
    assert!(matches!(worker.hear(), Some(FromMaster::Listener(_))));
    nix::sys::socket::listen(&worker.take_fd(), nix::sys::socket::Backlog::new(3).unwrap()).unwrap();
    assert_eq!(listeners(&master)[0].backlog, Some(3));
    worker.say(&FromWorker::Listening(Listening::default()));
    master.next("Cluster ready");
    assert_eq!(listeners(&master)[0].backlog, Some(511));
}

#[test]
fn a_listen_that_fails_is_answered_and_the_worker_goes_on() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let (mut worker, _) = Peer::of_next_worker(&mut master);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    worker.say(&listen(1, Address::tcp(Some([127, 0, 0, 1].into()), taken.local_addr().unwrap().port())));
    assert!(matches!(worker.hear(), Some(FromMaster::Error(error)) if error.code == "EADDRINUSE" && error.seq == Some(1)));
    worker.say(&listen(2, Address::unix("/nowhere/socket")));
    assert!(matches!(worker.hear(), Some(FromMaster::Error(error)) if error.code == "ENOENT" && error.seq == Some(2)));
    worker.say(&listen(3, Address::tcp(Some([127, 0, 0, 1].into()), 0)));
    assert!(matches!(worker.hear(), Some(FromMaster::Listener(listener)) if listener.seq == 3));
}

#[test]
fn a_second_connection_of_a_worker_is_refused_and_the_first_one_stays() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let pid = master.next_worker();
    let _first = Peer::of_serving_worker(&master, pid);
    master.next("Cluster ready");
    let mut second = Peer::connect(&master.socket);
    second.say(&FromWorker::Hello(Hello { protocol: VERSION, token: variable(pid, env::TOKEN), ..Hello::default() }));
    assert_eq!(second.last_words(), codes::LIMIT);
    assert_eq!(master.count("Connection ended"), 0);
}

#[test]
fn a_worker_that_never_reads_loses_its_connection() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let (mut worker, _) = Peer::of_next_worker(&mut master);
    // Each asks for an answer; those that wait are too many before the questions are.
    let bytes: Vec<u8> = (0..9_000).flat_map(|seq| codec::encode(&listen(seq, Address::unix("a-rather-long-path/".repeat(10)))).unwrap()).collect();
    let _cut = worker.stream.write_all(&bytes);
    let refused = master.next("Connection refused");
    assert_eq!(refused["workerId"], 1);
    assert!(refused["reason"].as_str().unwrap().starts_with("the peer does not read"), "{refused}");
}

fn chatter(messages: usize) -> Vec<u8> {
    codec::encode(&FromWorker::Message(AppMessage { json: "0".into() })).unwrap().repeat(messages)
}

#[test]
fn a_worker_may_send_thousands_of_messages_at_once() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let mut worker = Peer::of_next_serving_worker(&mut master);
    worker.stream.write_all(&chatter(9_000)).unwrap();
    worker.say(&FromWorker::RequestRestart(RequestRestart::default()));
    master.next("Worker dying");
    assert_eq!(master.count("Connection refused"), 0);
    let lines = master.count("Message from worker");
    assert!((200..1_000).contains(&lines), "chatter does not fill the log: {lines} lines");
}

#[test]
fn a_worker_that_floods_the_master_is_cut_for_good_and_replaced_and_delays_nobody() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "2", "--settle-time", "0s"]);
    let (loud, quiet) = (master.next_worker(), master.next_worker());
    let mut flooding = Peer::of_serving_worker(&master, loud);
    let _quiet = Peer::of_serving_worker(&master, quiet);
    master.next("Cluster ready");
    let flood = thread::spawn(move || {
        let _cut = flooding.stream.write_all(&chatter(100_000));
        flooding
    });
    let mut client = Peer::client(&master);
    client.say(&FromControl::Status(Status {}));
    assert!(matches!(client.hear(), Some(ToControl::Pool(_))));
    let refused = master.next("Connection refused");
    assert_eq!(refused["workerId"], 1);
    assert!(refused["reason"].as_str().unwrap().starts_with("too many messages"), "{refused}");
    assert_eq!(flood.join().unwrap().last_words(), codes::LIMIT);
    let mut again = Peer::connect(&master.socket);
    again.say(&FromWorker::Hello(Hello { protocol: VERSION, token: variable(loud, env::TOKEN), ..Hello::default() }));
    assert_eq!(again.last_words(), codes::RESUME_REFUSED);
    master.next("Worker disconnection was unexpected");
    let _successor = Peer::of_next_serving_worker(&mut master);
    assert_eq!(pid_in(&master.next("Worker exited")), loud);
}

#[test]
fn a_worker_that_is_to_go_gets_no_listener_and_keeps_its_connection() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let mut worker = Peer::of_next_serving_worker(&mut master);
    master.next("Cluster ready");
    let mut words = codec::encode(&FromWorker::Leaving(Leaving::default())).unwrap();
    words.extend(codec::encode(&listen(1, Address::tcp(Some([127, 0, 0, 1].into()), 0))).unwrap());
    worker.stream.write_all(&words).unwrap();
    assert!(matches!(worker.hear(), Some(FromMaster::Error(error)) if error.code == codes::UNEXPECTED && error.seq == Some(1)));
    worker.say(&listen(2, Address::tcp(Some([127, 0, 0, 1].into()), 0)));
    assert!(matches!(worker.hear(), Some(FromMaster::Error(error)) if error.code == codes::UNEXPECTED && error.seq == Some(2)));
    assert!(listeners(&master).is_empty());
    worker.say(&FromWorker::Disconnect(Drained::default()));
    master.next("Worker disconnected");
}

#[test]
fn what_a_worker_said_before_it_died_counts() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let pid = master.next_worker();
    // The master is stopped, so that hello, listening and death are all there when it looks.
    master.signal(Signal::SIGSTOP);
    let mut worker = Peer::connect(&master.socket);
    worker.say(&FromWorker::Hello(Hello { protocol: VERSION, token: variable(pid, env::TOKEN), ..Hello::default() }));
    worker.say(&FromWorker::Listening(Listening::default()));
    signal_to(pid, Signal::SIGKILL);
    eventually("it is dead", || !is_alive(pid));
    master.signal(Signal::SIGCONT);
    assert_eq!(pid_in(&master.next("Worker listening")), pid);
    assert_eq!(master.next("Worker exited")["signal"], "SIGKILL");
}

#[test]
fn what_a_worker_said_before_it_hung_up_counts_even_if_it_never_read() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let mut worker = Peer::of_next_serving_worker(&mut master);
    master.next("Cluster ready");
    master.signal(Signal::SIGSTOP);
    // More than is read in one turn, so that the first answers find nobody before the last words are read.
    let mut words: Vec<u8> = (0..1_000).flat_map(|seq| codec::encode(&listen(seq, Address::unix("relative"))).unwrap()).collect();
    words.extend(codec::encode(&FromWorker::RequestRestart(RequestRestart::default())).unwrap());
    worker.stream.write_all(&words).unwrap();
    drop(worker);
    master.signal(Signal::SIGCONT);
    master.next("Worker dying");
}

#[test]
fn what_a_worker_said_in_time_does_not_lose_to_a_timer() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--start-timeout", "1s"]);
    let pid = master.next_worker();
    // As after a suspend: when the master wakes up, the words have been there for long, and the deadline has passed as well.
    master.signal(Signal::SIGSTOP);
    let mut worker = Peer::connect(&master.socket);
    worker.say(&FromWorker::Hello(Hello { protocol: VERSION, token: variable(pid, env::TOKEN), ..Hello::default() }));
    worker.say(&FromWorker::Listening(Listening::default()));
    thread::sleep(Duration::from_millis(1_500));
    master.signal(Signal::SIGCONT);
    master.next("Cluster ready");
    assert_eq!(master.count("Worker could not be started"), 0);
}

#[test]
fn hello_is_enough_where_the_configuration_says_so() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--ready-on", "hello"]);
    let _worker = Peer::of_next_worker(&mut master);
    master.next("Cluster ready");
}

#[test]
fn a_worker_may_ask_for_many_listeners_at_once() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let mut worker = Peer::of_next_serving_worker(&mut master);
    for index in 0..200 {
        let address = Some(Address::tcp(Some([127, 0, 0, 1].into()), 0));
        worker.say(&FromWorker::Listen(Listen { seq: index.into(), address, index: Some(index), ..Listen::default() }));
    }
    for seq in 0..200 {
        assert!(matches!(worker.hear(), Some(FromMaster::Listener(listener)) if listener.seq == seq));
        drop(worker.take_fd());
    }
}

#[test]
fn a_worker_that_asks_is_replaced_and_told_to_go() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--kill-timeout", "30s"]);
    let first = master.next_worker();
    let mut worker = Peer::of_serving_worker(&master, first);
    for _ in 0..3 {
        worker.say(&FromWorker::RequestRestart(RequestRestart::default()));
    }
    let _successor = Peer::of_next_serving_worker(&mut master);
    let Some(FromMaster::Disconnect(order)) = worker.hear() else { panic!("no order to go") };
    assert_eq!((order.reason, order.timeout_ms), (DisconnectReason::Request, 27_000));
    worker.say(&FromWorker::Disconnect(Drained::default()));
    assert_eq!(pid_in(&master.next("Worker disconnected")), first);
    assert_eq!(master.count("Creating new worker"), 2);
}

#[test]
fn a_listener_that_only_workers_wanted_is_closed_after_two_restarts_without_a_request() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--settle-time", "0s"]);
    let mut worker = Peer::of_next_serving_worker(&mut master);
    worker.say(&listen(1, Address::tcp(Some([127, 0, 0, 1].into()), 0)));
    let Some(FromMaster::Listener(listener)) = worker.hear() else { panic!("no listener") };
    drop(worker.take_fd());
    worker.say(&FromWorker::Close(Close { key: listener.key.clone() }));
    for restarts in 1..=2 {
        assert_eq!(listeners(&master).len(), 1, "before restart {restarts}");
        master.signal(Signal::SIGUSR2);
        let successor = Peer::of_next_serving_worker(&mut master);
        master.next("Restart complete");
        drop(std::mem::replace(&mut worker, successor));
    }
    assert!(listeners(&master).is_empty());
}

pub(crate) fn listeners(master: &Master) -> Vec<ListenerStatus> {
    let mut client = Peer::client(master);
    client.say(&FromControl::Status(Status {}));
    let mut listeners = Vec::new();
    loop {
        match client.hear() {
            Some(ToControl::Listener(listener)) => listeners.push(listener),
            Some(ToControl::Done(_)) => return listeners,
            Some(_) => {}
            None => panic!("no status"),
        }
    }
}
