//! The session's rules, with bytes in and outputs out.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use dutch_master_protocol::codec::encode;
use dutch_master_protocol::message::{
    Close, Disconnect, DisconnectReason, ErrorMessage, FromMaster, FromWorker, Hello, Leaving, Listener as ListenerMessage, ReturnListener, Welcome, codes,
    features,
};

use super::{Output, Session, Violation};
use crate::limits::{LISTEN_TIMEOUT, LISTENS_MAX, ORPHAN_TIMEOUT};
use crate::order::Reason;
use crate::request::ListenRequest;
use crate::settings::ConnectError;
use crate::worker::ListenError;

mod first;
mod resume;
mod vectors;

/// A session and the time it believes in.
struct World {
    session: Session,
    now: Instant,
}

impl World {
    /// It has not connected yet.
    fn new(features: &[&str]) -> World {
        let now = Instant::now();
        let hello = Hello { protocol: 1, features: features.iter().map(|feature| (*feature).into()).collect(), ..Hello::default() };
        World { session: Session::new(now, hello, 1), now }
    }

    /// It has said `hello`.
    fn greeting() -> World {
        World::new(&[features::RESUME]).greeted()
    }

    fn open() -> World {
        World::greeting().welcomed()
    }

    fn without_resume() -> World {
        World::new(&[]).greeted().welcomed()
    }

    fn greeted(mut self) -> World {
        self.connect();
        self
    }

    fn welcomed(mut self) -> World {
        self.feed(&frame(&welcome())).unwrap();
        assert!(matches!(self.outputs()[..], [Output::Welcome(_)]));
        self
    }

