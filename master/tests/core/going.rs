//! Rules 5 and 6: workers that go, are told to, leave by themselves or are lost. «Catches» names a mutation of the rule that makes the case fail.

use dutch_master::core::{Action, Config, Directory, Event, ExitStatus, Report, Said, Signal, WhyGo};
use dutch_master_protocol::message::DisconnectReason;

use crate::rules::config;
use crate::world::World;

/// Rule 5. Catches: wrong margin; SIGTERM not sent after the drain, or twice; SIGKILL missing or early.
#[test]
fn a_drained_worker_gets_sigterm_at_once_and_sigkill_only_at_the_kill_timeout() {
    let mut world = World::running(config(), 2);
    world.scale(1);
    assert_eq!(world.told_to_go(), [(2, WhyGo::ScaleDown)]);
    world.say(2, Said::Disconnect);
    world.say(2, Said::Disconnect);
    assert_eq!(world.signals(), [(2, Signal::Terminate)]);
    assert!(world.has(&Report::WorkerDisconnected { worker: 2 }));
    world.advance(29_999);
    assert_eq!(world.signals().len(), 1);
    world.advance(1);
    assert_eq!(world.signals(), [(2, Signal::Terminate), (2, Signal::Kill)]);
    assert_eq!(world.state(2), "killing");
}

/// Rule 5. Catches: no SIGTERM for a worker that ignores the order.
#[test]
fn a_worker_that_ignores_the_order_gets_sigterm_at_the_announced_timeout_and_then_sigkill() {
    let mut world = World::running(config(), 2);
    world.scale(1);
    world.advance(26_999);
    assert!(world.signals().is_empty());
    world.advance(1);
    assert_eq!(world.signals(), [(2, Signal::Terminate)]);
    world.advance(3_000);
    assert_eq!(world.signals(), [(2, Signal::Terminate), (2, Signal::Kill)]);
}

/// Rule 5. Catches: a signal that comes because some other deadline did.
#[test]
fn nobody_is_signalled_before_its_own_deadline() {
    let mut world = World::running(config(), 3);
    world.scale(2);
    world.advance(10_000);
    world.scale(1);
    world.advance(17_000);
    assert_eq!(world.signals(), [(3, Signal::Terminate)]);
    world.event(Event::DeadlineReached);
    assert_eq!(world.signals(), [(3, Signal::Terminate)]);
}

/// Rule 5. Catches: a margin that leaves nothing to drain.
#[test]
fn the_margin_is_a_tenth_at_least_a_second_at_most_half() {
    for (kill, announced) in [(30_000, 27_000), (5_000, 4_000), (100_000, 90_000), (1_000, 500), (0, 0)] {
        assert_eq!(Config { kill_timeout_ms: kill, ..config() }.announced_ms(), announced);
    }
}

/// Rule 5. Catches: no `disconnect` for a late `hello`, or one with a fresh deadline.
#[test]
fn a_start_told_to_go_gets_sigterm_and_a_late_hello_gets_the_order_with_what_is_left() {
    let mut world = World::running(config(), 1);
    world.scale(2);
    world.event(Event::WorkerSpawned { worker: 2 });
    world.scale(1);
    assert_eq!(world.signals(), [(2, Signal::Terminate)]);
    world.advance(7_000);
    world.event(Event::WorkerConnected { worker: 2 });
    assert!(world.actions.contains(&Action::Disconnect { worker: 2, reason: DisconnectReason::ScaleDown, timeout_ms: 20_000 }));
    world.advance(23_000);
    assert_eq!(world.signals().last(), Some(&(2, Signal::Kill)));
}

/// Rule 5. Catches: a later order that gives more time.
#[test]
fn deadlines_only_move_earlier() {
    let mut world = World::running(config(), 2);
    world.scale(1);
    world.advance(20_000);
    world.event(Event::StopRequested);
    world.advance(10_000);
    assert!(world.signals().contains(&(2, Signal::Kill)));
    assert!(!world.signals().contains(&(1, Signal::Kill)));
}

