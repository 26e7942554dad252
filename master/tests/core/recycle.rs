//! Recycling and heartbeats: workers that are replaced because of their age, memory or requests, and those that show no sign of life.

use dutch_master::core::{Action, Config, Event, Recycle, Report, Said, Signal, Surge, WhyGo, WorkerId, spread};
use dutch_master_protocol::message::DisconnectReason;

use crate::world::World;

const DAY: u64 = 86_400_000;

fn due(worker: WorkerId, why: Recycle) -> Event {
    Event::RecycleDue { worker, why }
}

/// A running pool whose workers send heartbeats.
fn watched(size: u32) -> World {
    let mut world = World::new(Config { heartbeat_ms: Some(9_000), ..Config::default() }, size);
    world.event(Event::StartRequested);
    for worker in world.spawned() {
        world.event(Event::WorkerSpawned { worker });
        world.event(Event::WorkerConnected { worker });
        world.say(worker, Said::Listening);
        world.say(worker, Said::Heartbeat);
    }
    world.advance(2_000);
    world.take();
    world
}

/// Catches: telling a worker to go before its replacement runs; a reason that says something else.
#[test]
fn a_worker_that_is_due_goes_when_its_replacement_runs() {
    for why in [Recycle::Lifetime, Recycle::Memory, Recycle::Requests] {
        let mut world = World::running(Config::default(), 2);
        world.event(due(1, why));
        assert!(world.has(&Report::WorkerDue { worker: 1, why }));
        assert_eq!(world.spawns().iter().map(|(id, slot, ..)| (*id, *slot)).collect::<Vec<_>>(), [(3, 0)]);
        assert!(world.told_to_go().is_empty());
        world.listening(3);
        assert_eq!(world.told_to_go(), [(1, WhyGo::Recycle)]);
        assert!(world.actions.contains(&Action::Disconnect { worker: 1, reason: DisconnectReason::Recycle, timeout_ms: 27_000 }));
    }
}

/// Catches: replacing all that are due at once.
#[test]
fn workers_that_are_due_together_go_one_after_the_other() {
    let mut world = World::running(Config { surge: Surge::All, ..Config::default() }, 4);
    for worker in 1..=4 {
        world.event(due(worker, Recycle::Memory));
    }
    for (nth, replacement) in (5..=8).enumerate() {
        assert_eq!(world.spawned().last(), Some(&replacement), "one is being replaced");
        assert_eq!(world.told_to_go().len(), nth);
        world.listening(replacement);
    }
    assert_eq!(world.told_to_go(), [1, 2, 3, 4].map(|id| (id, WhyGo::Recycle)), "the one that was due first goes first");
    world.play(60_000);
    assert_eq!(world.running_ids(), [5, 6, 7, 8]);
}

/// Catches: a switch to another one that was due as early, which leaves a replacement without a place.
#[test]
fn the_one_that_is_being_replaced_stays_the_one() {
    let mut world = World::running(Config::default(), 3);
    world.event(due(3, Recycle::Memory));
    world.advance(1);
    world.event(due(1, Recycle::Memory));
    assert_eq!(world.spawned(), [4]);
    world.listening(4);
    assert_eq!(world.told_to_go(), [(3, WhyGo::Recycle)]);
}

/// Catches: counting repeats.
#[test]
fn a_worker_is_due_once() {
    let mut world = World::running(Config::default(), 1);
    world.event(due(1, Recycle::Memory));
    world.event(due(1, Recycle::Requests));
    assert_eq!(world.reports(|r| matches!(r, Report::WorkerDue { .. }).then_some(())).len(), 1);
    assert_eq!(world.spawned(), [2]);
}

/// Catches: recycling in the midst of a restart, which replaces everybody anyway.
#[test]
fn nobody_is_recycled_while_a_restart_is_under_way() {
    let mut world = World::running(Config::default(), 2);
    world.restart(7);
    assert_eq!(world.spawned(), [3]);
    world.event(due(1, Recycle::Memory));
    assert_eq!(world.spawned(), [3]);
    world.play(20_000);
    assert!(world.told_to_go().iter().all(|(_, why)| *why == WhyGo::Restart));
    assert_eq!(world.running_ids().len(), 2);
}

/// Catches: a limit that a worker which was told to go is still measured by.
#[test]
fn a_worker_that_goes_is_not_due() {
    let mut world = World::running(Config::default(), 2);
    world.scale(1);
    assert_eq!(world.told_to_go(), [(2, WhyGo::ScaleDown)]);
    world.take();
    world.event(due(2, Recycle::Memory));
    assert!(world.actions.is_empty());
}

/// Catches: a smaller pool that keeps workers which it has to replace at once.
#[test]
fn when_a_pool_shrinks_those_go_first_that_are_due() {
    let mut world = World::running(Config::default(), 4);
    world.master_dies();
    world.event(due(1, Recycle::Memory));
    world.event(due(2, Recycle::Memory));
    world.scale(2);
    assert!(world.told_to_go().is_empty(), "nobody goes before all are back");
    for id in 1..=4 {
        world.event(Event::WorkerConnected { worker: id });
    }
    assert_eq!(world.told_to_go(), [(1, WhyGo::Recycle), (2, WhyGo::Recycle)]);
    assert!(world.spawned().is_empty());
}

