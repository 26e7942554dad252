//! What a worker does without a master, and how it comes back.

use dutch_master_protocol::message::{AppMessage, Drained, Heartbeat, Listening, RequestRestart, Resume, ResumeState};

use super::*;
use crate::limits::{MESSAGES_KEPT, RECONNECT_MAX, RECONNECT_MIN, WELCOME_TIMEOUT};

impl World {
    /// Lets the pause before the next attempt go by, and connects.
    #[track_caller]
    fn reconnect(&mut self) -> Resume {
        let at = self.session.poll_deadline().expect("an attempt is due");
        self.now = self.now.max(at);
        self.outputs();
        self.connect().resume.expect("the worker comes back")
    }

    /// How long the session waits for its next attempt, which fails.
    fn attempt(&mut self) -> Duration {
        let pause = self.session.poll_deadline().unwrap() - self.now;
        self.pass(pause);
        assert!(matches!(self.outputs()[..], [Output::Dial]));
        self.session.dialled(self.now, Err(unreachable()));
        pause
    }

    fn refuse(&mut self, code: &str) {
        self.feed(&frame(&FromMaster::Error(ErrorMessage { seq: None, code: code.into(), message: "no".into() }))).unwrap();
    }

    fn say(&mut self, message: FromWorker) -> Option<FromWorker> {
        self.session.say(message)
    }

    /// What is said after `welcome`.
    #[track_caller]
    fn welcome(&mut self) -> Vec<FromWorker> {
        self.feed(&frame(&welcome())).unwrap();
        let mut outputs = self.outputs().into_iter();
        assert!(matches!(outputs.next(), Some(Output::Welcome(_))));
        let said = outputs.filter_map(|output| if let Output::Say(message) = output { Some(message) } else { None });
        said.collect()
    }

    /// Asks for a listener and gets it.
    fn hold(&mut self) -> String {
        let seq = self.listen(80);
        self.feed_with(&handing_over(seq, 1), vec![fd()]).unwrap();
        self.outputs();
        format!("key {seq}")
    }
}

fn unreachable() -> ConnectError {
    ConnectError::Connect { path: "/gone".into(), source: std::io::ErrorKind::ConnectionRefused.into() }
}

fn listening() -> FromWorker {
    FromWorker::Listening(Listening { address: None })
}

fn restart(reason: &str) -> FromWorker {
    FromWorker::RequestRestart(RequestRestart { reason: Some(reason.into()) })
}

fn app(json: &str) -> FromWorker {
    FromWorker::Message(AppMessage { json: json.into() })
}

#[test]
fn a_worker_that_comes_back_says_where_it_is_in_its_life() {
    let mut world = World::open();
    world.end();
    assert_eq!(world.reconnect(), Resume { generation: 3, state: ResumeState::Starting, keys: vec![], remaining_ms: None });
    assert_eq!(world.welcome(), []);

    let key = world.hold();
    world.say(listening());
    world.end();
    assert_eq!(world.reconnect(), Resume { generation: 3, state: ResumeState::Running, keys: vec![key.clone()], remaining_ms: None });
    assert_eq!(world.welcome(), []);

    world.feed(&go(DisconnectReason::Restart, 5_000)).unwrap();
    world.pass(Duration::from_secs(1));
    world.end();
    let resume = world.reconnect();
    assert_eq!((resume.state, resume.keys), (ResumeState::Draining, vec![key.clone()]));
    assert!(matches!(resume.remaining_ms, Some(3_980..=3_995)), "{:?}", resume.remaining_ms);
    assert_eq!(world.welcome(), []);

    world.say(FromWorker::Close(Close { key }));
    world.pass(Duration::from_secs(10));
    world.end();
    let resume = world.reconnect();
    assert_eq!((resume.state, resume.keys, resume.remaining_ms), (ResumeState::Draining, vec![], Some(0)));
}

