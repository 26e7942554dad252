//! What the log says of workers: which, and who has the port that one cannot have.

use std::io::Write;
use std::net::TcpListener;

use dutch_master_protocol::message::{Address, AppMessage, ErrorMessage, FromMaster, FromWorker, Leaving, Listen, RequestRestart};
use serde_json::Value;

use crate::harness::{Folder, Master};
use crate::peer::Peer;

#[track_caller]
fn assert_known(line: &Value, pid: u32) {
    let known = (line["workerId"].as_u64(), line["workerPid"].as_u64(), line["generation"].as_u64());
    assert_eq!(known, (Some(1), Some(pid.into()), Some(1)), "{line}");
}

#[test]
fn each_line_about_what_a_worker_says_has_its_id_pid_and_generation() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let pid = master.next_worker();
    let mut worker = Peer::of_serving_worker(&master, pid);
    assert_known(&master.next("Worker connected"), pid);
    assert_known(&master.next("Worker listening"), pid);
    worker.say(&FromWorker::Listen(Listen { seq: 1, address: Some(Address::unix("relative")), ..Listen::default() }));
    assert_known(&master.next("Listener refused"), pid);
    worker.say(&FromWorker::Message(AppMessage { json: "null".into() }));
    assert_known(&master.next("Message from worker"), pid);
    worker.say(&FromWorker::Error(ErrorMessage::default()));
    assert_known(&master.next("Worker reports an error"), pid);
    worker.say(&FromWorker::RequestRestart(RequestRestart::default()));
    assert_known(&master.next("Worker asks to be replaced"), pid);
    assert_known(&master.next("Worker dying"), pid);
    worker.say(&FromWorker::Leaving(Leaving::default()));
    assert_known(&master.next("Worker says that it leaves"), pid);
    worker.stream.write_all(&[0, 0, 0, 0]).unwrap();
    assert_known(&master.next("Connection refused"), pid);
}

#[test]
fn a_port_in_use_that_a_worker_asks_for_names_who_has_it() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let (mut worker, _) = Peer::of_next_worker(&mut master);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::tcp(Some([127, 0, 0, 1].into()), taken.local_addr().unwrap().port());
    worker.say(&FromWorker::Listen(Listen { seq: 1, address: Some(address), ..Listen::default() }));
    let Some(FromMaster::Error(error)) = worker.hear() else { panic!("no error") };
    let holder = format!("(pid {}) has it: stop that, or choose another address", std::process::id());
    assert_eq!(error.code, "EADDRINUSE");
    assert!(error.message.contains(&holder), "{error:?}");
    assert!(master.next("Listener refused")["reason"].as_str().unwrap().contains(&holder));
}

/// Catches: limiting by the message alone, and letting no line of the lifecycle through.
#[test]
fn a_worker_that_floods_hides_neither_another_nor_the_lifecycle() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "2"]);
    let (mut loud, _) = Peer::of_next_worker(&mut master);
    let (mut quiet, welcome) = Peer::of_next_worker(&mut master);
    let ask = |worker: &mut Peer, seq| {
        worker.say(&FromWorker::Listen(Listen { seq, address: Some(Address::unix("relative")), ..Listen::default() }));
        assert!(matches!(worker.hear(), Some(FromMaster::Error(_))));
    };
    (0..30).for_each(|seq| ask(&mut loud, seq));
    ask(&mut quiet, 1);
    while master.next("Listener refused")["workerId"] != welcome.worker {}
    assert!(master.count("Listener refused") < 30);
}
