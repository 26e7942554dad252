//! A master that died: what the next one does with its pool.

use dutch_master::core::{Action, Config, EndOfRestart, Event, Phase, Report, Said, Signal, Surge, WhyGo};

use crate::world::World;

/// Catches: workers that are started in the place of those that serve; an end of the window that is never seen.
#[test]
fn when_all_workers_come_back_nothing_is_started_and_nobody_goes() {
    let mut world = World::running(Config::default(), 2);
    world.master_dies();
    world.comes_back(1);
    assert!(world.actions.is_empty(), "{:?}", world.actions);
    world.comes_back(2);
    assert_eq!(world.take(), [Action::Report(Report::ClusterAdopted { workers: 2 })]);
    world.advance(3_600_000);
    assert!(world.actions.is_empty(), "{:?}", world.actions);
    assert_eq!(world.running_ids(), [1, 2]);
}

/// Catches: a window that closes early; one that does not come back and is never replaced; ids that begin again.
#[test]
fn one_that_does_not_come_back_is_replaced_when_the_window_is_over_and_then_told_to_go() {
    let mut world = World::running(Config::default(), 2);
    world.master_dies();
    world.comes_back(2);
    world.advance(1_999);
    assert!(world.spawned().is_empty());
    world.advance(1);
    assert!(world.has(&Report::ClusterAdopted { workers: 1 }));
    assert!(world.has(&Report::WorkerLost { worker: 1 }));
    assert_eq!(world.spawned(), [3]);
    assert!(world.told_to_go().is_empty());
    world.listening(3);
    assert_eq!(world.told_to_go(), [(1, WhyGo::Lost)]);
}

/// Catches: a dead worker that is replaced before it is known who else is there.
#[test]
fn those_that_died_with_the_master_are_replaced_when_the_others_are_back() {
    let mut world = World::running(Config::default(), 2);
    world.master_dies();
    world.event(Event::WorkerExited { worker: 1, status: dutch_master::core::ExitStatus::Unknown });
    assert!(world.spawned().is_empty());
    world.comes_back(2);
    assert_eq!(world.spawned(), [3]);
}

/// Catches: a start that is killed because it does not come *back*.
#[test]
fn a_worker_that_was_still_starting_has_its_own_time() {
    let mut world = World::new(Config::default(), 1);
    world.event(Event::StartRequested);
    world.event(Event::WorkerSpawned { worker: 1 });
    world.master_dies();
    world.advance(30_000);
    assert_eq!(world.state(1), "starting");
    world.listening(1);
    assert!(world.has(&Report::ClusterReady { workers: 1 }));
    assert_eq!(world.spawned(), [1]);
}

/// Catches: a failed start that nobody is to blame for.
#[test]
fn one_that_the_dead_master_never_came_to_spawn_costs_no_attempt() {
    let mut world = World::running(Config { restart_attempts: 1, ..Config::default() }, 1);
    world.restart(7);
    world.master_dies();
    world.comes_back(1);
    world.take();
    world.event(Event::NeverSpawned { worker: 2 });
    assert_eq!(world.spawned(), [3]);
    assert_eq!(world.pool.phase(), Phase::Restarting);
}

/// Catches: a restart that is forgotten; one that begins from the start; deadlines that are set anew.
#[test]
fn a_restart_that_was_under_way_is_completed() {
    let mut world = World::running(Config::default(), 2);
    world.restart(7);
    world.listening(3);
    world.advance(2_000);
    world.take();
    world.master_dies();
    for worker in [2, 3, 4] {
        world.comes_back(worker);
    }
    world.play(60_000);
    assert_eq!(world.ends(), [(2, EndOfRestart::Done)]);
    assert_eq!(world.running_ids(), [3, 4]);
}

/// Catches: a drain that has more time, or none, because the master died.
#[test]
fn one_that_was_draining_hears_the_order_again_with_the_time_that_is_left() {
    let mut world = World::running(Config::default(), 1);
    world.restart(7);
    world.listening(2);
    world.advance(2_000);
    world.advance(10_000);
    world.take();
    world.master_dies();
    world.comes_back(1);
    let left = world.actions.iter().find_map(|a| if let Action::Disconnect { worker: 1, timeout_ms, .. } = a { Some(*timeout_ms) } else { None });
    assert_eq!(left, Some(27_000 - 10_000));
    world.advance(20_000);
    assert!(world.signals().contains(&(1, Signal::Kill)), "{:?}", world.signals());
}

