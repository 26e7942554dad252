//! Sockets that somebody else breaks: listeners, which every worker shares, and the files by which sockets are found.

use std::fs;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use dutch_master_protocol::control::{FromControl, Scale, Status, ToControl};
use dutch_master_protocol::message::{DisconnectReason, FromMaster, FromWorker, Listen, Listening};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::harness::{Folder, Master, eventually, start_command};
use crate::peer::Peer;

const SHUT_DOWN: &str = "Listener was shut down, listening again";

/// A worker's copy of the listener `web`.
#[track_caller]
fn copy_of_web(worker: &mut Peer) -> OwnedFd {
    worker.say(&FromWorker::Listen(Listen { seq: 1, name: Some("web".into()), ..Listen::default() }));
    assert!(matches!(worker.hear(), Some(FromMaster::Listener(_))));
    worker.take_fd()
}

/// The master may be writing into it.
fn remove_folder(path: &Path) {
    eventually("the folder is removed", || fs::remove_dir_all(path).is_ok());
}

fn shut_down(copy: &OwnedFd, how: Shutdown) {
    TcpStream::from(copy.try_clone().unwrap()).shutdown(how).unwrap();
}

#[track_caller]
fn is_well(master: &Master) {
    let mut client = Peer::client(master);
    client.say(&FromControl::Status(Status {}));
    assert!(matches!(client.hear(), Some(ToControl::Pool(_))));
}

#[test]
fn a_listener_that_a_worker_shuts_down_serves_again_at_its_port_and_its_workers_are_replaced() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "-l", "web=127.0.0.1:0", "--settle-time", "0s"]);
    let mut worker = Peer::of_next_worker(&mut master).0;
    let copy = TcpListener::from(copy_of_web(&mut worker));
    let address = copy.local_addr().unwrap();
    worker.say(&FromWorker::Listening(Listening::default()));
    master.next("Cluster ready");
    shut_down(&copy.try_clone().unwrap().into(), Shutdown::Both);
    let line = master.next(SHUT_DOWN);
    assert!(line["reason"].as_str().unwrap().contains(&address.to_string()), "{line}");
    let waiting = TcpStream::connect(address).expect("it listens again");
    assert_eq!(copy.accept().unwrap().1, waiting.local_addr().unwrap(), "and the worker's copy serves");
    let _successor = Peer::of_next_serving_worker(&mut master);
    assert!(matches!(worker.hear(), Some(FromMaster::Disconnect(order)) if order.reason == DisconnectReason::Request));
    // Old workers may do it again when they go; that must not go on for ever.
    shut_down(&copy.into(), Shutdown::Read);
    assert!(!master.next(SHUT_DOWN)["reason"].as_str().unwrap().contains("replaced"));
    TcpStream::connect(address).unwrap();
}

#[test]
fn a_unix_listener_that_is_shut_down_or_removed_is_bound_anew_and_its_workers_are_replaced() {
    let folder = Folder::new();
    let path = folder.path().join("web");
    let mut master = Master::start(&folder, &["-n", "1", "-l", "web=unix:web", "--settle-time", "0s"]);
    let mut worker = Peer::of_next_worker(&mut master).0;
    let mut copy = copy_of_web(&mut worker);
    worker.say(&FromWorker::Listening(Listening::default()));
    for message in ["Listener was shut down, bound anew", "Socket file of a listener was removed, bound anew"] {
        if message.contains("removed") {
            fs::remove_file(&path).unwrap()
        } else {
            shut_down(&copy, Shutdown::Read)
        }
        master.next(message);
        UnixStream::connect(&path).unwrap();
        let (mut successor, _) = Peer::of_next_worker(&mut master);
        copy = copy_of_web(&mut successor);
        successor.say(&FromWorker::Listening(Listening::default()));
        assert!(matches!(worker.hear(), Some(FromMaster::Disconnect(_))));
        worker = successor;
    }
    let served = UnixListener::from(copy);
    UnixStream::connect(&path).unwrap();
    served.accept().expect("the last worker has the new one");
}

#[test]
fn a_worker_that_was_starting_when_its_listener_died_is_replaced_as_soon_as_it_runs() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "-l", "web=unix:web", "--settle-time", "0s"]);
    let mut worker = Peer::of_next_worker(&mut master).0;
    let _copy = copy_of_web(&mut worker);
    fs::remove_file(folder.path().join("web")).unwrap();
    master.next("Socket file of a listener was removed, bound anew");
    worker.say(&FromWorker::Listening(Listening::default()));
    master.next("Worker dying");
}

#[test]
fn a_listener_whose_path_somebody_else_serves_is_left_to_them_and_that_is_told_once() {
    let folder = Folder::new();
    let path = folder.path().join("web");
    let mut master = Master::start(&folder, &["-n", "1", "-l", "web=unix:web"]);
    let _worker = Peer::of_next_serving_worker(&mut master);
    let other = UnixListener::bind(folder.path().join("other")).unwrap();
    fs::rename(folder.path().join("other"), &path).unwrap();
    master.next("Listener is broken and cannot be repaired");
    for _ in 0..3 {
        is_well(&master);
    }
    assert_eq!(master.count("Listener is broken and cannot be repaired"), 1);
    other.set_nonblocking(false).unwrap();
    let _ours = UnixStream::connect(&path).unwrap();
}

