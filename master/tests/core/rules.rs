//! The lifecycle rules of `core/`, one table of cases each. «Catches» names a mutation of the rule that makes the case fail.

use dutch_master::core::{Action, Config, Directory, EndOfRestart, Event, ExitStatus, Failure, Phase, Report, Said, Signal, SizeChange, Surge, Time, WhyGo};
use dutch_master_protocol::message::DisconnectReason;

use crate::world::World;

fn config() -> Config {
    Config::default()
}

/// Rule 1. Catches: spawning `size + surge`, or `size - 1`.
#[test]
fn the_first_start_spawns_size_workers_and_is_ready_when_all_listen() {
    let mut world = World::new(config(), 3);
    world.event(Event::StartRequested);
    assert_eq!(world.spawns(), [1, 2, 3].map(|id| (id, id - 1, 1, Directory::Live)));
    assert_eq!(world.actions[0], Action::TakeSnapshot { generation: 1 });
    world.listening(1);
    world.listening(2);
    assert!(!world.has(&Report::ClusterReady { workers: 3 }));
    world.listening(3);
    assert!(world.has(&Report::ClusterReady { workers: 3 }));
    assert_eq!(world.pool.committed(), Some(1));
}

/// Rule 1. Catches: reporting every `listening`, or taking one from a worker that was told to go as running.
#[test]
fn only_the_first_listening_counts_and_none_after_an_order_to_go() {
    let mut world = World::running(config(), 1);
    world.say(1, Said::Listening);
    assert!(world.actions.is_empty());
    world.scale(2);
    world.connect(2);
    world.scale(1);
    world.take();
    world.say(2, Said::Listening);
    assert_eq!(world.state(2), "draining");
    assert!(world.actions.is_empty());
}

/// Rule 2. Catches: telling the old worker when the new one is spawned, or when it connects.
#[test]
fn an_old_worker_is_told_to_go_only_when_its_replacement_has_lasted() {
    let mut world = World::running(config(), 1);
    world.restart(7);
    assert_eq!(world.spawns(), [(2, 0, 2, Directory::Live)]);
    world.connect(2);
    assert!(world.told_to_go().is_empty());
    world.say(2, Said::Listening);
    world.advance(1_999);
    assert!(world.told_to_go().is_empty());
    world.advance(1);
    assert_eq!(world.told_to_go(), [(1, WhyGo::Restart)]);
    assert!(world.actions.contains(&Action::Disconnect { worker: 1, reason: DisconnectReason::Restart, timeout_ms: 27_000 }));
    assert_eq!(world.ends(), [(2, EndOfRestart::Done)]);
}

/// Rule 2. Catches: waiting although nothing has to be shown.
#[test]
fn with_a_settle_time_of_zero_the_old_worker_is_told_at_once() {
    let mut world = World::running(Config { settle_ms: 0, ..config() }, 1);
    world.restart(7);
    world.listening(2);
    assert_eq!(world.told_to_go(), [(1, WhyGo::Restart)]);
}

/// Rule 3 and surge. Catches: surge counted over draining workers, or not at all.
#[test]
fn a_rolling_restart_stays_within_surge_and_replaces_everyone() {
    for (surge, at_once) in
        [(Surge::Percent(25), 1), (Surge::Count(3), 3), (Surge::All, 4), (Surge::Percent(50), 2), (Surge::Percent(0), 1), (Surge::Count(0), 1)]
    {
        let mut world = World::running(Config { surge, ..config() }, 4);
        world.restart(1);
        assert_eq!(world.spawned().len(), at_once, "{surge:?}");
        for id in world.spawned() {
            world.listening(id);
        }
        world.take();
        world.advance(2_000);
        assert_eq!(world.told_to_go().len(), at_once, "{surge:?}: as many go as run");
        let begun = world.spawned().len();
        assert_eq!(begun, at_once.min(4 - at_once), "{surge:?}: draining workers do not count");
        world.play(10_000);
        assert!(world.pool.workers().all(|w| w.generation == 2 && w.is_running()));
        assert_eq!(world.ends(), [(2, EndOfRestart::Done)]);
        assert_eq!(world.pool.workers().map(|w| w.slot).collect::<std::collections::BTreeSet<_>>().len(), 4, "each has a slot of its own");
    }
}

/// Rule 3. Catches: dropping a request while a restart is under way, as the original did.
#[test]
fn a_restart_during_a_restart_joins_until_a_worker_was_spawned_and_then_supersedes() {
    let mut world = World::running(config(), 2);
    world.restart(1);
    world.restart(2);
    assert!(world.has(&Report::RestartAccepted { ticket: 2, generation: 3 }));
    assert_eq!(world.ends(), [(2, EndOfRestart::Superseded { by: 3 })]);
    world.take();
    world.play(20_000);
    assert_eq!(world.ends(), [(3, EndOfRestart::Done)]);
    assert!(world.pool.workers().all(|w| w.generation == 3));
}

