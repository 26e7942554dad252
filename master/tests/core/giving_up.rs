//! Rules 9 and 10: releases and first starts that do not come up. «Catches» names a mutation of the rule that makes the case fail.

use dutch_master::core::{Action, Config, Directory, EndOfRestart, Event, ExitStatus, Failure, Phase, Report, Surge, WhyGo};

use crate::rules::config;
use crate::world::World;

/// Rule 9. Catches: never giving up (a replacement that never listened blocked every later restart), or giving up early; touching the old workers.
#[test]
fn a_restart_is_given_up_after_three_failed_waves_and_the_old_workers_stay() {
    let mut world = World::running(Config { surge: Surge::All, ..config() }, 2);
    world.restart(1);
    let mut failed = 0;
    while world.ends().is_empty() {
        let starting: Vec<_> = world.pool.workers().filter(|w| w.state_name() == "starting").map(|w| w.id).collect();
        starting.into_iter().for_each(|id| {
            world.exit(id, 3);
            failed += 1;
        });
        world.advance(100);
    }
    assert_eq!(world.ends(), [(2, EndOfRestart::GivenUp { attempts: 3, why: Failure::Exited(ExitStatus::Code(3)) })]);
    assert!(failed > 3, "a wave of parallel starts counts once: {failed} starts failed");
    assert!(world.told_to_go().iter().all(|(id, _)| *id > 2));
    assert_eq!(world.running_ids(), [1, 2]);
    assert_eq!(world.pool.given_up().map(|(generation, _)| generation), Some(2));
    world.take();
    world.exit(1, 1);
    assert_eq!(world.spawns().first().map(|s| (s.2, s.3)), Some((1, Directory::Committed)), "crash replacements come from the committed generation");
    world.restart(2);
    assert_eq!(world.pool.given_up(), None, "a fixed release is just the next restart");
    world.play(20_000);
    assert_eq!(world.ends(), [(3, EndOfRestart::Done)]);
}

/// Rule 9. Catches: old workers told to go by a release that dies a second after `listening`.
#[test]
fn a_release_that_dies_soon_after_listening_is_given_up_and_touches_nobody() {
    let mut world = World::running(config(), 2);
    world.restart(1);
    while world.ends().is_empty() {
        let new: Vec<_> = world.pool.workers().filter(|w| w.generation == 2).map(|w| w.id).collect();
        for id in &new {
            world.listening(*id);
        }
        world.advance(1_000);
        new.into_iter().for_each(|id| world.exit(id, 1));
        world.advance(3_000);
    }
    assert!(matches!(world.ends()[..], [(2, EndOfRestart::GivenUp { attempts: 3, .. })]));
    assert!(world.told_to_go().iter().all(|(id, _)| *id > 2));
    assert_eq!(world.running_ids(), [1, 2]);
}

/// Rule 9. Catches: a restart that is done as soon as workers say `listening`, when none of the old ones was left to compare with.
#[test]
fn without_old_workers_a_release_has_to_last_as_well() {
    let mut world = World::running(config(), 2);
    [1, 2].into_iter().for_each(|id| world.exit(id, 1));
    world.restart(1);
    while world.ends().is_empty() {
        let new: Vec<_> = world.pool.workers().filter(|w| w.generation == 2).map(|w| w.id).collect();
        new.iter().for_each(|id| world.listening(*id));
        assert_eq!(world.ends(), []);
        world.advance(300);
        new.into_iter().for_each(|id| world.exit(id, 3));
        world.advance(3_000);
    }
    assert!(matches!(world.ends()[..], [(2, EndOfRestart::GivenUp { attempts: 3, .. })]), "{:?}", world.ends());
    world.restart(2);
    world.play(20_000);
    assert_eq!(world.ends().last(), Some(&(3, EndOfRestart::Done)));
}

/// Rule 9. Catches: failures that are not in a row adding up.
#[test]
fn a_worker_that_lasts_begins_the_count_anew() {
    let mut world = World::running(config(), 4);
    world.restart(1);
    for id in [5, 6] {
        world.exit(id, 1);
        world.advance(5_000);
    }
    world.listening(7);
    world.advance(2_000);
    for id in [8, 9] {
        world.exit(id, 1);
        world.advance(5_000);
    }
    assert!(world.ends().is_empty());
}

/// Rule 9. Catches: a release given up because one of its workers died that had shown that it works.
#[test]
fn the_death_of_a_worker_that_has_lasted_is_no_failed_attempt() {
    let mut world = World::running(Config { restart_attempts: 1, ..config() }, 2);
    world.restart(1);
    world.listening(3);
    world.advance(2_000);
    assert_eq!(world.told_to_go(), [(1, WhyGo::Restart)]);
    world.exit(3, 1);
    world.play(60_000);
    assert_eq!(world.ends(), [(2, EndOfRestart::Done)]);
}

