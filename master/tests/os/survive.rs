//! A master that was killed and started again, and workers whose connection broke: what they hear, byte by byte.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use dutch_master_protocol::env;
use dutch_master_protocol::message::{
    DisconnectReason, ErrorMessage, FromMaster, FromWorker, Hello, Listen, Listener, Listening, Resume, ResumeState, VERSION, codes, features,
};
use dutch_master_protocol::socket::send_fd;
use nix::sys::signal::Signal;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::harness::{Folder, Master, eventually, is_alive, signal_to, variable};
use crate::peer::Peer;
use crate::workers::listeners;

/// Requests of one worker that wait: as many as there can be listeners.
const LISTENERS_MAX: u64 = 256;

const WEB: [&str; 4] = ["-n", "1", "-l", "web=127.0.0.1:0"];

/// A worker that serves and holds the listener `web`.
fn holder(master: &Master, pid: u32) -> (Peer, TcpListener) {
    let (mut peer, _) = Peer::of_worker(master, pid);
    peer.say(&FromWorker::Listen(Listen { seq: 1, name: Some("web".into()), ..Listen::default() }));
    assert!(matches!(peer.hear(), Some(FromMaster::Listener(_))));
    let listener = TcpListener::from(peer.take_fd());
    peer.say(&FromWorker::Listening(Listening::default()));
    (peer, listener)
}

/// A master whose predecessor was killed while a worker held `web`: the worker's pid, and what it holds. It has not come back yet.
fn successor(folder: &Folder) -> (Master, u32, TcpListener) {
    let mut master = Master::start(folder, &WEB);
    let pid = master.next_worker();
    let (peer, listener) = holder(&master, pid);
    master.next("Cluster ready");
    master.die_and_start_again(folder, &WEB);
    drop(peer);
    (master, pid, listener)
}

/// Comes back for the worker with this pid.
#[track_caller]
fn resume(master: &Master, pid: u32, state: ResumeState) -> Peer {
    let mut peer = Peer::connect(&master.socket);
    let resume = Resume { generation: 1, state, keys: vec!["web".into()], remaining_ms: None };
    let (token, features) = (variable(pid, env::TOKEN), vec![features::RESUME.into()]);
    peer.say(&FromWorker::Hello(Hello { protocol: VERSION, token, features, resume: Some(resume), ..Hello::default() }));
    let Some(FromMaster::Welcome(welcome)) = peer.hear() else { panic!("no welcome") };
    assert_eq!((welcome.worker, welcome.features), (1, vec![features::RESUME.to_owned()]));
    peer
}

/// The master asks for `web`. Returns the number of its request.
#[track_caller]
fn is_asked(peer: &mut Peer) -> u64 {
    match peer.hear() {
        Some(FromMaster::ReturnListener(asked)) if asked.key == "web" => asked.seq,
        other => panic!("not asked, but {other:?}"),
    }
}

fn give_back(peer: &mut Peer, seq: u64, listener: impl AsFd) {
    peer.say(&FromWorker::Listener(Listener { seq, key: "web".into(), name: None, data: None, address: None, fds: 1 }));
    send_fd(peer.stream.as_fd(), listener.as_fd()).unwrap();
}

/// The listener is there: its accept queue is known.
#[track_caller]
fn is_held(master: &Master) {
    eventually("the listener is there", || listeners(master)[0].backlog == Some(511));
}

#[test]
fn a_worker_that_comes_back_is_asked_once_for_the_listener_that_the_master_lacks() {
    let folder = Folder::new();
    let (mut master, pid, listener) = successor(&folder);
    let _waiting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut peer = resume(&master, pid, ResumeState::Running);
    let seq = is_asked(&mut peer);
    give_back(&mut peer, seq, &listener);
    assert_eq!(master.next("Cluster adopted")["workers"], 1);
    master.next("Listener came back");
    is_held(&master);
    // It is the same socket: what waited there is still waiting.
    assert!(listener.accept().is_ok());
    assert_eq!(master.count("Creating new worker"), 0);
    // A connection that only broke costs nothing: the master has the listener.
    drop(peer);
    let mut peer = resume(&master, pid, ResumeState::Running);
    signal_to(master.pid(), Signal::SIGTERM);
    assert!(matches!(peer.hear(), Some(FromMaster::Disconnect(order)) if order.reason == DisconnectReason::Stop));
}

/// Catches: a worker that is cut, and what it serves with it, because the master may open no more files.
#[test]
fn a_listener_that_there_is_no_descriptor_for_is_asked_for_again() {
    let folder = Folder::new();
    let (mut master, pid, listener) = successor(&folder);
    let mut peer = resume(&master, pid, ResumeState::Running);
    let seq = is_asked(&mut peer);
    let before = limit_files(&master, Some(3));
    give_back(&mut peer, seq, &listener);
    master.next("Listener could not be taken back: this process may open no more files; asking again");
    limit_files(&master, before);
    let seq = is_asked(&mut peer);
    give_back(&mut peer, seq, &listener);
    master.next("Listener came back");
    assert_eq!(master.count("Creating new worker"), 0);
}