#[test]
fn what_was_said_without_a_master_is_in_the_next_hello_and_not_said_twice() {
    let mut world = World::open();
    let key = world.hold();
    world.end();
    world.outputs();
    assert_eq!(world.say(listening()), None);
    assert_eq!(world.say(FromWorker::Close(Close { key })), None);
    let resume = world.reconnect();
    assert_eq!((resume.state, resume.keys), (ResumeState::Running, vec![]));
    assert_eq!(world.welcome(), []);

    world.end();
    world.outputs();
    assert_eq!(world.session.leave(world.now, None), None);
    assert!(matches!(world.outputs()[..], [Output::Order(order)] if order.reason == Reason::Leaving));
    assert_eq!(world.reconnect().state, ResumeState::Draining);
    assert_eq!(world.welcome(), []);
}

#[test]
fn what_was_said_between_hello_and_welcome_is_said_then() {
    let mut world = World::open();
    let key = world.hold();
    world.end();
    world.reconnect();
    let close = FromWorker::Close(Close { key });
    assert_eq!((world.say(close.clone()), world.say(listening()), world.say(app("1"))), (None, None, None));
    world.session.leave(world.now, Some("tired".into()));
    assert!(matches!(world.outputs()[..], [Output::Order(_)]));
    assert_eq!(world.welcome(), [close, listening(), FromWorker::Leaving(Leaving { reason: Some("tired".into()) }), app("1")]);
}

#[test]
fn a_wish_to_be_replaced_is_repeated_to_each_master_until_there_is_an_order() {
    let mut world = World::open();
    world.say(restart("too early"));
    world.say(listening());
    world.end();
    world.reconnect();
    assert_eq!(world.welcome(), [], "before `listening` it meant nothing");
    assert_eq!(world.say(restart("leaks")), Some(restart("leaks")));
    for _ in 0..2 {
        world.end();
        world.reconnect();
        assert_eq!(world.welcome(), [restart("leaks")]);
    }
    world.feed(&go(DisconnectReason::Request, 600_000)).unwrap();
    world.end();
    world.reconnect();
    assert_eq!(world.welcome(), []);
}

#[test]
fn the_last_word_of_a_drained_worker_is_repeated() {
    let mut world = World::open();
    world.hold();
    world.feed(&go(DisconnectReason::Restart, 5_000)).unwrap();
    assert_eq!(world.say(FromWorker::Disconnect(Drained::default())), Some(FromWorker::Disconnect(Drained::default())));
    world.end();
    let resume = world.reconnect();
    assert_eq!((resume.state, resume.keys), (ResumeState::Draining, vec![]));
    assert_eq!(world.welcome(), [FromWorker::Disconnect(Drained::default())]);
}

#[test]
fn heartbeats_are_not_kept_and_messages_up_to_a_limit() {
    let mut world = World::open();
    world.end();
    (0..=MESSAGES_KEPT).for_each(|n| assert_eq!(world.say(app(&n.to_string())), None));
    world.say(FromWorker::Heartbeat(Heartbeat {}));
    world.reconnect();
    let expected: Vec<FromWorker> = (0..MESSAGES_KEPT).map(|n| app(&n.to_string())).collect();
    assert_eq!(world.welcome(), expected);
    world.end();
    world.reconnect();
    assert_eq!(world.welcome(), [], "they are said once");
}

#[test]
fn an_open_request_is_asked_again_until_its_time_is_over() {
    let mut world = World::open();
    let began = world.now;
    let asked = world.session.listen(world.now, 80.into()).unwrap();
    // The master died between the message and the descriptor.
    let answer = handing_over(asked.seq, 1);
    world.feed(&answer[..answer.len() - 1]).unwrap();
    world.end();
    let meanwhile = world.session.listen(world.now, 81.into()).unwrap();
    world.reconnect();
    assert_eq!(world.welcome(), [FromWorker::Listen(asked.clone()), FromWorker::Listen(meanwhile.clone())]);
    world.feed_with(&handing_over(meanwhile.seq, 1), vec![fd()]).unwrap();
    assert!(matches!(world.outputs()[..], [Output::Listen(seq, Ok(_))] if seq == meanwhile.seq));
    world.now = began;
    world.pass(LISTEN_TIMEOUT);
    assert!(matches!(world.outputs()[..], [Output::Listen(seq, Err(ListenError::Timeout))] if seq == asked.seq));
    world.end();
    world.reconnect();
    assert_eq!(world.welcome(), []);
}