/// Rule 9. Catches: running newer workers being taken down, which may be the only ones that serve.
#[test]
fn after_giving_up_running_newer_workers_stay_and_the_pool_is_mixed() {
    let mut world = World::running(config(), 2);
    world.restart(1);
    world.listening(3);
    world.advance(2_000);
    world.exit(1, 0);
    for id in [4, 5, 6] {
        world.exit(id, 1);
        world.advance(5_000);
    }
    assert!(matches!(world.ends()[..], [(2, EndOfRestart::GivenUp { .. })]));
    assert_eq!(world.running_ids(), [2, 3]);
    assert!(world.pool.is_mixed());
    assert_eq!(world.pool.generation(), 1);
    world.restart(2);
    world.play(20_000);
    assert!(!world.pool.is_mixed());
    assert!(world.pool.workers().all(|w| w.generation == 3));
}

/// Rule 9. Catches: the starts of the given-up target going on.
#[test]
fn giving_up_cancels_the_other_starts() {
    let mut world = World::running(Config { surge: Surge::All, restart_attempts: 2, ..config() }, 2);
    world.restart(1);
    world.connect(4);
    for id in [3, 5] {
        world.exit(id, 1);
        world.advance(3_000);
    }
    assert!(matches!(world.ends()[..], [(2, EndOfRestart::GivenUp { .. })]));
    assert_eq!(world.told_to_go(), [(4, WhyGo::Restart)]);
}

/// Rule 10. Catches: a first start that tries for ever, or one that gives up although a worker has run.
#[test]
fn a_first_start_that_never_works_ends_the_master() {
    let mut world = World::new(config(), 2);
    world.event(Event::StartRequested);
    while world.exit_code().is_none() {
        for id in world.pool.workers().map(|w| w.id).collect::<Vec<_>>() {
            world.exit(id, 7);
        }
        world.advance(1_000);
    }
    assert_eq!(world.exit_code(), Some(1));
    let failed = Report::FirstStartFailed { attempts: 3, why: Failure::Exited(ExitStatus::Code(7)) };
    assert!(world.has(&failed));
    let reports = world.reports(|r| Some(r.clone()));
    let before = reports.iter().position(|r| *r == failed).and_then(|at| reports.get(at - 1));
    assert!(!matches!(before, Some(Report::BackingOff { .. })), "no wait is announced for a start that will not be");
}

/// Rule 10. Catches: the master ending because workers fail.
#[test]
fn once_a_worker_has_run_the_master_never_ends_by_itself() {
    let mut world = World::new(config(), 1);
    world.event(Event::StartRequested);
    world.listening(1);
    for _ in 0..20 {
        for id in world.pool.workers().map(|w| w.id).collect::<Vec<_>>() {
            world.exit(id, 7);
        }
        world.advance(30_000);
    }
    assert_eq!(world.exit_code(), None);
    assert_eq!(world.pool.phase(), Phase::Serving);
}

/// Rule 10. Catches: a first start given up although older starts are still under way, or kept up by the failing ones themselves.
#[test]
fn a_first_start_is_not_given_up_while_an_older_start_is_under_way() {
    let mut world = World::new(Config { restart_attempts: 1, ..config() }, 2);
    world.event(Event::StartRequested);
    world.restart(1);
    world.exit(3, 1);
    assert_eq!(world.exit_code(), None, "1 and 2 may still come up");
    world.listening(1);
    assert!(matches!(world.ends()[..], [(2, EndOfRestart::GivenUp { .. })]));

    let mut world = World::new(Config { restart_attempts: 1, ..config() }, 2);
    world.event(Event::StartRequested);
    world.exit(1, 1);
    assert!(world.actions.iter().any(|a| matches!(a, Action::Report(Report::FirstStartFailed { .. }))), "2 is of the generation that failed");
}

/// Rule 9. Catches: falling back to the generation that has just failed, because one of its workers runs.
#[test]
fn the_generation_to_fall_back_to_is_an_older_one() {
    let mut world = World::new(Config { settle_ms: 60_000, restart_attempts: 1, ..config() }, 2);
    world.event(Event::StartRequested);
    world.listening(1);
    world.restart(1);
    world.listening(3);
    world.exit(4, 1);
    assert!(matches!(world.ends()[..], [(2, EndOfRestart::GivenUp { .. })]));
    assert_eq!(world.pool.committed(), Some(1));
}

/// Rule 9. Catches: a pool that falls back to a generation nobody was told of.
#[test]
fn before_anything_was_committed_the_newest_that_runs_is_fallen_back_to() {
    let mut world = World::new(config(), 2);
    world.event(Event::StartRequested);
    world.listening(1);
    world.restart(1);
    while world.ends().is_empty() {
        for id in world.pool.workers().filter(|w| w.generation == 2).map(|w| w.id).collect::<Vec<_>>() {
            world.exit(id, 1);
        }
        world.advance(500);
    }
    assert_eq!(world.pool.committed(), Some(1));
    assert!(world.has(&Report::Committed { generation: 1 }));
    assert_eq!(world.pool.phase(), Phase::Serving);
}
