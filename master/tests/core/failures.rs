//! Rules 7 and 8: crashes, the backoff, and starts that take too long. «Catches» names a mutation of the rule that makes the case fail.

use dutch_master::core::{Config, Event, ExitStatus, Failure, Report, Said, Signal, SizeChange};

use crate::rules::config;
use crate::world::World;

/// Rule 7. Catches: a delay for the first failure; a wrong factor or limit; two at a time.
#[test]
fn repeated_failures_wait_longer_and_longer_one_worker_at_a_time() {
    let mut world = World::new(Config { keep_trying: true, ..config() }, 2);
    world.event(Event::StartRequested);
    let mut delays = Vec::new();
    for _ in 0..14 {
        let starting: Vec<_> = world.pool.workers().map(|w| w.id).collect();
        for id in starting {
            world.exit(id, 1);
        }
        let begin = world.now;
        if let Some((at, "backoff")) = world.pool.poll_deadline() {
            delays.push(at.since(begin));
            world.advance(at.since(begin));
            assert_eq!(world.pool.workers().count(), 1, "one at a time");
        }
    }
    assert_eq!(delays, [1_000, 1_500, 2_250, 3_375, 5_062, 7_593, 11_389, 17_083, 25_624, 30_000, 30_000, 30_000, 30_000, 30_000]);
}

/// Rule 7. Catches: restarting the whole pool at once into a crash loop (27 forks in 1.5 s).
#[test]
fn a_crash_loop_makes_at_most_six_spawns_in_six_seconds() {
    let mut world = World::new(Config { keep_trying: true, ..config() }, 2);
    world.event(Event::StartRequested);
    let end = world.now.after(6_000);
    while world.now < end {
        for id in world.pool.workers().map(|w| w.id).collect::<Vec<_>>() {
            world.exit(id, 1);
        }
        world.advance(10);
    }
    assert!(world.spawned().len() <= 6, "{:?}", world.spawned());
}

/// Rule 7. Catches: a delay cancelled by another worker's `listening`: in a pool of several that die soon after it, one has always just said it.
#[test]
fn a_crash_loop_after_listening_makes_at_most_six_spawns_in_six_seconds_too() {
    for (settle_ms, size) in [(2_000, 1), (2_000, 2), (0, 2)] {
        let mut world = World::new(Config { settle_ms, ..config() }, size);
        world.event(Event::StartRequested);
        let end = world.now.after(6_000);
        while world.now < end {
            for id in world.pool.workers().map(|w| w.id).collect::<Vec<_>>() {
                world.listening(id);
            }
            world.advance(30);
            world.running_ids().into_iter().for_each(|id| world.exit(id, 1));
        }
        assert!(world.spawned().len() <= 6, "{:?}", world.spawned());
    }
}

/// Rule 7. Catches: the others waiting for the backoff although one runs.
#[test]
fn when_one_has_lasted_the_others_follow() {
    let mut world = World::new(Config { keep_trying: true, ..config() }, 4);
    world.event(Event::StartRequested);
    for id in 1..=5 {
        world.exit(id, 1);
    }
    world.advance(30_000);
    world.take();
    let probe = world.pool.workers().map(|w| w.id).max().expect("one is tried");
    world.listening(probe);
    world.advance(1_999);
    assert_eq!(world.spawned().len(), 0);
    world.advance(1);
    assert_eq!(world.spawned().len(), 3);
}

/// Rule 7. Catches: a backoff that outlives the trouble, or that ends although the trouble goes on.
#[test]
fn a_listening_that_lasts_ends_the_backoff() {
    let mut world = World::running(config(), 1);
    world.advance(60_000);
    world.event(Event::WorkerExited { worker: 1, status: ExitStatus::Signal(11) });
    world.listening(2);
    world.exit(2, 1);
    assert_eq!(world.spawned(), [2, 3], "the first failure costs no delay");
    world.listening(3);
    world.advance(2_000);
    world.exit(3, 1);
    assert_eq!(world.spawned(), [2, 3, 4], "3 had lasted: its failure is a first one again");
    world.exit(4, 1);
    assert_eq!(world.spawned(), [2, 3, 4]);
}

/// Rule 7. Catches: delaying the replacement of a worker that had run for long.
#[test]
fn a_worker_that_had_run_ten_seconds_costs_no_delay() {
    for (ran_ms, replaced_at_once) in [(10_000, 8), (9_999, 1)] {
        let mut world = World::new(config(), 8);
        world.event(Event::StartRequested);
        (1..=8).for_each(|id| world.listening(id));
        world.advance(ran_ms);
        world.take();
        (1..=8).for_each(|id| world.exit(id, 1));
        assert_eq!(world.spawned().len(), replaced_at_once, "after {ran_ms} ms");
    }
}

