//! Peers that the master does not know, or that do not speak its language, lose their connection and harm nobody.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Instant;

use dutch_master_protocol::control::{self, FromControl, ToControl};
use dutch_master_protocol::env;
use dutch_master_protocol::limits::HELLO_TIMEOUT_MS;
use dutch_master_protocol::message::{FromMaster, FromWorker, Heartbeat, Hello, Resume, ResumeState, VERSION, codes};
use dutch_master_protocol::socket::send_fd;
use nix::unistd::geteuid;

use crate::harness::{Folder, Master, variable};
use crate::peer::Peer;

/// Says something as a stranger and returns the code of the error that ends the connection. The master is well afterwards.
#[track_caller]
fn answer_to(say: impl FnOnce(&mut Peer)) -> String {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let worker = master.next_worker();
    let mut peer = Peer::connect(&master.socket);
    say(&mut peer);
    let code = peer.last_words();
    let _serving = Peer::of_serving_worker(&master, worker);
    master.next("Cluster ready");
    assert_eq!(master.count("Connection refused"), 1, "and it is logged once");
    code
}

fn hello() -> Hello {
    Hello { protocol: VERSION, ..Hello::default() }
}

#[test]
fn a_token_of_no_living_worker_is_refused() {
    assert_eq!(answer_to(|peer| peer.say(&FromWorker::Hello(Hello { token: Some("0".repeat(32)), ..hello() }))), codes::BAD_TOKEN);
    assert_eq!(answer_to(|peer| peer.say(&FromWorker::Hello(hello()))), codes::BAD_TOKEN);
}

#[test]
fn a_version_that_the_master_does_not_speak_is_refused() {
    assert_eq!(answer_to(|peer| peer.say(&FromWorker::Hello(Hello { protocol: 0, ..hello() }))), codes::BAD_VERSION);
}

#[test]
fn a_worker_that_comes_back_is_refused_until_the_master_can_take_it() {
    let resume = Some(Resume { generation: 1, state: ResumeState::Running, keys: Vec::new(), remaining_ms: None });
    assert_eq!(answer_to(|peer| peer.say(&FromWorker::Hello(Hello { resume, ..hello() }))), codes::RESUME_REFUSED);
}

#[test]
fn the_first_message_is_hello() {
    assert_eq!(answer_to(|peer| peer.say(&FromWorker::Heartbeat(Heartbeat {}))), codes::UNEXPECTED);
}

#[test]
fn garbage_is_refused() {
    assert_eq!(answer_to(|peer| peer.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap()), codes::TOO_LARGE);
    assert_eq!(answer_to(|peer| peer.stream.write_all(&[0, 0, 0, 0]).unwrap()), codes::MALFORMED);
    assert_eq!(answer_to(|peer| peer.stream.write_all(&[0, 0, 0, 1, 0xc1]).unwrap()), codes::MALFORMED);
}

#[test]
fn descriptors_that_nobody_asked_for_are_refused() {
    assert_eq!(answer_to(|peer| send_fd(peer.stream.as_fd(), std::io::stdin().as_fd()).unwrap()), codes::BAD_DESCRIPTORS);
}

#[test]
fn a_connection_that_says_nothing_is_closed_after_the_hello_timeout() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    master.next_worker();
    let began = Instant::now();
    let mut silent = Peer::connect(&master.socket);
    assert_eq!(silent.last_words(), codes::LIMIT);
    assert!(began.elapsed().as_millis() >= u128::from(HELLO_TIMEOUT_MS));
}

#[test]
fn connections_without_hello_are_limited_and_those_with_one_are_not_kept_out() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let worker = master.next_worker();
    let mut silent: Vec<_> = (0..64).map(|_| Peer::connect(&master.socket)).collect();
    // The oldest of them makes room for one more.
    let _serving = Peer::of_serving_worker(&master, worker);
    master.next("Cluster ready");
    assert_eq!(silent[0].last_words(), codes::LIMIT);
    silent[1].say(&FromWorker::Hello(hello()));
    assert_eq!(silent[1].last_words(), codes::BAD_TOKEN);
}

/// Lets this thread, and no other, be another user, and does something as it. The kernel keeps users for each thread.
#[allow(unsafe_code)]
fn as_nobody<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    const NOBODY: nix::libc::uid_t = 65_534;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: a system call with three numbers, that changes this thread alone, which ends soon.
            let outcome = unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
            assert_eq!(outcome, 0);
            act()
        });
        thread.join().unwrap()
    })
}

#[test]
fn a_user_who_may_not_speak_is_told_so_and_makes_nobody_room() {
    if !geteuid().is_root() {
        return; // Nobody else can become another user.
    }
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let worker = master.next_worker();
    let mut silent: Vec<_> = (0..64).map(|_| Peer::connect(&master.socket)).collect();
    // The directory keeps other users out; where it does not, the kernel says who they are.
    for (path, mode) in [(folder.path(), 0o755), (master.socket.parent().unwrap(), 0o755), (&*master.socket, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let words = as_nobody(|| (0..70).map(|_| Peer::connect(&master.socket).last_words()).collect::<Vec<_>>());
    assert!(words.iter().all(|code| code == codes::FORBIDDEN), "{words:?}");
    let token = variable(worker, env::TOKEN);
    silent[0].say(&FromWorker::Hello(Hello { token, ..hello() }));
    assert!(matches!(silent[0].hear(), Some(FromMaster::Welcome(_))), "the oldest connection is still there");
}

#[test]
fn clients_that_wait_for_nothing_make_room_for_one_that_asks() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    master.next_worker();
    let mut idle: Vec<_> = (0..64).map(|_| Peer::client(&master)).collect();
    let mut client = Peer::client(&master);
    client.say(&FromControl::Status(control::Status {}));
    assert!(matches!(client.hear(), Some(ToControl::Pool(_))));
    assert_eq!(idle[0].last_words(), codes::LIMIT);
}

#[test]
fn a_client_that_asks_for_what_is_not_offered_is_told_so_and_may_go_on() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    master.next_worker();
    let mut client = Peer::client(&master);
    client.say(&std::collections::BTreeMap::from([("event", "x-test-wish")]));
    assert!(matches!(client.hear(), Some(ToControl::Error(error)) if error.code == codes::UNSUPPORTED));
    client.say(&FromControl::Scale(control::Scale::default()));
    assert!(matches!(client.hear(), Some(ToControl::Error(error)) if error.code == "EINVAL"));
    client.say(&FromControl::Status(control::Status {}));
    assert!(matches!(client.hear(), Some(ToControl::Pool(pool)) if pool.name == "m" && pool.pid == master.pid()));
    assert!(matches!(client.hear(), Some(ToControl::Worker(worker)) if worker.state == "starting"));
    assert!(matches!(client.hear(), Some(ToControl::Done(_))));
    // A second request while one is under way would have an answer that nobody can tell apart.
    client.say(&FromControl::Scale(control::Scale { to: Some(2), by: None }));
    client.say(&FromControl::Scale(control::Scale { to: Some(3), by: None }));
    while let Some(message) = client.hear::<FromMaster>() {
        if let FromMaster::Error(error) = message {
            assert_eq!(error.code, codes::UNEXPECTED);
            return;
        }
    }
    panic!("no error");
}