/// Catches: an old worker that goes although its successors fail.
#[test]
fn a_worker_whose_replacements_fail_serves_on() {
    let mut world = World::running(Config::default(), 1);
    world.event(due(1, Recycle::Lifetime));
    for _ in 0..20 {
        let newest = world.spawned().last().copied();
        if let Some(id) = newest.filter(|id| world.state(*id) == "starting") {
            world.exit(id, 1);
        }
        world.advance(40_000);
    }
    assert_eq!(world.state(1), "running");
    assert!(world.told_to_go().is_empty());
}

/// Catches: a lifetime that is counted from the spawn, or the same for every slot.
#[test]
fn lifetimes_are_spread_over_the_slots() {
    let mut world = World::new(Config { max_lifetime_ms: Some(DAY), ..Config::default() }, 4);
    world.event(Event::StartRequested);
    for id in world.spawned() {
        world.listening(id);
    }
    world.take();
    let mut ages = Vec::new();
    for _ in 0..4 {
        let at = world.pool.poll_deadline().filter(|(_, why)| *why == "maximum lifetime");
        let at = at.unwrap_or_else(|| {
            world.advance(2_000);
            world.pool.poll_deadline().unwrap()
        });
        let ms = at.0.since(world.now);
        world.advance(ms);
        ages.push(world.reports(|r| if let Report::WorkerDue { worker, .. } = r { Some(*worker) } else { None }));
        world.take();
        world.play(10_000);
    }
    assert_eq!(ages, [[4], [3], [2], [1]], "the last slot goes first, and nobody together");
}

#[test]
fn a_share_of_a_limit_lies_between_three_quarters_and_all_of_it() {
    for size in [1, 2, 3, 8, 1_000] {
        let shares: Vec<_> = (0..size).map(|slot| spread(1_000_000, slot, size)).collect();
        assert_eq!(shares[0], 1_000_000);
        assert!(shares.windows(2).all(|pair| pair[0] > pair[1]), "no two are the same: {shares:?}");
        assert!(shares.iter().all(|share| *share >= 750_000));
    }
    assert_eq!(spread(1, 3, 4), 1, "a limit is never nothing");
    assert_eq!(spread(1_000, 9, 4), spread(1_000, 3, 4), "a slot that is about to go has the last one's");
}

/// Catches: no watch at all; a crash without a replacement.
#[test]
fn a_worker_without_a_heartbeat_is_killed_and_replaced_like_one_that_crashed() {
    let mut world = watched(2);
    world.advance(5_000);
    world.say(2, Said::Heartbeat);
    world.advance(2_000);
    assert!(world.has(&Report::WorkerBlocked { worker: 1, silent_ms: 9_000 }));
    assert_eq!(world.signals(), [(1, Signal::Kill)]);
    assert_eq!(world.spawned(), [3], "its replacement does not wait for its end");
    assert_eq!((world.state(1), world.state(2)), ("killing", "running"));
}

/// Catches: a heartbeat that does not count, or counts once.
#[test]
fn heartbeats_keep_a_worker_running() {
    let mut world = watched(1);
    world.say(1, Said::Heartbeat);
    for _ in 0..50 {
        world.advance(8_999);
        world.say(1, Said::Heartbeat);
    }
    assert!(world.actions.is_empty());
}

/// Catches: watching before `listening`: a long start is the start timeout's business.
#[test]
fn the_watch_begins_with_listening() {
    let mut world = World::new(Config { heartbeat_ms: Some(1_000), ..Config::default() }, 1);
    world.event(Event::StartRequested);
    world.event(Event::WorkerConnected { worker: 1 });
    world.say(1, Said::Heartbeat);
    world.advance(50_000);
    assert_eq!(world.state(1), "starting");
}

/// Catches: a watch over workers whose SDK knows no heartbeats.
#[test]
fn a_worker_that_sends_no_heartbeats_is_not_watched() {
    let mut world = World::running(Config { heartbeat_ms: Some(1_000), ..Config::default() }, 1);
    world.advance(DAY);
    assert!(world.actions.is_empty());
}

/// Catches: an end to a worker because the master itself slept.
#[test]
fn a_master_that_slept_blames_nobody() {
    let mut world = watched(1);
    world.now = world.now.after(DAY);
    world.event(Event::DeadlineReached);
    assert_eq!(world.state(1), "running");
    world.advance(8_999);
    assert_eq!(world.state(1), "running", "it gets the whole time again");
    world.advance(1);
    assert_eq!(world.state(1), "killing");
}

/// Catches: a kill of a worker that drains, whose deadline is that of the order; and of one that cannot be heard.
#[test]
fn who_goes_or_has_no_connection_is_not_watched() {
    let mut world = watched(2);
    world.scale(1);
    world.advance(9_500);
    assert_eq!(world.state(2), "draining");
    let mut world = watched(1);
    world.advance(6_500);
    world.event(Event::ConnectionEnded { worker: 1 });
    world.advance(900);
    world.event(Event::WorkerConnected { worker: 1 });
    world.advance(8_999);
    assert_eq!(world.state(1), "running");
}

/// Catches: blocked workers in a loop without delay.
#[test]
fn a_pool_whose_workers_block_at_once_backs_off() {
    let mut world = watched(1);
    for _ in 0..5 {
        world.advance(9_000);
        let Some(id) = world.spawned().last().copied() else { continue };
        if world.state(id) == "starting" {
            world.event(Event::WorkerConnected { worker: id });
            world.say(id, Said::Listening);
            world.say(id, Said::Heartbeat);
        }
    }
    assert!(world.reports(|r| matches!(r, Report::WorkerBlocked { .. }).then_some(())).len() >= 2);
}