/// Rule 7. Catches: an operator who has to wait.
#[test]
fn restart_and_scale_clear_the_backoff() {
    for clear in [Event::RestartRequested { ticket: 1, size: 2 }, Event::ScaleRequested(SizeChange::To(2))] {
        let mut world = World::new(Config { keep_trying: true, ..config() }, 2);
        world.event(Event::StartRequested);
        for id in 1..=3 {
            world.exit(id, 1);
        }
        world.take();
        world.advance(100);
        assert!(world.spawned().is_empty());
        world.event(clear);
        assert_eq!(world.spawned().len(), 2);
    }
}

/// Rule 7. Catches: a crash loop that looks like service; the failure of another worker, or of before somebody intervened; a next try that is not told.
#[test]
fn what_fails_is_told_until_a_worker_lasts_or_somebody_intervenes() {
    let mut world = World::running(config(), 2);
    assert_eq!(world.pool.failing(), None);
    let crashed = ExitStatus::Signal(11);
    world.event(Event::WorkerExited { worker: 1, status: crashed });
    assert_eq!(world.pool.failing(), None, "it had run for long");
    world.exit(3, 1);
    let told = |world: &World| world.pool.failing().map(|it| (it.failures, it.worker, it.why.clone(), it.retry_at.map(|at| at.since(world.now))));
    assert_eq!(told(&world), Some((1, Some(3), Failure::Exited(ExitStatus::Code(1)), None)), "the next one is being tried");
    world.event(Event::SpawnFailed { worker: 4, reason: "no room".into() });
    assert_eq!(told(&world), Some((2, Some(4), Failure::Spawn("no room".into()), Some(1_000))));
    world.advance(1_000);
    assert_eq!(told(&world), Some((2, Some(4), Failure::Spawn("no room".into()), None)));
    world.listening(5);
    world.advance(1_999);
    assert!(told(&world).is_some(), "`listening` proves nothing");
    world.advance(1);
    assert_eq!(told(&world), None);
    for intervene in [Event::ScaleRequested(SizeChange::To(2)), Event::RestartRequested { ticket: 1, size: 2 }, Event::StopRequested] {
        let mut world = World::running(config(), 2);
        world.event(Event::WorkerExited { worker: 1, status: crashed });
        world.exit(3, 1);
        assert!(told(&world).is_some(), "before {intervene:?}");
        world.event(intervene.clone());
        assert_eq!(told(&world), None, "after {intervene:?}");
    }
}

/// Rule 7. Catches: jitter that is not used.
#[test]
fn jitter_makes_the_delay_longer() {
    let mut world = World::new(Config { keep_trying: true, ..config() }, 1);
    world.pool.set_jitter(200);
    world.event(Event::StartRequested);
    world.exit(1, 1);
    world.exit(2, 1);
    assert_eq!(world.pool.poll_deadline(), Some((world.now.after(1_200), "backoff")));
}

/// Rule 7. Catches: a backoff that ends because some other deadline came, or that forgets its jitter when it is cleared.
#[test]
fn a_backoff_lasts_until_its_own_deadline() {
    let mut world = World::running(Config { settle_ms: 500, ..config() }, 2);
    world.pool.set_jitter(200);
    world.scale(2);
    world.exit(1, 1);
    world.exit(3, 1);
    world.exit(4, 1);
    assert_eq!(world.spawned(), [3, 4]);
    world.say(2, Said::RequestRestart);
    world.advance(1_199);
    world.event(Event::DeadlineReached);
    assert_eq!(world.spawned(), [3, 4]);
    world.advance(1);
    assert_eq!(world.spawned(), [3, 4, 5]);
}

/// Rule 8. Catches: no start timeout; one that counts from the order although the hook took long.
#[test]
fn a_worker_that_never_says_listening_is_killed_after_the_start_timeout() {
    let mut world = World::running(config(), 1);
    world.restart(1);
    world.advance(20_000);
    world.connect(2);
    world.advance(59_999);
    assert!(world.signals().is_empty());
    world.advance(1);
    assert_eq!(world.signals(), [(2, Signal::Kill)]);
    assert!(world.has(&Report::StartFailed { worker: 2, why: Failure::StartTimeout { after_ms: 60_000, connected: true } }));
    assert_eq!(world.spawned(), [2, 3], "the next one does not wait for its exit");
}

/// Rule 8. Catches: waiting a minute for a worker that hung up.
#[test]
fn a_start_whose_connection_ends_for_good_is_a_failed_start() {
    let mut world = World::running(config(), 1);
    world.restart(1);
    world.connect(2);
    world.event(Event::ConnectionEnded { worker: 2 });
    world.advance(1_000);
    assert!(world.has(&Report::DisconnectedWhileStarting { worker: 2 }));
    assert_eq!(world.signals(), [(2, Signal::Kill)]);
    assert_eq!(world.spawned(), [2, 3]);
}