/// Rule 3. Catches: making a new target although nothing was spawned for the last one.
#[test]
fn a_restart_joins_a_target_of_which_nothing_was_spawned() {
    // Three draining generations fill the pool's hard limit, so that the next restart has to wait.
    let mut world = World::running(Config { settle_ms: 0, ..config() }, 1);
    for ticket in 1..=3 {
        world.restart(ticket);
        if let Some(id) = world.take().iter().find_map(|a| if let Action::Spawn { worker, .. } = a { Some(*worker) } else { None }) {
            world.listening(id);
        }
    }
    assert_eq!(world.pool.workers().count(), 4, "3 × size + surge");
    world.take();
    world.restart(8);
    assert!(world.spawned().is_empty(), "beyond the limit a restart waits");
    world.restart(9);
    assert!(world.has(&Report::RestartAccepted { ticket: 8, generation: 5 }) && world.has(&Report::RestartAccepted { ticket: 9, generation: 5 }));
    assert_eq!(world.actions.iter().filter(|a| **a == Action::TakeSnapshot { generation: 5 }).count(), 2, "who joins brings the newest configuration");
    world.exit(1, 0);
    assert_eq!(world.spawned().len(), 1);
}

/// Rule 3. Catches: cancelling outdated starts although the service needs them.
#[test]
fn an_outdated_start_is_cancelled_only_when_size_workers_run() {
    let mut world = World::new(config(), 1);
    world.event(Event::StartRequested);
    world.connect(1);
    world.restart(1);
    assert_eq!(world.state(1), "starting", "nobody serves: the old start goes on");
    world.say(1, Said::Listening);
    assert_eq!(world.state(1), "running");
    world.play(10_000);
    assert_eq!(world.pool.workers().map(|w| w.generation).collect::<Vec<_>>(), [2]);

    let mut world = World::running(config(), 1);
    world.restart(1);
    world.restart(2);
    assert_eq!(world.told_to_go(), [(2, WhyGo::Restart)], "the running one serves: the outdated start is cancelled");
    assert_eq!(world.signals(), [(2, Signal::Terminate)], "it has no connection to hear an order");
}

/// Rule 4. Catches: one replacement a request; telling the asker to go at once.
#[test]
fn a_worker_that_asks_three_times_gets_one_replacement_and_then_goes() {
    let mut world = World::running(config(), 2);
    for _ in 0..3 {
        world.say(1, Said::RequestRestart);
    }
    assert_eq!(world.spawns(), [(3, 0, 1, Directory::Live)], "in its predecessor's slot");
    assert!(world.told_to_go().is_empty());
    world.listening(3);
    assert_eq!(world.told_to_go(), [(1, WhyGo::Request)]);
    assert_eq!(world.reports(|r| matches!(r, Report::WorkerDying { .. }).then_some(())).len(), 1);
}

/// Rule 4. Catches: surge ignored for askers.
#[test]
fn many_askers_stay_within_surge() {
    let mut world = World::running(config(), 4);
    for id in 1..=4 {
        world.say(id, Said::RequestRestart);
    }
    assert_eq!(world.spawned().len(), 1);
    world.play(30_000);
    assert_eq!(world.running_ids(), [5, 6, 7, 8]);
}

/// Rule 4. Catches: taking the request of a worker that does not run.
#[test]
fn a_request_restart_from_a_starting_worker_is_ignored() {
    let mut world = World::new(config(), 1);
    world.event(Event::StartRequested);
    world.connect(1);
    world.say(1, Said::RequestRestart);
    world.say(1, Said::Listening);
    assert_eq!(world.spawned(), [1]);
}

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

/// Rule 12. Catches: a failed hook that is no failed start.
#[test]
fn a_failed_hook_is_a_failed_start() {
    let mut world = World::running(config(), 1);
    world.restart(1);
    for id in 2..=4 {
        world.event(Event::SpawnFailed { worker: id, reason: "before_fork exited with code 1".into() });
        world.advance(3_000);
    }
    let why = Failure::Spawn("before_fork exited with code 1".into());
    assert_eq!(world.ends(), [(2, EndOfRestart::GivenUp { attempts: 3, why })]);
}

/// Rule 12. Catches: a size set by `scale` lost at the next restart, or an evaluated change ignored.
#[test]
fn a_size_set_by_scale_stays_until_the_evaluated_value_changes() {
    let mut world = World::running(config(), 2);
    world.scale(3);
    world.event(Event::RestartRequested { ticket: 1, size: 2 });
    assert_eq!(world.pool.size(), 3);
    world.event(Event::RestartRequested { ticket: 2, size: 4 });
    assert_eq!(world.pool.size(), 4);
}

/// Rule 14. Catches: removing the wrong ones; going below 1 or above the limit.
#[test]
fn scaling_down_removes_the_highest_slots() {
    let mut world = World::running(config(), 4);
    world.scale(2);
    assert_eq!(world.told_to_go(), [(4, WhyGo::ScaleDown), (3, WhyGo::ScaleDown)]);
    world.event(Event::ScaleRequested(SizeChange::By(-7)));
    assert_eq!(world.pool.size(), 1);
    world.scale(u32::MAX);
    assert_eq!(world.pool.size(), dutch_master::core::SIZE_MAX);
}