#[test]
fn half_a_message_of_a_dead_master_garbles_nothing() {
    let message = go(DisconnectReason::Stop, 1_000);
    for cut in 1..message.len() {
        let mut world = World::open();
        world.feed_with(&message[..cut], vec![fd()]).unwrap();
        world.end();
        world.reconnect();
        assert_eq!(world.welcome(), []);
        world.feed(&go(DisconnectReason::Restart, 1_000)).unwrap();
        assert_eq!(world.session.order().map(|order| order.reason), Some(Reason::Restart));
    }
}

#[test]
fn a_worker_that_has_to_go_asks_for_nothing_again() {
    let mut world = World::open();
    world.listen(80);
    world.end();
    world.session.leave(world.now, None);
    world.reconnect();
    world.feed(&frame(&welcome())).unwrap();
    assert!(matches!(world.outputs()[..], [Output::Welcome(_), Output::Listen(1, Err(ListenError::Disconnected))]));
}

#[test]
fn the_pauses_between_attempts_grow_and_are_spread_by_chance() {
    let mut world = World::open();
    world.end();
    world.outputs();
    let mut longest = RECONNECT_MIN;
    for _ in 0..20 {
        let pause = world.attempt();
        assert!(pause >= longest / 2 && pause <= longest, "{pause:?} where {longest:?} is the most");
        longest = (longest * 2).min(RECONNECT_MAX);
    }
    world.reconnect();
    world.welcome();
    world.end();
    world.outputs();
    assert!(world.attempt() <= RECONNECT_MIN, "a master had come");

    let first = |seed| {
        let mut world = World::new(&[features::RESUME]);
        world.session = Session::new(world.now, Hello { features: vec![features::RESUME.into()], ..Hello::default() }, seed);
        let mut world = world.greeted().welcomed();
        world.end();
        world.outputs();
        world.attempt()
    };
    assert_ne!(first(1), first(2));
}

#[test]
fn a_worker_that_was_thrown_out_does_not_knock_at_once() {
    let mut world = World::open();
    world.refuse(codes::LIMIT);
    world.outputs();
    assert!(world.attempt() >= RECONNECT_MAX / 2);
}

#[test]
fn a_master_that_does_not_answer_is_tried_again() {
    let mut world = World::open();
    world.end();
    world.reconnect();
    world.pass(WELCOME_TIMEOUT);
    assert!(!world.session.is_connected());
    world.reconnect();
    assert!(world.session.is_connected());
}

#[test]
fn each_refusal_has_its_consequence() {
    // Whether the worker tries again, and whether it has to go.
    for (code, again, goes) in [
        (codes::RESUME_REFUSED, false, true),
        (codes::BAD_TOKEN, false, true),
        (codes::SUPERSEDED, false, false),
        (codes::LIMIT, true, false),
        (codes::STOPPING, true, false),
        ("x-new", true, false),
    ] {
        let mut world = World::open();
        let seq = world.listen(80);
        world.end();
        world.reconnect();
        world.refuse(code);
        assert!(!world.session.is_connected(), "{code}");
        assert_eq!(world.session.order().map(|order| order.reason), goes.then_some(Reason::Orphaned), "{code}");
        let failed = world.outputs().iter().any(|output| matches!(output, Output::Listen(failed, Err(ListenError::Disconnected)) if *failed == seq));
        assert_eq!(failed, !again, "{code}");
        let wait = world.session.poll_deadline().map(|at| at - world.now);
        assert_eq!(wait.is_some_and(|wait| wait <= RECONNECT_MAX), again, "{code}");
    }
}

