//! What requests for listeners get, on real sockets.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::*;

fn asks_for(address: Address) -> Listen {
    Listen { seq: 7, address: Some(address), ..Listen::default() }
}

#[track_caller]
fn handed_over(answer: Answer) -> (Listener, Arc<OwnedFd>) {
    match answer {
        Answer::HandedOver(listener, fd) => (listener, fd),
        Answer::Refused(error) => panic!("refused: {error:?}"),
        Answer::Later(key) => panic!("{key} is missing"),
    }
}

#[track_caller]
fn refused(answer: Answer) -> ErrorMessage {
    match answer {
        Answer::Refused(error) => error,
        Answer::HandedOver(listener, _) => panic!("handed over: {listener:?}"),
        Answer::Later(key) => panic!("{key} is missing"),
    }
}

#[test]
fn a_random_port_is_shared_by_the_pool() {
    let mut listeners = Listeners::default();
    let request = asks_for(Address::tcp(None, 0));
    let (first, one) = handed_over(listeners.answer(1, &request));
    let (second, two) = handed_over(listeners.answer(2, &request));
    assert!(Arc::ptr_eq(&one, &two));
    assert_eq!(first.address, second.address);
    let port = first.address.unwrap().port.unwrap();
    TcpStream::connect(("127.0.0.1", port)).expect("no host means IPv4 too");
}

#[test]
fn connections_queue_while_no_worker_lives_and_status_counts_them() {
    let mut listeners = Listeners::default();
    listeners.configure(&ListenSpec::new(Some("web".into()), Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), 0))).unwrap();
    let port = listeners.status().next().unwrap().address.port.unwrap();
    let _waiting: Vec<_> = (0..3).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let status = listeners.status().next().unwrap();
    assert_eq!((status.queued, status.backlog), (Some(3), Some(BACKLOG)));
}

#[test]
fn a_bind_that_fails_is_answered_with_its_errno_and_can_be_tried_again() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let request = asks_for(Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), taken.local_addr().unwrap().port()));
    let mut listeners = Listeners::default();
    let error = refused(listeners.answer(1, &request));
    assert_eq!((error.code.as_str(), error.seq), ("EADDRINUSE", Some(7)));
    drop(taken);
    handed_over(listeners.answer(1, &request));
}

#[test]
fn a_configured_listener_that_is_taken_names_who_has_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), taken.local_addr().unwrap().port());
    let error = Listeners::default().configure(&ListenSpec::new(None, address)).unwrap_err();
    assert!(error.to_string().contains("an earlier --listen has taken it"), "{error}");
}

#[test]
fn a_worker_that_changes_the_queue_length_changes_it_for_a_moment_only() {
    let mut listeners = Listeners::default();
    let (_, fd) = handed_over(listeners.answer(1, &Listen { backlog: Some(17), ..asks_for(Address::tcp(None, 0)) }));
    nix::sys::socket::listen(&fd, nix::sys::socket::Backlog::new(3).unwrap()).unwrap();
    let backlog = |listeners: &Listeners| listeners.status().next().unwrap().backlog;
    assert_eq!(backlog(&listeners), Some(3));
    listeners.worker_serves();
    assert_eq!(backlog(&listeners), Some(17));
}

#[test]
fn after_the_stop_nothing_listens_and_nothing_is_handed_over() {
    let path = std::env::temp_dir().join(format!("dm-listener-{}.sock", std::process::id()));
    let mut listeners = Listeners::default();
    let request = asks_for(Address::unix(path.to_str().unwrap()));
    handed_over(listeners.answer(1, &request));
    assert!(path.exists());
    listeners.close_all();
    assert!(!path.exists());
    assert_eq!(refused(listeners.answer(2, &request)).code, codes::STOPPING);
}