/// Rule 14. Catches: starts that go on although the pool became smaller.
#[test]
fn scaling_down_cancels_starts_that_are_no_longer_needed_first() {
    let mut world = World::running(config(), 1);
    world.scale(3);
    assert_eq!(world.spawned(), [2, 3]);
    world.scale(1);
    assert_eq!(world.told_to_go(), [(3, WhyGo::ScaleDown), (2, WhyGo::ScaleDown)]);
}

/// Catches: a status that does not tell what goes on.
#[test]
fn the_phase_says_what_goes_on() {
    let mut world = World::new(config(), 1);
    assert_eq!((world.pool.phase(), world.pool.generation()), (Phase::Serving, 0));
    world.event(Event::StartRequested);
    assert_eq!((world.pool.phase(), world.pool.generation()), (Phase::Starting, 1));
    world.listening(1);
    assert_eq!((world.pool.phase(), world.pool.restarts_done()), (Phase::Serving, 0));
    world.restart(1);
    assert_eq!((world.pool.phase(), world.pool.generation()), (Phase::Restarting, 2));
    world.play(10_000);
    assert_eq!((world.pool.phase(), world.pool.restarts_done()), (Phase::Serving, 1));
    world.event(Event::StopRequested);
    assert_eq!(world.pool.phase(), Phase::Stopping);

    let mut world = World::new(config(), 1);
    world.event(Event::StartRequested);
    world.restart(1);
    assert_eq!(world.pool.phase(), Phase::Restarting, "a restart during the first start is one");
}

/// Catches: a changed limit that is not used.
#[test]
fn a_changed_configuration_holds_from_then_on() {
    let mut world = World::running(config(), 2);
    world.pool.set_config(Config { kill_timeout_ms: 5_000, ..config() });
    world.scale(1);
    world.advance(5_000);
    assert_eq!(world.signals().last(), Some(&(2, Signal::Kill)));
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

/// Rule 3. Catches: a superseded generation that blocks the next one, or that stays in place of the one that has shown that it works.
#[test]
fn of_several_older_generations_the_one_that_has_shown_least_makes_room() {
    let mut world = World::running(config(), 1);
    world.restart(1);
    world.listening(2);
    world.restart(2);
    assert_eq!(world.told_to_go(), [(2, WhyGo::Restart)]);
    assert_eq!(world.spawns().last().map(|s| s.2), Some(3));

    let mut world = World::running(config(), 2);
    world.restart(1);
    world.listening(3);
    world.say(3, Said::RequestRestart);
    world.take();
    world.scale(1);
    assert_eq!(world.told_to_go().first(), Some(&(1, WhyGo::Restart)), "the new generation's is no older one");
}

/// Rule 14. Catches: dismissing a worker whose slot nobody has taken over.
#[test]
fn the_worker_whose_slot_was_taken_over_goes_first() {
    let mut world = World::running(Config { settle_ms: 0, surge: Surge::Count(2), ..config() }, 4);
    world.restart(1);
    let created = |worker, old| Report::CreatingWorker { worker, instead_of: Some(old) };
    assert!(world.has(&created(5, 1)) && world.has(&created(6, 2)));
    world.listening(6);
    assert_eq!(world.told_to_go(), [(2, WhyGo::Restart)]);

    let mut world = World::running(config(), 2);
    world.exit(1, 1);
    assert!(world.has(&Report::CreatingWorker { worker: 3, instead_of: None }), "nobody serves 1's slot any more");
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

/// Catches: an operator who does not learn why.
#[test]
fn failures_say_what_happened() {
    let cases = [
        (Failure::Exited(ExitStatus::Code(3)), "the worker exited with code 3"),
        (Failure::Exited(ExitStatus::Signal(9)), "the worker was ended by signal 9"),
        (Failure::Exited(ExitStatus::Unknown), "the worker exited"),
        (Failure::StartTimeout { after_ms: 1_500, connected: true }, "the worker connected, but did not say `listening` within 1.5 s"),
        (Failure::StartTimeout { after_ms: 1, connected: true }, "the worker connected, but did not say `listening` within 0.001 s"),
        (Failure::Spawn("no such file".into()), "no such file"),
        (Failure::Disconnected, "the worker closed its connection"),
    ];
    for (failure, text) in cases {
        assert_eq!(failure.to_string(), text);
    }
    assert!(Failure::StartTimeout { after_ms: 1_500, connected: false }.to_string().starts_with("the worker did not connect to the master within 1.5 s"));
}

/// Catches: any state that a successor could not read back.
#[test]
fn the_whole_state_survives_serialisation() {
    let mut world = World::running(config(), 2);
    world.restart(1);
    world.listening(3);
    world.say(1, Said::Leaving);
    world.event(Event::ConnectionEnded { worker: 2 });
    let text = serde_json::to_string(&world.pool).unwrap();
    let back: dutch_master::core::Pool = serde_json::from_str(&text).unwrap();
    assert_eq!(back, world.pool);
}

/// Catches: a wake-up for nothing.
#[test]
fn an_idle_pool_has_no_deadline() {
    let world = World::running(config(), 4);
    assert_eq!(world.pool.poll_deadline(), None);
    assert_eq!(Time(5).since(Time(9)), 0);
}
