//! Rule 11: stop is absorbing, from every state.

use dutch_master::core::{Action, Config, EndOfRestart, Event, ExitStatus, HowStopped, Refusal, Report, Said, Signal, WhyGo};

use crate::world::World;

/// Catches: listeners that stay open; workers that are not told; an exit before the last worker.
#[test]
fn a_stop_closes_the_listeners_tells_everyone_and_ends_with_0() {
    let mut world = World::running(Config::default(), 2);
    world.event(Event::StopRequested);
    assert_eq!(world.actions[0], Action::CloseListeners);
    assert_eq!(world.told_to_go(), [(1, WhyGo::Stop), (2, WhyGo::Stop)]);
    world.exit(1, 0);
    assert_eq!(world.exit_code(), None);
    world.exit(2, 1);
    assert_eq!(world.exit_code(), Some(0));
    assert!(world.has(&Report::ClusterShutdown { how: HowStopped::Cleanly }));
}

/// Catches: exit code 0 although work was cut off.
#[test]
fn a_stop_that_needs_sigkill_ends_with_1() {
    let mut world = World::running(Config::default(), 1);
    world.event(Event::StopRequested);
    world.advance(30_000);
    assert_eq!(world.signals(), [(1, Signal::Terminate), (1, Signal::Kill)]);
    assert!(world.has(&Report::WorkerNotDrained { worker: 1 }));
    assert!(world.has(&Report::HardKill { worker: 1, as_asked: false }));
    world.event(Event::WorkerExited { worker: 1, status: ExitStatus::Signal(9) });
    assert_eq!(world.exit_code(), Some(1));
    assert!(world.has(&Report::ClusterShutdown { how: HowStopped::Overdue }));
}

/// Catches: a worker that drained in time told as one that did not, or one that has never heard the order; one that hung up after the order and was forgotten.
#[test]
fn only_who_was_told_and_has_not_drained_at_the_announced_timeout_is_told_as_such() {
    let mut world = World::running(Config::default(), 4);
    world.event(Event::ConnectionEnded { worker: 4 });
    world.event(Event::StopRequested);
    world.say(1, Said::Disconnect);
    world.event(Event::ConnectionEnded { worker: 3 });
    world.advance(26_999);
    let late = |world: &World| world.reports(|report| if let Report::WorkerNotDrained { worker } = report { Some(*worker) } else { None });
    assert_eq!(late(&world), [0; 0]);
    world.advance(1);
    assert_eq!(late(&world), [2, 3]);
    (1..=4).for_each(|id| world.exit(id, 0));
    assert_eq!(world.exit_code(), Some(0), "no SIGKILL");
    let mut world = World::running(Config::default(), 1);
    world.master_dies();
    world.event(Event::StopRequested);
    world.advance(10_000);
    assert_eq!((world.signals(), late(&world)), (vec![(1, Signal::Terminate)], Vec::new()), "it has not come back to the next master");
}

/// Catches: a second signal that is ignored; what was asked for told as a failure.
#[test]
fn a_second_stop_moves_every_deadline_to_now() {
    let mut world = World::running(Config::default(), 2);
    world.event(Event::StopRequested);
    world.event(Event::StopRequested);
    assert_eq!(world.signals(), [(1, Signal::Kill), (2, Signal::Kill)]);
    assert!(world.has(&Report::HardKill { worker: 2, as_asked: true }));
    for id in [1, 2] {
        world.event(Event::WorkerExited { worker: id, status: ExitStatus::Signal(9) });
    }
    assert!(world.has(&Report::ClusterShutdown { how: HowStopped::AtOnce }));
    assert_eq!(world.exit_code(), Some(1));
}

/// Catches: a start, a hook or a lost worker that survives the stop; new workers during it (a stop while starting started new ones).
#[test]
fn a_stop_covers_starting_lost_draining_and_failed_workers_and_starts_nothing() {
    let mut world = World::running(Config::default(), 3);
    world.event(Event::ConnectionEnded { worker: 1 });
    world.advance(1_000);
    world.say(2, Said::Leaving);
    world.take();
    world.event(Event::StopRequested);
    let starting: Vec<_> = world.signals().iter().map(|(id, _)| *id).collect();
    assert!(starting.contains(&1), "the lost one has no connection to hear an order");
    for id in world.pool.workers().map(|w| w.id).collect::<Vec<_>>() {
        world.event(Event::SpawnFailed { worker: id, reason: "cancelled".into() });
        world.exit(id, 1);
    }
    assert!(world.spawned().is_empty());
    assert_eq!(world.exit_code(), Some(0));
}

/// Catches: a waiting client that never hears; a request after the stop that is taken up.
#[test]
fn a_stop_ends_the_restart_under_way_and_refuses_others() {
    let mut world = World::running(Config::default(), 1);
    world.restart(1);
    world.event(Event::StopRequested);
    assert_eq!(world.ends(), [(2, EndOfRestart::Stopped)]);
    world.restart(2);
    world.scale(5);
    assert!(world.has(&Report::RestartRefused { ticket: 2, why: Refusal::Stopping }));
    assert!(world.has(&Report::ScaleRefused { why: Refusal::Stopping }));
}

/// Catches: a master that hangs when there is nothing to stop.
#[test]
fn a_stop_before_any_worker_exists_ends_at_once() {
    let mut world = World::new(Config::default(), 1);
    world.event(Event::StopRequested);
    assert_eq!(world.exit_code(), Some(0));
}
