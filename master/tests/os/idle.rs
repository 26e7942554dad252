//! What a master costs that has nothing to do.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use dutch_master_protocol::control::{FromControl, Status, ToControl};
use dutch_master_protocol::message::{Address, FromMaster, FromWorker, Listen, Listener};

use crate::harness::{Folder, Master, eventually};
use crate::peer::Peer;

fn wakeups(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap().to_owned()
}

#[test]
fn a_master_that_has_nothing_to_do_any_more_gives_back_the_memory_of_its_code() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    master.next_worker();
    master.gives_back_its_code();
    let mut client = Peer::client(&master);
    client.say(&FromControl::Status(Status {}));
    assert!(matches!(client.hear(), Some(ToControl::Pool(_))));
    master.gives_back_its_code();
}

#[test]
fn an_idle_master_wakes_for_nothing() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "2", "--settle-time", "0s", "-l", "unix:web"]);
    let mut workers: Vec<_> = (0..2).map(|_| Peer::of_next_serving_worker(&mut master)).collect();
    master.next("Cluster ready");
    workers[0].say(&FromWorker::Listen(Listen { seq: 1, address: Some(Address::tcp(Some([127, 0, 0, 1].into()), 0)), ..Listen::default() }));
    let Some(FromMaster::Listener(Listener { address: Some(Address { port: Some(port), .. }), .. })) = workers[0].hear() else { panic!("no listener") };
    // The last thing that it has to do; from then on any difference is a wakeup for nothing.
    master.gives_back_its_code();
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", master.pid())).unwrap();
    eventually("it sleeps", || stat().contains(") S "));
    let before = wakeups(master.pid());
    // Who connects is the workers' concern alone.
    let _clients: Vec<_> =
        (0..20).map(|_| (TcpStream::connect(("127.0.0.1", port)).unwrap(), UnixStream::connect(folder.path().join("web")).unwrap())).collect();
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(wakeups(master.pid()), before);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", master.pid())).unwrap().count();
    assert_eq!(tasks, 1, "one thread");
}

#[test]
fn connections_that_have_gone_leave_nothing_open() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    master.next_worker();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", master.pid())).unwrap().count();
    let mut client = Peer::client(&master);
    let before = open();
    for _ in 0..200 {
        let mut other = Peer::client(&master);
        other.say(&FromControl::Status(Status {}));
        assert!(matches!(other.hear(), Some(ToControl::Pool(_))));
    }
    eventually("all are closed", || open() == before);
    client.say(&FromControl::Status(Status {}));
    assert!(matches!(client.hear(), Some(ToControl::Pool(_))));
}