/// How many files the master may open. Returns the limit that was.
fn limit_files(master: &Master, current: Option<u64>) -> Option<u64> {
    let pid = Pid::from_raw(master.pid().cast_signed());
    // It has the hard limit that we have.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).unwrap().current
}

#[test]
fn what_is_given_back_has_to_be_what_was_asked_for() {
    let folder = Folder::new();
    let (mut master, pid, listener) = successor(&folder);
    let mut peer = resume(&master, pid, ResumeState::Running);
    let seq = is_asked(&mut peer);
    // Another port, and what does not listen at all.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    give_back(&mut peer, seq, &other);
    master.next("Worker gave back another socket");
    // What was answered is answered.
    give_back(&mut peer, seq, &listener);
    assert_eq!(peer.last_words(), codes::BAD_DESCRIPTORS);
}

#[test]
fn when_one_worker_has_lost_the_listener_it_is_had_from_another_or_bound_when_nobody_holds_it() {
    let folder = Folder::new();
    let (mut master, pid, listener) = successor(&folder);
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut peer = resume(&master, pid, ResumeState::Running);
    let seq = is_asked(&mut peer);
    peer.say(&FromWorker::Error(ErrorMessage { seq: Some(seq), code: "EBADF".into(), message: String::new() }));
    master.next("Listener bound anew");
    is_held(&master);
    TcpStream::connect(address).unwrap();
}

#[test]
fn a_worker_that_asks_for_a_listener_that_has_not_come_back_waits_for_it() {
    let folder = Folder::new();
    let args = ["-n", "2", "-l", "web=127.0.0.1:0"];
    let mut master = Master::start(&folder, &args);
    let (pid, other) = (master.next_worker(), master.next_worker());
    let (peer, listener) = holder(&master, pid);
    master.next("Worker listening");
    master.die_and_start_again(&folder, &args);
    drop(peer);
    let (mut starting, _) = Peer::of_worker(&master, other);
    starting.say(&FromWorker::Listen(Listen { seq: 9, name: Some("web".into()), ..Listen::default() }));
    let mut peer = resume(&master, pid, ResumeState::Running);
    let seq = is_asked(&mut peer);
    give_back(&mut peer, seq, &listener);
    assert!(matches!(starting.hear(), Some(FromMaster::Listener(answer)) if answer.seq == 9));
    assert_eq!(TcpListener::from(starting.take_fd()).local_addr().unwrap(), listener.local_addr().unwrap());
}

#[test]
fn requests_for_a_listener_that_has_not_come_back_have_a_limit() {
    let folder = Folder::new();
    let args = ["-n", "2", "-l", "web=127.0.0.1:0"];
    let mut master = Master::start(&folder, &args);
    let (pid, other) = (master.next_worker(), master.next_worker());
    let (peer, _listener) = holder(&master, pid);
    master.next("Worker listening");
    master.die_and_start_again(&folder, &args);
    drop(peer);
    let (mut starting, _) = Peer::of_worker(&master, other);
    for seq in 1..=LISTENERS_MAX + 1 {
        starting.say(&FromWorker::Listen(Listen { seq, name: Some("web".into()), ..Listen::default() }));
    }
    assert!(matches!(starting.hear(), Some(FromMaster::Error(error)) if error.seq == Some(LISTENERS_MAX + 1) && error.code == codes::LIMIT));
}

/// Here nobody can get at the listener but by its holder's end: the test holds it in the worker's name.
#[test]
fn a_worker_that_keeps_what_its_replacement_needs_is_told_to_go_first() {
    let folder = Folder::new();
    let (mut master, pid, listener) = successor(&folder);
    let told = master.next("Listener of the dead master is not to be had yet");
    assert!(told["reason"].as_str().unwrap().contains(&format!("(pid {})", std::process::id())), "who has it is named: {told}");
    let (mut replacement, _) = Peer::of_next_worker(&mut master);
    replacement.say(&FromWorker::Listen(Listen { seq: 3, name: Some("web".into()), ..Listen::default() }));
    assert_eq!(master.next("Worker exited")["workerPid"], pid);
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert!(matches!(replacement.hear(), Some(FromMaster::Listener(answer)) if answer.seq == 3));
    assert_eq!(TcpListener::from(replacement.take_fd()).local_addr().unwrap(), address);
}

