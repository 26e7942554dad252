//! The first connection: which failures are tried again.

use super::*;
use crate::limits::{CONNECT_TIMEOUT, RECONNECT_MAX};

#[test]
fn the_first_connection_is_tried_again_while_a_successor_may_come() {
    let closed = |world: &mut World| world.session.ended(world.now, ConnectError::Closed);
    let mut world = World::greeting();
    closed(&mut world);
    let began = world.now;
    let failure = loop {
        world.now = world.session.poll_deadline().expect("another attempt");
        assert_eq!(world.connect().resume, None, "it has nothing to resume");
        closed(&mut world);
        if let Some(output) = world.outputs().pop() {
            break output;
        }
    };
    assert!(matches!(failure, Output::Failed(ConnectError::Closed)));
    assert!(world.now - began < CONNECT_TIMEOUT && world.now - began > CONNECT_TIMEOUT - RECONNECT_MAX);
    assert_eq!(world.session.poll_deadline(), None);
}

#[test]
fn the_first_connection_is_not_tried_again_where_that_makes_no_sense() {
    let refused = |code: &str| ConnectError::Refused { code: code.into(), message: "no".into() };
    let connect = |kind: std::io::ErrorKind| ConnectError::Connect { path: "/s".into(), source: kind.into() };
    for (cause, again) in [
        (refused(codes::BAD_TOKEN), false),
        (refused(codes::BAD_VERSION), false),
        (refused(codes::LIMIT), true),
        (ConnectError::Timeout, false),
        (ConnectError::Protocol(Violation::Version(2)), false),
        (ConnectError::Closed, true),
        (ConnectError::Io(std::io::ErrorKind::ConnectionReset.into()), true),
        (connect(std::io::ErrorKind::NotFound), false),
        (connect(std::io::ErrorKind::ConnectionRefused), true),
        (connect(std::io::ErrorKind::WouldBlock), true),
    ] {
        let mut world = World::greeting();
        let text = format!("{cause:?}");
        world.session.ended(world.now, cause);
        assert_eq!(matches!(world.outputs()[..], [Output::Failed(_)]), !again, "{text}");
        assert_eq!(world.session.poll_deadline().is_some(), again, "{text}");
    }
}
