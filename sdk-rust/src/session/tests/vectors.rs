//! The sessions that implementers of workers are given, played by this session: whole, and with what is heard cut at every byte.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dutch_master_protocol::hex;
use dutch_master_protocol::message::{AppMessage, Drained, Listening, RequestRestart};
use serde_json::{Value, json};

use super::*;

const FILE: &str = include_str!("../../../../protocol/vectors/worker-sessions.json");

/// What was seen of the worker, in the words of the file.
type Seen = VecDeque<Value>;

/// A worker, and how much of what it hears it has heard.
struct Played {
    world: World,
    seen: Seen,
    /// After this many bytes of the session there is a new read.
    cut: usize,
    heard: usize,
    /// The read that is being put together.
    read: Vec<u8>,
    fds: Vec<OwnedFd>,
    /// One byte of it came with several of them.
    excess: bool,
    is_over: bool,
}

impl Played {
    fn new(session: &Value, cut: usize) -> Played {
        let features: Vec<_> = session["features"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        Played { world: World::new(&features), seen: Seen::new(), cut, heard: 0, read: Vec::new(), fds: Vec::new(), excess: false, is_over: false }
    }

    fn step(&mut self, step: &Value) {
        let (what, how) = step.as_object().unwrap().iter().next().unwrap();
        if !what.starts_with("hear") {
            self.arrive();
        }
        if ["hang_up", "pass_ms", "program", "connects"].contains(&what.as_str()) {
            assert_eq!(self.seen, Seen::new(), "more than was expected");
        }
        match what.as_str() {
            "hear" => self.hear(&encode(how).unwrap()),
            "hear_hex" => self.hear(&hex::bytes(how.as_str().unwrap()).unwrap()),
            "hear_fd" => {
                self.fds.push(fd());
                self.hear(&[u8::try_from(how.as_u64().unwrap_or(0)).unwrap()]);
            }
            "hear_fds" => {
                self.fds.extend((0..how.as_u64().unwrap()).map(|_| fd()));
                self.excess = true;
                self.hear(&[0]);
            }
            "hang_up" => self.world.end(),
            "pass_ms" => self.world.pass(Duration::from_millis(how.as_u64().unwrap())),
            "program" => self.program(how),
            "connects" => {
                let at = self.world.session.poll_deadline().expect("a time for the next attempt").max(self.world.now);
                assert!(at - self.world.now <= Duration::from_millis(500));
                self.world.now = at;
                self.world.session.expire(at);
                self.look();
                self.expect("dials", &true.into());
                self.world.session.dialled(at, Ok(()));
            }
            "ends" => assert!(!self.world.session.is_connected(), "the connection has ended"),
            expected => self.expect(expected, how),
        }
        if !what.starts_with("hear") {
            self.look();
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.read.push(*byte);
            self.heard += 1;
            if self.heard == self.cut {
                self.arrive();
            }
        }
    }

    /// What was put together arrives in one read. As the session's owner does, a violation is answered and ends the connection.
    fn arrive(&mut self) {
        let (read, fds) = (std::mem::take(&mut self.read), std::mem::take(&mut self.fds));
        if read.is_empty() || self.is_over {
            return;
        }
        if let Err(violation) = self.world.session.received(self.world.now, &read, fds, std::mem::take(&mut self.excess)) {
            self.look();
            self.seen.push_back(json!({ "say": { "event": "error", "code": violation.code(), "message": violation.to_string() } }));
            self.world.session.ended(self.world.now, violation.into());
            self.is_over = true;
        }
        self.look();
    }

    fn program(&mut self, asked: &Value) {
        let (what, how) = asked.as_object().unwrap().iter().next().unwrap();
        let key = || how["key"].as_str().unwrap().to_owned();
        let said = match what.as_str() {
            "listen" => {
                let request = match how["name"].as_str() {
                    Some(name) => ListenRequest::name(name),
                    None => ListenRequest::from(serde_json::from_value::<dutch_master_protocol::message::Address>(how["address"].clone()).unwrap()),
                };
                let message = self.world.session.listen(self.world.now, request).unwrap();
                self.world.session.is_open().then_some(FromWorker::Listen(message))
            }
            "listening" => self.world.session.say(FromWorker::Listening(Listening::default())),
            "close" => self.world.session.say(FromWorker::Close(Close { key: key() })),
            "request_restart" => self.world.session.say(FromWorker::RequestRestart(RequestRestart { reason: how["reason"].as_str().map(str::to_owned) })),
            "message" => self.world.session.say(FromWorker::Message(AppMessage { json: how["json"].as_str().unwrap().to_owned() })),
            "drained" => self.world.session.say(FromWorker::Disconnect(Drained::default())),
            "leave" => self.world.session.leave(self.world.now, None),
            other => panic!("a program does not ask for {other}"),
        };
        self.seen.extend(said.map(|message| json!({ "say": message })));
    }

    /// What the session wants done, in the words of the file. What people are told is not in it.
    fn look(&mut self) {
        for output in self.world.outputs() {
            let seen = match output {
                Output::Dial => json!({ "dials": true }),
                Output::Say(message) => json!({ "say": message }),
                Output::GiveBack(message, _) => {
                    self.seen.push_back(json!({ "say": FromWorker::Listener(message) }));
                    json!({ "say_fd": true })
                }
                Output::Failed(_) => json!({ "fails": true }),
                Output::Listen(_, Ok(listener)) => json!({ "told": { "listener": listener.key() } }),
                Output::Listen(_, Err(ListenError::Refused { code, .. })) => json!({ "told": { "refused": code } }),
                Output::Listen(_, Err(ListenError::Disconnected)) => json!({ "told": { "refused": "disconnected" } }),
                Output::Listen(_, Err(error)) => json!({ "told": { "refused": error.to_string() } }),
                Output::Order(order) => {
                    let left = u64::try_from((order.deadline - self.world.now).as_millis()).unwrap();
                    json!({ "told": { "order": order.reason.as_str(), "timeout_ms": left } })
                }
                Output::Welcome(_) | Output::Error(_) | Output::Ended { .. } => continue,
            };
            self.seen.push_back(seen);
        }
    }

    fn expect(&mut self, what: &str, expected: &Value) {
        let seen = self.seen.pop_front().unwrap_or_else(|| panic!("{what}: {expected}, but nothing was seen"));
        assert!(has(&seen[what], expected), "{what}: {expected}, not {seen}");
    }
}

/// Whether a value has everything that is expected. The tests' own worker has no token.
fn has(value: &Value, expected: &Value) -> bool {
    match expected {
        Value::Object(map) => map.iter().all(|(key, expected)| key == "token" || has(&value[key], expected)),
        expected @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => value == expected,
    }
}

/// How many bytes are heard in it.
fn play(session: &Value, cut: usize) -> usize {
    let mut played = Played::new(session, cut);
    let steps = session["steps"].as_array().unwrap();
    for (at, step) in steps.iter().enumerate() {
        let outcome = catch_unwind(AssertUnwindSafe(|| played.step(step)));
        assert!(outcome.is_ok(), "{}, step {}: {step}, cut at {cut}", session["id"], at + 1);
    }
    played.arrive();
    assert_eq!(played.seen, Seen::new(), "{}: more than was expected, cut at {cut}", session["id"]);
    played.heard
}

#[test]
fn every_session_of_a_worker_holds_whole_and_cut_at_every_byte() {
    let file: Value = serde_json::from_str(FILE).unwrap();
    let sessions = file["sessions"].as_array().unwrap();
    assert_eq!(file["count"], sessions.len());
    for session in sessions {
        let heard = play(session, 0);
        for cut in 1..heard {
            play(session, cut);
        }
    }
}