/// Rule 6. Catches: counting it as a failure, waiting for its exit, or leaving it without a deadline.
#[test]
fn a_leaving_worker_is_replaced_at_once_without_a_failure() {
    let mut world = World::running(config(), 2);
    world.say(1, Said::Leaving);
    assert_eq!(world.spawns(), [(3, 0, 1, Directory::Live)]);
    assert!(!world.actions.iter().any(|a| matches!(a, Action::Disconnect { .. })));
    world.advance(27_000);
    assert_eq!(world.signals(), [(1, Signal::Terminate)]);
    world.advance(3_000);
    assert_eq!(world.signals().last(), Some(&(1, Signal::Kill)));
}

/// Rule 6. Catches: exit 0 counted as a failure. The third one in a row would wait.
#[test]
fn exit_status_0_of_a_running_worker_is_replaced_without_delay_however_often() {
    let mut world = World::running(config(), 1);
    for id in 1..=5 {
        world.exit(id, 0);
        assert_eq!(world.spawned().last(), Some(&(id + 1)));
        world.listening(id + 1);
        world.advance(3_000);
    }
}

/// Rule 6. Catches: a program that listens and ends at once, with status 0, is started for ever without delay.
#[test]
fn exit_status_0_before_the_worker_has_lasted_is_a_failure() {
    let mut world = World::running(config(), 1);
    world.exit(1, 0);
    world.listening(2);
    world.exit(2, 0);
    world.listening(3);
    world.exit(3, 0);
    assert_eq!(world.spawned(), [2, 3]);
    assert!(world.has(&Report::BackingOff { failures: 2, delay_ms: 1_000 }));
}

/// Rule 6. Catches: treating a worker that says `disconnect` by itself as running.
#[test]
fn an_unexpected_disconnect_is_leaving_and_drained_in_one() {
    let mut world = World::running(config(), 1);
    world.say(1, Said::Disconnect);
    assert_eq!(world.spawned(), [2]);
    assert_eq!(world.signals(), [(1, Signal::Terminate)]);
}

/// Rule 6. Catches: waiting for a disconnect or an exit that never comes; replacing before the second is over; SIGTERM before the replacement runs.
#[test]
fn a_lost_worker_is_replaced_after_a_second_and_told_to_go_when_the_replacement_runs() {
    let mut world = World::running(config(), 1);
    world.event(Event::ConnectionEnded { worker: 1 });
    world.advance(999);
    assert!(world.spawned().is_empty());
    world.advance(1);
    assert_eq!(world.state(1), "lost");
    assert_eq!(world.spawned(), [2]);
    assert!(world.signals().is_empty());
    world.listening(2);
    assert_eq!(world.signals(), [(1, Signal::Terminate)]);
    assert_eq!(world.told_to_go(), [(1, WhyGo::Lost)]);
    world.advance(30_000);
    assert_eq!(world.signals().last(), Some(&(1, Signal::Kill)));
}

/// Rule 6. Catches: replacing a worker that came back in time.
#[test]
fn a_worker_that_comes_back_within_a_second_goes_on() {
    let mut world = World::running(config(), 1);
    world.event(Event::ConnectionEnded { worker: 1 });
    world.advance(900);
    world.event(Event::WorkerConnected { worker: 1 });
    world.advance(60_000);
    assert_eq!(world.state(1), "running");
    assert!(world.spawned().is_empty());
}

/// Rule 6. Catches: two replacements, or none, for one death.
#[test]
fn connection_end_and_exit_in_either_order_or_the_exit_alone_make_one_replacement() {
    let end = Event::ConnectionEnded { worker: 1 };
    let exit = Event::WorkerExited { worker: 1, status: ExitStatus::Signal(9) };
    for events in [vec![end.clone(), exit.clone()], vec![exit.clone(), end.clone()], vec![exit.clone()], vec![exit.clone(), exit, end]] {
        let mut world = World::running(config(), 1);
        events.into_iter().for_each(|event| world.event(event));
        world.advance(5_000);
        assert_eq!(world.spawned(), [2]);
        assert_eq!(world.state(1), "gone");
    }
}