    /// An attempt to connect, which is due, succeeds.
    #[track_caller]
    fn connect(&mut self) -> Hello {
        self.pass(Duration::ZERO);
        assert!(matches!(self.outputs()[..], [Output::Dial]));
        self.session.dialled(self.now, Ok(()));
        match self.outputs().pop() {
            Some(Output::Say(FromWorker::Hello(hello))) => hello,
            other => panic!("{other:?}"),
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.feed_with(bytes, Vec::new())
    }

    fn feed_with(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) -> Result<(), Violation> {
        self.session.received(self.now, bytes, fds, false)
    }

    fn listen(&mut self, request: impl Into<ListenRequest>) -> u64 {
        self.session.listen(self.now, request.into()).unwrap().seq
    }

    /// The master is gone.
    fn end(&mut self) {
        self.session.ended(self.now, ConnectError::Closed);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.expire(self.now);
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }
}

fn frame(message: &FromMaster) -> Vec<u8> {
    encode(message).unwrap()
}

fn welcome() -> FromMaster {
    FromMaster::Welcome(Welcome { protocol: 1, worker: 7, generation: 3, orphan_timeout_ms: Some(60_000), ..Welcome::default() })
}

fn handing_over(seq: u64, fds: u8) -> Vec<u8> {
    let mut bytes = frame(&FromMaster::Listener(ListenerMessage { seq, key: format!("key {seq}"), name: None, data: None, address: None, fds }));
    bytes.resize(bytes.len() + usize::from(fds), 0);
    bytes
}

fn go(reason: DisconnectReason, timeout_ms: u64) -> Vec<u8> {
    frame(&FromMaster::Disconnect(Disconnect { reason, timeout_ms }))
}

fn fd() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

#[test]
fn frames_may_be_split_at_every_byte() {
    let mut bytes = frame(&welcome());
    let with_fd = bytes.len() + handing_over(1, 1).len() - 1;
    bytes.extend(handing_over(1, 1));
    bytes.extend(go(DisconnectReason::Restart, 1_000));
    for cut in 1..bytes.len() {
        let mut world = World::greeting();
        // What is asked before `welcome` is said behind it.
        world.listen(1);
        for (part, start) in [(&bytes[..cut], 0), (&bytes[cut..], cut)] {
            let carries = (start..start + part.len()).contains(&with_fd);
            world.feed_with(part, carries.then(fd).into_iter().collect()).unwrap();
        }
        assert!(
            matches!(world.outputs()[..], [Output::Welcome(_), Output::Say(FromWorker::Listen(_)), Output::Listen(1, Ok(_)), Output::Order(_)]),
            "cut at {cut}"
        );
    }
}

#[test]
fn two_listeners_in_one_read_get_their_descriptors_in_order_of_arrival() {
    let mut world = World::open();
    let (first, second) = (world.listen(1), world.listen(2));
    let fds = [File::open("/dev/null").unwrap(), File::open("/dev/zero").unwrap()].map(OwnedFd::from);
    let numbers = fds.each_ref().map(AsRawFd::as_raw_fd);
    world.feed_with(&[handing_over(second, 1), handing_over(first, 1)].concat(), fds.into()).unwrap();
    let mut got = Vec::new();
    for output in world.outputs() {
        let Output::Listen(seq, Ok(listener)) = output else { panic!("{output:?}") };
        got.push((seq, listener.into_fd().as_raw_fd()));
    }
    assert_eq!(got, [(second, numbers[0]), (first, numbers[1])]);
}

#[test]
fn a_descriptor_may_arrive_before_the_message_that_announced_it_is_complete() {
    let mut world = World::open();
    let seq = world.listen(1);
    let bytes = handing_over(seq, 1);
    world.feed_with(&bytes[..10], vec![fd()]).unwrap();
    world.feed(&bytes[10..]).unwrap();
    assert!(matches!(world.outputs()[..], [Output::Listen(1, Ok(_))]));
}

#[test]
fn an_unannounced_descriptor_breaks_the_protocol() {
    let mut world = World::open();
    let error = world.feed_with(&go(DisconnectReason::Stop, 1), vec![fd()]).unwrap_err();
    assert_eq!(error.code(), codes::BAD_DESCRIPTORS);
}

#[test]
fn a_wrong_number_of_descriptors_breaks_the_protocol() {
    let none = World::open().feed(&handing_over(1, 1));
    let two = World::open().feed_with(&handing_over(1, 1), vec![fd(), fd()]);
    let announced = World::open().feed_with(&handing_over(1, 2), vec![fd(), fd()]);
    let mut world = World::open();
    let excess = world.session.received(world.now, &handing_over(1, 1), vec![fd()], true);
    for result in [none, two, announced, excess] {
        assert_eq!(result.unwrap_err().code(), codes::BAD_DESCRIPTORS);
    }
}

#[test]
fn a_byte_that_is_not_zero_carries_no_descriptor() {
    let mut world = World::open();
    let mut bytes = handing_over(1, 1);
    *bytes.last_mut().unwrap() = 1;
    assert_eq!(world.feed_with(&bytes, vec![fd()]).unwrap_err().code(), codes::BAD_DESCRIPTORS);
}

#[test]
fn nothing_but_errors_comes_before_welcome_and_no_second_one_after() {
    assert_eq!(World::greeting().feed(&go(DisconnectReason::Stop, 1)), Err(Violation::Unexpected("disconnect")));
    assert_eq!(World::greeting().feed(&handing_over(1, 1)), Err(Violation::Unexpected("listener")));
    assert_eq!(World::open().feed(&frame(&welcome())), Err(Violation::Unexpected("welcome")));
}

#[test]
fn another_version_is_refused() {
    let other = FromMaster::Welcome(Welcome { protocol: 2, ..Welcome::default() });
    assert_eq!(World::greeting().feed(&frame(&other)), Err(Violation::Version(2)));
}

#[test]
fn malformed_bytes_break_the_protocol_and_unknown_events_do_not() {
    assert_eq!(World::open().feed(&[0, 0, 0, 0]).unwrap_err().code(), codes::MALFORMED);
    assert_eq!(World::open().feed(&[1, 0, 0, 0]).unwrap_err().code(), codes::TOO_LARGE);
    let unknown = b"\0\0\0\x0c\x81\xa5event\xa4news";
    let mut world = World::open();
    world.feed(unknown).unwrap();
    assert!(world.outputs().is_empty());
}

#[test]
fn a_refused_request_says_why() {
    let mut world = World::open();
    let seq = world.listen(80);
    let refusal = ErrorMessage { seq: Some(seq), code: "EADDRINUSE".into(), message: "taken".into() };
    world.feed(&frame(&FromMaster::Error(refusal))).unwrap();
    match &world.outputs()[..] {
        [Output::Listen(_, Err(error @ ListenError::Refused { .. }))] => assert_eq!(error.code(), "EADDRINUSE"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_without_answer_times_out_and_a_late_listener_is_closed() {
    let mut world = World::open();
    let seq = world.listen(80);
    assert_eq!(world.session.poll_deadline(), Some(world.now + LISTEN_TIMEOUT));
    world.pass(LISTEN_TIMEOUT - Duration::from_millis(1));
    assert!(world.outputs().is_empty());
    world.pass(Duration::from_millis(1));
    assert!(matches!(world.outputs()[..], [Output::Listen(1, Err(ListenError::Timeout))]));
    world.feed_with(&handing_over(seq, 1), vec![fd()]).unwrap();
    assert!(matches!(&world.outputs()[..], [Output::Say(FromWorker::Close(Close { key }))] if key == "key 1"));
}

#[test]
fn requests_without_an_answer_are_limited() {
    let mut world = World::open();
    (0..LISTENS_MAX).for_each(|_| _ = world.listen(80));
    assert!(matches!(world.session.listen(world.now, 80.into()), Err(ListenError::TooMany)));
}

#[test]
fn requests_for_port_0_are_counted() {
    let mut world = World::open();
    let mut index = |request: ListenRequest| world.session.listen(world.now, request).unwrap().index;
    assert_eq!([index(0.into()), index(80.into()), index("127.0.0.1:0".into()), index(ListenRequest::from(0).index(9))], [Some(0), None, Some(1), Some(9)]);
}

#[test]
fn the_deadline_of_an_order_only_moves_earlier_and_its_first_reason_stays() {
    let mut world = World::open();
    for (reason, timeout_ms, left) in [(DisconnectReason::Restart, 5_000, 5_000), (DisconnectReason::Stop, 9_000, 5_000), (DisconnectReason::Stop, 100, 100)] {
        world.feed(&go(reason, timeout_ms)).unwrap();
        let order = world.session.order().unwrap();
        assert_eq!((order.reason, order.deadline), (Reason::Restart, world.now + Duration::from_millis(left)));
    }
    assert_eq!(world.outputs().len(), 2, "an order that changes nothing is not told");
}

#[test]
fn an_order_without_an_end_is_an_order() {
    let mut world = World::open();
    world.feed(&go(DisconnectReason::Restart, 1 << 53)).unwrap();
    assert!(world.session.order().is_some());
}

#[test]
fn leaving_is_said_once_and_is_an_order_like_any_other() {
    let mut world = World::open();
    let said = world.session.leave(world.now, Some("tired".into()));
    assert_eq!(said, Some(FromWorker::Leaving(Leaving { reason: Some("tired".into()) })));
    assert_eq!(world.session.leave(world.now, None), None);
    assert!(matches!(&world.outputs()[..], [Output::Order(order)] if order.reason == Reason::Leaving));
}

#[test]
fn the_masters_last_words_end_the_connection_and_nothing_behind_them_counts() {
    let mut world = World::open();
    let words = ErrorMessage { seq: None, code: codes::LIMIT.into(), message: "too much".into() };
    world.feed(&[frame(&FromMaster::Error(words)), go(DisconnectReason::Stop, 1)].concat()).unwrap();
    assert!(!world.session.is_connected());
    assert!(matches!(world.outputs()[..], [Output::Error(_), Output::Ended { ordered: false }]));
}

#[test]
fn without_resume_the_end_of_the_connection_fails_what_waits() {
    let mut world = World::without_resume();
    world.listen(80);
    world.end();
    world.end();
    assert!(matches!(world.outputs()[..], [Output::Ended { ordered: false }, Output::Listen(1, Err(ListenError::Disconnected))]));
    assert!(matches!(world.session.listen(world.now, 80.into()), Err(ListenError::Disconnected)));
}

#[test]
fn without_resume_an_orphan_serves_for_the_orphan_timeout_and_then_has_to_go() {
    let mut world = World::without_resume();
    world.end();
    world.pass(Duration::from_millis(59_999));
    assert!(matches!(world.outputs()[..], [Output::Ended { .. }]));
    world.pass(Duration::from_millis(1));
    assert!(matches!(world.outputs()[..], [Output::Order(order)] if order.reason == Reason::Orphaned && order.deadline == world.now + ORPHAN_TIMEOUT));
    assert_eq!(world.session.poll_deadline(), None);
}

#[test]
fn without_resume_an_orphan_without_a_timeout_serves_for_ever() {
    let mut world = World::new(&[]).greeted();
    world.feed(&frame(&FromMaster::Welcome(Welcome { protocol: 1, ..Welcome::default() }))).unwrap();
    world.end();
    assert_eq!(world.session.poll_deadline(), None);
}

#[test]
fn after_an_order_the_end_of_the_connection_changes_nothing() {
    for mut world in [World::open(), World::without_resume()] {
        world.feed(&go(DisconnectReason::Restart, 600_000)).unwrap();
        let order = world.session.order();
        world.end();
        assert!(matches!(world.outputs()[..], [Output::Order(_), Output::Ended { ordered: true }]));
        world.pass(Duration::from_secs(60));
        assert_eq!((world.session.order(), world.session.poll_deadline()), (order, None), "not even that there is no master for too long");
    }
}

#[test]
fn last_words_of_the_master_are_the_end_of_the_connection_and_nothing_behind_them_counts() {
    let mut world = World::without_resume();
    let words = FromMaster::Error(ErrorMessage { seq: None, code: codes::LIMIT.into(), message: "enough".into() });
    world.feed(&[frame(&words), go(DisconnectReason::Stop, 1)].concat()).unwrap();
    assert!(!world.session.is_connected());
    assert!(matches!(&world.outputs()[..], [Output::Error(_), Output::Ended { ordered: false }]));
    world.pass(Duration::from_secs(60));
    assert!(matches!(&world.outputs()[..], [Output::Order(order)] if order.reason == Reason::Orphaned));
}
