//! A worker and a fake master: what goes over the socket, and who is called back.

mod fake_master;

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Instant;

use dutch_master_protocol::message::{Close, DisconnectReason, Drained, FromMaster, FromWorker, Leaving, Listening, RequestRestart, Welcome};
use dutch_master_protocol::socket::{send_fd, send_fds};
use dutch_master_worker::{ConnectError, Event, ListenError, Reason, Settings, Worker, limits};
use fake_master::{FakeMaster, PATIENCE, tcp, welcome};

/// What the session thread calls back with.
fn events(worker: &Worker) -> mpsc::Receiver<Event> {
    let (tell, told) = mpsc::channel();
    worker.on_event(move |event| drop(tell.send(event)));
    told
}

#[test]
fn a_worker_introduces_itself_and_knows_who_it_is() {
    let master = FakeMaster::new();
    let settings = Settings { features: vec!["x-test".into()], ..master.settings() };
    let connecting = std::thread::spawn(move || Worker::connect(settings).unwrap());
    let (peer, hello) = master.accept();
    peer.say(&FromMaster::Welcome(welcome()));
    let worker = connecting.join().unwrap();
    assert_eq!((hello.protocol, hello.token.as_deref(), hello.pid), (1, Some("token"), Some(std::process::id())));
    assert_eq!((hello.sdk.as_deref(), hello.features), (Some(concat!("rust/", env!("CARGO_PKG_VERSION"))), vec!["x-test".into()]));
    assert_eq!((worker.id(), worker.generation(), worker.slot(), worker.pool_size()), (7, 3, 1, 2));
    assert!(!worker.is_standalone());
}

#[test]
fn a_refused_worker_learns_why_even_if_the_connection_ends_at_once() {
    let master = FakeMaster::new();
    let settings = master.settings();
    let connecting = std::thread::spawn(move || Worker::connect(settings));
    let (peer, _) = master.accept();
    peer.refuse(None, "bad-token");
    drop(peer);
    assert!(matches!(connecting.join().unwrap(), Err(ConnectError::Refused { code, .. }) if code == "bad-token"));
}

#[test]
fn without_a_master_at_the_socket_connecting_fails() {
    let nobody = Settings::new("/nonexistent/dutch-master.sock", "token");
    assert!(matches!(Worker::connect(nobody), Err(ConnectError::Connect { .. })));
}

#[test]
fn a_worker_whose_master_dies_before_its_welcome_tries_the_next_one() {
    let mut master = FakeMaster::new();
    let settings = master.settings();
    let connecting = std::thread::spawn(move || Worker::connect(settings));
    let (peer, _) = master.accept();
    master.die(peer);
    master.succeed();
    let (peer, hello) = master.accept();
    assert_eq!(hello.resume, None);
    peer.say(&FromMaster::Welcome(welcome()));
    assert_eq!(connecting.join().unwrap().unwrap().id(), 7);
}

#[test]
fn a_master_that_never_says_welcome_is_given_up() {
    let master = FakeMaster::new();
    let before = Instant::now();
    assert!(matches!(Worker::connect(master.settings()), Err(ConnectError::Timeout)));
    assert!(before.elapsed() >= limits::WELCOME_TIMEOUT);
}

#[test]
fn a_listener_arrives_and_accepts() {
    let master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let bound = tcp();
    let address = bound.local_addr().unwrap();
    let asking = std::thread::spawn(move || worker.listen_blocking(address).unwrap());
    let asked = peer.expect_listen();
    assert_eq!(asked.address.unwrap().port, Some(address.port()));
    peer.hand_over(asked.seq, &bound);
    let listener = asking.join().unwrap();
    assert_eq!((listener.key(), listener.data()), ("key 1", Some("data")));
    let _client = TcpStream::connect(address).unwrap();
    let adopted = listener.into_std_tcp().unwrap();
    assert_eq!(adopted.local_addr().unwrap(), address);
    adopted.accept().unwrap();
}