#[test]
fn a_listener_that_a_worker_makes_blocking_is_put_right_when_anything_is_heard_of_a_worker_or_a_client() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "-l", "web=127.0.0.1:0"]);
    let mut worker = Peer::of_next_worker(&mut master).0;
    let copy = TcpListener::from(copy_of_web(&mut worker));
    copy.set_nonblocking(false).unwrap();
    worker.say(&FromWorker::Listening(Listening::default()));
    assert!(master.next("Listener was made blocking, put right")["reason"].as_str().unwrap().starts_with("web ("));
    copy.set_nonblocking(false).unwrap();
    is_well(&master);
    master.next("Listener was made blocking, put right");
    assert_eq!(copy.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_control_socket_that_was_removed_is_made_again_with_all_that_belongs_to_it() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let mut worker = Peer::of_next_serving_worker(&mut master);
    let (socket, lock) = (master.socket.clone(), folder.path().join("dutch-master/m.lock"));
    let told = "Control socket was removed, made again";
    fs::remove_file(&socket).unwrap();
    master.next(told);
    is_well(&master);
    fs::rename(&socket, socket.with_extension("elsewhere")).unwrap();
    master.next(told);
    is_well(&master);
    remove_folder(&folder.path().join("dutch-master"));
    // Which of the files it misses first, and tells, is a matter of luck.
    eventually("the control socket is there again", || UnixStream::connect(&socket).is_ok());
    is_well(&master);
    assert!(fs::read_to_string(lock).unwrap().starts_with(&format!("{}\n", master.pid())), "nobody else can take the name");
    worker.say(&FromWorker::RequestRestart(Default::default()));
    let _successor = Peer::of_next_serving_worker(&mut master);
    master.signal(nix::sys::signal::Signal::SIGTERM);
    drop(worker);
    drop(_successor);
    assert!(master.wait().code().is_some());
    assert!(!socket.exists(), "it is removed in the end");
}

#[test]
fn a_lock_file_that_was_removed_or_moved_is_put_back_so_that_no_second_master_starts() {
    let folder = Folder::new();
    let socket = folder.path().join("c.sock");
    let mut master = Master::start(&folder, &["-n", "1", "--socket", socket.to_str().unwrap()]);
    master.next("Worker spawned");
    let (named, beside) = (folder.path().join("dutch-master/m.lock"), folder.path().join("c.sock.lock"));
    let told = "Lock file was removed, made again";
    for lock in [&named, &beside] {
        fs::remove_file(lock).unwrap();
        assert_eq!(master.next(told)["reason"], lock.to_str().unwrap());
        fs::rename(lock, lock.with_extension("elsewhere")).unwrap();
        master.next(told);
        assert!(fs::read_to_string(lock).unwrap().starts_with(&format!("{}\n", master.pid())));
    }
    let second = start_command(&folder, "m", &["sleep", "9"]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("a master (pid {}) already serves", master.pid())), "{said}");
}

#[test]
fn pipes_where_the_master_writes_its_files_keep_it_waiting_for_nobody() {
    let folder = Folder::new();
    let page = folder.path().join("page.prom");
    let pid_file = folder.path().join("pid");
    let options = ["-n", "1", "--metrics", &format!("file:{}", page.display()), "--pid-file", pid_file.to_str().unwrap()];
    let mut master = Master::start(&folder, &options);
    let _worker = Peer::of_next_serving_worker(&mut master);
    let state = folder.path().join("dutch-master/m.state");
    for path in [state.with_extension("state.new"), folder.path().join("page.prom.new"), folder.path().join("dutch-master/other.lock")] {
        mkfifo(&path, Mode::S_IRWXU).unwrap();
    }
    fs::remove_file(&pid_file).unwrap();
    mkfifo(&pid_file, Mode::S_IRWXU).unwrap();
    let mut client = Peer::client(&master);
    client.say(&FromControl::Scale(Scale { to: Some(2), by: None }));
    master.next("Pool scaled");
    eventually("the state is written", || fs::read_to_string(&state).is_ok_and(|state| state.contains("\"size\":2")));
    let second = start_command(&folder, "m", &["sleep", "9"]).output().unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("already serves"), "and no other one is kept waiting by a lock");
    for _ in 0..2 {
        master.signal(nix::sys::signal::Signal::SIGTERM);
        master.next("Shutdown requested");
    }
    assert!(master.wait().code().is_some());
}

#[test]
fn a_configured_listener_that_no_worker_takes_is_told() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "-l", "web=127.0.0.1:0", "-l", "admin=127.0.0.1:0"]);
    let (mut worker, _) = Peer::of_next_worker(&mut master);
    let _copy = copy_of_web(&mut worker);
    worker.say(&FromWorker::Listening(Default::default()));
    let told = "No worker has taken this listener so far: whoever connects there waits";
    assert_eq!(master.next(told)["listener"], "admin");
    assert_eq!(master.count(told), 1);
}

#[test]
fn a_master_whose_whole_runtime_directory_was_removed_is_still_survived_by_its_workers() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let _worker = Peer::of_next_serving_worker(&mut master);
    let runtime = folder.path().join("dutch-master");
    remove_folder(&runtime);
    master.next("Control socket was removed, made again");
    eventually("what the next master needs is written again", || runtime.join("m.state").exists());
}