#[test]
fn a_worker_that_was_superseded_goes_when_its_time_as_an_orphan_is_over() {
    let mut world = World::open();
    world.refuse(codes::SUPERSEDED);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.session.order().map(|order| order.reason), Some(Reason::Orphaned));
}

#[test]
fn a_master_that_takes_a_worker_for_another_is_none_of_its_own() {
    let mut world = World::open();
    world.end();
    world.reconnect();
    let other = FromMaster::Welcome(Welcome { protocol: 1, worker: 8, ..Welcome::default() });
    let violation = world.feed(&frame(&other)).unwrap_err();
    assert_eq!(violation, Violation::Mistaken { own: 7, told: 8 });
    world.session.ended(world.now, violation.into());
    assert_eq!(world.session.order().map(|order| order.reason), Some(Reason::Orphaned));
}

#[test]
fn the_time_of_an_orphan_begins_with_the_loss_and_ends_whatever_it_is_doing() {
    let gone = |mut world: World| {
        world.now = world.session.poll_deadline().unwrap();
        world.pass(Duration::from_secs(60));
        assert!(world.outputs().iter().any(|output| matches!(output, Output::Order(order) if order.reason == Reason::Orphaned)));
        assert!(!world.session.is_connected());
        assert_eq!(world.session.poll_deadline(), None);
    };
    let mut away = World::open();
    away.end();
    let mut greeting = World::open();
    greeting.end();
    greeting.reconnect();
    gone(away);
    gone(greeting);

    let mut taken_back = World::open();
    taken_back.end();
    taken_back.pass(Duration::from_secs(59));
    taken_back.outputs();
    taken_back.session.dialled(taken_back.now, Ok(()));
    taken_back.outputs();
    taken_back.welcome();
    taken_back.pass(Duration::from_secs(2));
    assert_eq!(taken_back.session.order(), None);
}

#[test]
fn without_an_orphan_timeout_a_worker_tries_for_ever() {
    let mut world = World::greeting();
    world.feed(&frame(&FromMaster::Welcome(Welcome { protocol: 1, worker: 7, ..Welcome::default() }))).unwrap();
    world.end();
    world.outputs();
    (0..1_000).for_each(|_| _ = world.attempt());
    world.reconnect();
}

#[test]
fn a_listener_that_is_held_can_be_had_back_until_it_is_closed() {
    let ask = |world: &mut World, key: &str| {
        world.feed(&frame(&FromMaster::ReturnListener(ReturnListener { seq: 4, key: key.into() }))).unwrap();
        world.outputs().pop()
    };
    let refused = |output: Option<Output>| matches!(output, Some(Output::Say(FromWorker::Error(error))) if error.seq == Some(4) && error.code == "EBADF");
    let mut world = World::open();
    assert!(refused(ask(&mut world, "key 1")));
    let key = world.hold();
    let Some(Output::GiveBack(message, _)) = ask(&mut world, &key) else { panic!() };
    assert_eq!((message.seq, message.key, message.fds), (4, key.clone(), 1));
    world.say(FromWorker::Close(Close { key: key.clone() }));
    assert!(refused(ask(&mut world, &key)));

    for last in [go(DisconnectReason::Stop, 5_000), go(DisconnectReason::Restart, 5_000)] {
        let stop = last == go(DisconnectReason::Stop, 5_000);
        let mut world = World::open();
        let key = world.hold();
        world.feed(&last).unwrap();
        assert_eq!(refused(ask(&mut world, &key)), stop, "a pool that stops wants nothing back, and nothing may keep its listeners open");
        world.say(FromWorker::Disconnect(Drained::default()));
        assert!(refused(ask(&mut world, &key)));
    }
    let mut world = World::without_resume();
    let key = world.hold();
    assert!(refused(ask(&mut world, &key)));
}