/// Catches: a worker that was to be killed and lives for ever.
#[test]
fn one_that_was_to_be_killed_is_killed() {
    let mut world = World::running(Config::default(), 1);
    world.event(Event::StopRequested);
    world.event(Event::StopRequested);
    world.take();
    world.master_dies();
    assert_eq!(world.signals(), [(1, Signal::Kill)]);
}

/// Catches: a master that was started again and stops.
#[test]
fn a_stop_ends_with_the_master_that_was_to_carry_it_out() {
    let mut world = World::running(Config::default(), 2);
    world.event(Event::StopRequested);
    world.take();
    world.master_dies();
    world.play(60_000);
    assert_eq!(world.exit_code(), None);
    assert_eq!(world.running_ids(), [3, 4]);
    assert!(world.pool.workers().all(|worker| worker.generation == 2));
}

/// Catches: a stop that cuts short those that are on their way back.
#[test]
fn a_stop_within_the_window_is_heard_by_those_that_come_back_and_signalled_to_the_others() {
    let mut world = World::running(Config::default(), 2);
    world.master_dies();
    world.event(Event::StopRequested);
    assert!(world.signals().is_empty());
    world.comes_back(1);
    assert!(world.actions.iter().any(|a| matches!(a, Action::Disconnect { worker: 1, .. })));
    world.advance(2_000);
    assert_eq!(world.signals(), [(2, Signal::Terminate)]);
}

/// Catches: a lost worker that keeps what its replacement waits for.
#[test]
fn one_that_is_in_the_way_goes_before_its_replacement_runs() {
    let mut world = World::running(Config::default(), 1);
    world.master_dies();
    world.event(Event::IsInTheWay { worker: 1 });
    assert!(world.signals().is_empty(), "it may still come back");
    world.advance(2_000);
    world.event(Event::IsInTheWay { worker: 1 });
    assert_eq!(world.signals(), [(1, Signal::Terminate)]);
    assert_eq!(world.state(1), "draining");
}

/// Catches: a window that a new death does not open again; ids that are used twice.
#[test]
fn a_master_that_dies_while_it_takes_over_is_followed_by_the_next() {
    let mut world = World::running(Config::default(), 2);
    world.master_dies();
    world.comes_back(1);
    world.advance(1_000);
    world.master_dies();
    world.advance(1_999);
    assert!(world.spawned().is_empty());
    world.comes_back(1);
    world.comes_back(2);
    world.say(1, Said::RequestRestart);
    assert_eq!(world.spawned(), [3]);
}

/// Catches: lost workers that leave no room for their replacements within 3 × size + surge, so that nothing ever happens again.
#[test]
fn of_more_lost_workers_than_are_needed_the_others_go_at_once() {
    let mut world = World::running(Config::default(), 4);
    world.master_dies();
    world.scale(1);
    world.advance(2_000);
    assert_eq!(world.told_to_go(), [(3, WhyGo::Lost), (2, WhyGo::Lost), (1, WhyGo::Lost)]);
    world.play(3_600_000);
    assert_eq!(world.running_ids(), [5]);
    assert!(world.pool.workers().all(|worker| worker.is_running()));
}

/// Catches: a backoff, or a restart that is given up, because workers of another make were cut off by the master's death.
#[test]
fn that_workers_do_not_come_back_is_no_failure_of_theirs() {
    let mut world = World::running(Config { restart_attempts: 1, surge: Surge::All, ..Config::default() }, 2);
    world.restart(7);
    world.listening(3);
    world.connect(4);
    world.take();
    world.master_dies();
    world.advance(2_000);
    assert!(world.reports(|report| if let Report::BackingOff { .. } = report { Some(()) } else { None }).is_empty(), "{:?}", world.actions);
    assert_eq!(world.signals(), [(4, Signal::Kill), (1, Signal::Terminate)], "one had not come so far, and of three that serve two are needed");
    assert_eq!(world.spawned(), [5, 6]);
    assert_eq!(world.pool.phase(), Phase::Restarting);
}