/// Catches: an address of the earlier configuration that stays open for good, where clients connect and nobody accepts.
#[test]
fn a_listener_that_is_configured_no_more_closes_when_its_last_holder_is_gone() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &WEB);
    let pid = master.next_worker();
    let (peer, listener) = holder(&master, pid);
    master.next("Cluster ready");
    let address = listener.local_addr().unwrap();
    master.die_and_start_again(&folder, &["-n", "1", "--settle-time", "0s"]);
    drop(peer);
    let mut peer = resume(&master, pid, ResumeState::Running);
    let seq = is_asked(&mut peer);
    give_back(&mut peer, seq, &listener);
    let _replacement = Peer::of_next_serving_worker(&mut master);
    assert!(matches!(peer.hear(), Some(FromMaster::Disconnect(_))));
    TcpStream::connect(address).expect("it serves as long as it lives");
    drop((peer, listener));
    signal_to(pid, Signal::SIGKILL);
    assert_eq!(master.next("Listener closed: it is not configured any more, and no worker holds it")["listener"], "web");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_state_that_cannot_be_written_is_told_and_stops_nothing() {
    let folder = Folder::new();
    let blocked = folder.path().join("dutch-master/m.state.new");
    std::fs::create_dir_all(&blocked).unwrap();
    std::fs::set_permissions(folder.path().join("dutch-master"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut master = Master::start(&folder, &["-n", "1"]);
    master.next("State cannot be written, workers would not outlive this master");
    let _serving = Peer::of_next_serving_worker(&mut master);
    master.next("Cluster ready");
    std::fs::remove_dir(&blocked).unwrap();
    // Nothing else happens: it comes back to it by itself.
    master.next("State is written again");
    assert!(folder.path().join("dutch-master/m.state").exists());
}

#[test]
fn a_worker_that_comes_back_takes_the_place_of_its_older_connection() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let pid = master.next_worker();
    let mut old = Peer::of_serving_worker(&master, pid);
    master.next("Cluster ready");
    let mut new = resume(&master, pid, ResumeState::Running);
    assert_eq!(old.last_words(), codes::SUPERSEDED);
    signal_to(master.pid(), Signal::SIGTERM);
    assert!(matches!(new.hear(), Some(FromMaster::Disconnect(_))));
    assert_eq!(master.count("Worker disconnection was unexpected"), 0);
}

#[test]
fn what_a_worker_says_of_itself_when_it_comes_back_counts() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--settle-time", "0s"]);
    let pid = master.next_worker();
    drop(Peer::of_worker(&master, pid));
    let serving = resume(&master, pid, ResumeState::Running);
    master.next("Worker listening");
    drop(serving);
    let _draining = resume(&master, pid, ResumeState::Draining);
    master.next("Worker leaving");
    let next = master.next_worker();
    assert_ne!(next, pid);
}

#[test]
fn a_worker_that_dies_after_it_was_adopted_is_replaced_and_what_it_left_is_killed() {
    let folder = Folder::new();
    let args = ["-n", "1", "--", "sh", "-c", "sleep 60 & echo $! > child.new && mv child.new child && wait"];
    let mut master = Master::start(&folder, &args);
    let pid = master.next_worker();
    eventually("it has a child", || folder.path().join("child").exists());
    let child: u32 = std::fs::read_to_string(folder.path().join("child")).unwrap().trim().parse().unwrap();
    drop(Peer::of_serving_worker(&master, pid));
    master.next("Cluster ready");
    master.die_and_start_again(&folder, &args);
    let _serving = resume(&master, pid, ResumeState::Running);
    master.next("Cluster adopted");
    signal_to(pid, Signal::SIGKILL);
    assert_eq!(master.next("Worker exited")["workerPid"], pid);
    assert_ne!(master.next_worker(), pid);
    eventually("the rest of its group has gone", || !is_alive(child));
}

#[test]
fn nothing_of_the_state_is_left_after_a_stop_and_it_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let state = folder.path().join("dutch-master/m.state");
    let mut master = Master::start(&folder, &["-n", "1"]);
    master.next_worker();
    assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    signal_to(master.pid(), Signal::SIGTERM);
    signal_to(master.pid(), Signal::SIGTERM);
    master.wait();
    assert_eq!(std::fs::read_dir(folder.path().join("dutch-master")).unwrap().count(), 0);
}

#[test]
fn a_start_of_another_name_leaves_what_living_workers_wait_for() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let pid = master.next_worker();
    let _peer = Peer::of_serving_worker(&master, pid);
    master.next("Cluster ready");
    master.signal(Signal::SIGKILL);
    master.wait();
    let other = crate::harness::start_command(&folder, "other", &["--restart-attempts", "1", "--", "false"]).output().unwrap();
    assert_eq!(other.status.code(), Some(1));
    assert!(folder.socket("m").exists() && folder.path().join("dutch-master/m.state").exists());
    master.die_and_start_again(&folder, &["-n", "1"]);
    let _back = resume(&master, pid, ResumeState::Running);
    master.next("Cluster adopted");
}

#[test]
fn a_state_that_cannot_be_read_is_told_and_the_start_is_a_first_one() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    master.next_worker();
    master.signal(Signal::SIGKILL);
    master.wait();
    std::fs::write(folder.path().join("dutch-master/m.state"), "{").unwrap();
    master.die_and_start_again(&folder, &["-n", "1"]);
    master.next_worker();
    assert_eq!(master.count("What a dead master left cannot be used"), 1);
}
