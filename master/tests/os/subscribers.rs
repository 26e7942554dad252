//! Clients that want to hear everything.

use dutch_master_protocol::control::{FromControl, Scale, Status, Subscribe, ToControl};
use dutch_master_protocol::message::{Drained, FromWorker, codes};
use nix::sys::signal::Signal;

use crate::harness::{Folder, Master, eventually, signal_to};
use crate::peer::Peer;

fn subscriber(master: &Master) -> Peer {
    let mut client = Peer::client(master);
    client.say(&FromControl::Subscribe(Subscribe {}));
    assert!(matches!(client.hear(), Some(ToControl::Accepted(_))));
    client
}

/// The messages up to this one.
fn hear_until(client: &mut Peer, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    while heard.last().is_none_or(|message| message != last) {
        match client.hear() {
            Some(ToControl::Progress(progress)) => heard.push(progress.message),
            other => panic!("{other:?} after {heard:?}"),
        }
    }
    heard
}

#[test]
fn a_subscriber_hears_what_the_log_says() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1", "--settle-time", "0s"]);
    master.next("Starting cluster");
    let mut client = subscriber(&master);
    let _old = Peer::of_next_serving_worker(&mut master);
    hear_until(&mut client, "Cluster ready");
    master.signal(Signal::SIGUSR2);
    let _new = Peer::of_next_serving_worker(&mut master);
    let heard = hear_until(&mut client, "Restart complete");
    let expected = [
        "Restart requested",
        "Restarting worker",
        "Creating new worker",
        "Worker listening",
        "Replacement worker available - disconnecting",
        "Restart complete",
    ];
    assert_eq!(heard, expected);
}

#[test]
fn subscribers_that_somebody_forgot_make_room_for_who_wants_something() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    master.next("Starting cluster");
    // As many as there may be clients at once.
    let mut forgotten: Vec<_> = (0..64).map(|_| subscriber(&master)).collect();
    let mut client = Peer::client(&master);
    client.say(&FromControl::Status(Status {}));
    assert!(matches!(client.hear(), Some(ToControl::Pool(_))));
    let error = loop {
        match forgotten[0].hear() {
            Some(ToControl::Progress(_)) => {}
            Some(ToControl::Error(error)) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(error.code, codes::LIMIT);
    assert!(forgotten[0].hear::<ToControl>().is_none());
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_and_harms_nobody() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let _worker = Peer::of_next_serving_worker(&mut master);
    master.next("Cluster ready");
    let mut mute = subscriber(&master);
    let mut prompt = subscriber(&master);
    // Each changes the size to what it is: three lines of the log, and no more.
    let asking = |master: &Master| {
        let mut client = Peer::client(master);
        client.say(&FromControl::Scale(Scale { to: Some(1), by: None }));
        while !matches!(client.hear(), Some(ToControl::Done(_))) {}
    };
    let is_cut = |master: &Master| master.count("Connection refused") > 0;
    for _ in 0..20_000 {
        asking(&master);
        hear_until(&mut prompt, "Pool scaled");
        if is_cut(&master) {
            break;
        }
    }
    eventually("the one that does not read is cut", || is_cut(&master));
    assert!(master.next("Connection refused")["reason"].as_str().unwrap().contains("this subscriber does not read"));
    asking(&master);
    hear_until(&mut prompt, "Pool scaled");
    // Should it read after all, it learns that there was more.
    let error = loop {
        match mute.hear() {
            Some(ToControl::Progress(_)) => {}
            Some(ToControl::Error(error)) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert!(error.code == codes::LIMIT && error.message.contains("does not read"), "{error:?}");
}

#[test]
fn a_subscriber_that_is_behind_when_the_master_ends_hears_everything() {
    let folder = Folder::new();
    let mut master = Master::start(&folder, &["-n", "1"]);
    let pid = master.next_worker();
    let mut worker = Peer::of_serving_worker(&master, pid);
    master.next("Cluster ready");
    let mut late = subscriber(&master);
    let mut client = Peer::client(&master);
    // More than a socket takes, and less than the 64 KiB for which a subscriber is cut.
    for _ in 0..800 {
        client.say(&FromControl::Scale(Scale { to: Some(1), by: None }));
        while !matches!(client.hear(), Some(ToControl::Done(_))) {}
    }
    master.signal(Signal::SIGTERM);
    worker.say(&FromWorker::Disconnect(Drained::default()));
    master.next("Worker disconnected");
    signal_to(pid, Signal::SIGTERM);
    master.next("Cluster shutdown cleanly");
    let heard = hear_until(&mut late, "Cluster shutdown cleanly");
    assert_eq!(heard.iter().filter(|message| *message == "Pool scaled").count(), 800);
    assert!(late.hear::<ToControl>().is_none(), "the master has ended");
}