#[test]
fn of_two_descriptors_with_one_byte_none_is_taken_and_both_are_closed() {
    let master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let asking = std::thread::spawn(move || worker.listen_blocking(0).unwrap());
    let asked = peer.expect_listen();
    let (first, second) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    peer.announce(asked.seq);
    send_fds(peer.socket.as_fd(), &[first.1.as_fd(), second.1.as_fd()]).unwrap();
    assert!(matches!(peer.expect(), FromWorker::Error(error) if error.code == "bad-descriptors"));
    assert_eq!(peer.next(), None);
    for (mut ours, theirs) in [first, second] {
        drop(theirs);
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(ours.read(&mut [0]).unwrap(), 0, "nobody holds the other end");
    }
    // Nothing was handed out: the request is still waiting for its listener.
    let (mut peer, _) = master.take_back(welcome());
    assert_eq!(peer.expect_listen().seq, asked.seq);
    peer.hand_over(asked.seq, tcp());
    asking.join().unwrap().into_std_tcp().unwrap();
}

#[test]
fn a_refusal_carries_the_masters_code() {
    let master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let asking = std::thread::spawn(move || worker.listen_blocking("127.0.0.1:80").unwrap_err());
    let asked = peer.expect_listen();
    peer.refuse(Some(asked.seq), "EADDRINUSE");
    assert_eq!(asking.join().unwrap().code(), "EADDRINUSE");
}

#[test]
fn a_caller_who_stopped_waiting_holds_no_listener() {
    let master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let _ = pollster::block_on(async {
        let mut listening = Box::pin(worker.listen(0));
        std::future::poll_fn(|context| std::task::Poll::Ready(listening.as_mut().poll(context).is_pending())).await
    });
    let asked = peer.expect_listen();
    peer.hand_over(asked.seq, tcp());
    assert_eq!(peer.expect(), FromWorker::Close(Close { key: format!("key {}", asked.seq) }));
}

#[test]
fn a_request_that_makes_no_sense_is_not_sent_and_called_back_all_the_same() {
    let master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    assert!(matches!(worker.listen_blocking("nonsense"), Err(ListenError::Address(_))));
    worker.drained();
    assert_eq!(peer.expect(), FromWorker::Disconnect(Drained::default()));
}

#[test]
fn without_resume_whatever_waits_for_a_listener_learns_of_the_end_of_the_connection() {
    let master = FakeMaster::new();
    let (worker, mut peer) = master.connect_as(Settings { features: vec![], ..master.settings() }, welcome());
    let asking = std::thread::spawn({
        let worker = worker.clone();
        move || worker.listen_blocking(80)
    });
    peer.expect_listen();
    drop(peer);
    assert!(matches!(asking.join().unwrap(), Err(ListenError::Disconnected)));
    assert!(matches!(worker.listen_blocking(80), Err(ListenError::Disconnected)));
}

#[test]
fn a_worker_says_what_it_is_told_to_say() {
    let master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    worker.listening(None);
    worker.request_restart(Some(&"é".repeat(limits::REASON_MAX)));
    worker.message(r#"{"a":1}"#).unwrap();
    worker.leave(None);
    worker.drained();
    assert_eq!(peer.expect(), FromWorker::Listening(Listening { address: None }));
    assert_eq!(peer.expect(), FromWorker::RequestRestart(RequestRestart { reason: Some("é".repeat(limits::REASON_MAX / 2)) }));
    assert!(matches!(peer.expect(), FromWorker::Message(message) if message.json == r#"{"a":1}"#));
    // `leaving` is said by the session thread, so it may come after `disconnect`, which is said at once.
    let mut last = [peer.expect(), peer.expect()];
    last.sort_by_key(|message| matches!(message, FromWorker::Disconnect(_)));
    assert_eq!(last, [FromWorker::Leaving(Leaving { reason: None }), FromWorker::Disconnect(Drained::default())]);
    assert_eq!(worker.order().unwrap().reason, Reason::Leaving);
    assert_eq!(worker.message(&"x".repeat(20_000)).unwrap_err().length, 20_000);
}

#[test]
fn an_order_reaches_everybody_who_waits_for_it() {
    let master = FakeMaster::new();
    let (worker, peer) = master.connect(welcome());
    let told = events(&worker);
    let waiting = std::thread::spawn({
        let worker = worker.clone();
        move || worker.wait_for_order()
    });
    assert_eq!(worker.order(), None);
    peer.disconnect(DisconnectReason::ScaleDown, PATIENCE);
    let order = waiting.join().unwrap();
    assert_eq!(order.reason, Reason::ScaleDown);
    assert!(order.remaining() > PATIENCE / 2 && order.remaining() <= PATIENCE);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Event::Order(order)));
    assert_eq!((worker.order(), pollster::block_on(worker.ordered())), (Some(order), order));
    assert_eq!(events(&worker).recv_timeout(PATIENCE), Ok(Event::Order(order)), "who comes late is told, too");
}

#[test]
fn an_order_right_behind_welcome_is_not_lost() {
    let master = FakeMaster::new();
    let settings = master.settings();
    let connecting = std::thread::spawn(move || Worker::connect(settings).unwrap());
    let (peer, _) = master.accept();
    let both = [
        dutch_master_protocol::codec::encode(&FromMaster::Welcome(welcome())).unwrap(),
        dutch_master_protocol::codec::encode(&FromMaster::Disconnect(dutch_master_protocol::message::Disconnect {
            reason: DisconnectReason::Stop,
            timeout_ms: 1_000,
        }))
        .unwrap(),
    ];
    peer.write(&both.concat());
    assert_eq!(connecting.join().unwrap().wait_for_order().reason, Reason::Stop);
}

#[test]
fn an_unexpected_descriptor_ends_the_connection_and_the_worker_serves_on() {
    let master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let told = events(&worker);
    let (mut probe, gift) = std::os::unix::net::UnixStream::pair().unwrap();
    // An event that no version knows, its first byte (zero) sent with a descriptor.
    send_fd(peer.socket.as_fd(), gift.as_fd()).unwrap();
    peer.write(b"\0\0\x0c\x81\xa5event\xa4news");
    drop(gift);
    assert!(matches!(peer.next(), Some(FromWorker::Error(error)) if error.code == "bad-descriptors"));
    assert_eq!(peer.next(), None);
    probe.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(probe.read(&mut [0]).unwrap(), 0, "the descriptor was closed");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Event::Disconnected { ordered: false }));
    assert_eq!(worker.order(), None);
}

#[test]
fn a_worker_whose_master_is_gone_for_too_long_has_to_go() {
    let master = FakeMaster::new();
    let (worker, peer) = master.connect(Welcome { orphan_timeout_ms: Some(50), ..welcome() });
    let told = events(&worker);
    drop(peer);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Event::Disconnected { ordered: false }));
    assert_eq!(worker.wait_for_order().reason, Reason::Orphaned);
    worker.drained();
    worker.listening(None);
}

#[test]
fn last_words_of_the_master_are_passed_on() {
    let master = FakeMaster::new();
    let (worker, peer) = master.connect(welcome());
    let told = events(&worker);
    peer.refuse(None, "superseded");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Event::Error { code: "superseded".into(), message: "no".into() }));
}

#[test]
fn a_master_that_never_reads_costs_the_connection_and_hangs_nobody_for_ever() {
    let master = FakeMaster::new();
    let (worker, _peer) = master.connect(welcome());
    let text = "x".repeat(16_000);
    let told = events(&worker);
    // Far more than a socket buffers; only the write that fills it waits, the later ones fail at once.
    (0..1_000).for_each(|_| worker.message(&text).unwrap());
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Event::Disconnected { ordered: false }));
}
