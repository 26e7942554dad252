//! The lifecycle rules of `core/`, one table of cases each: starting, replacing, sizes, and what holds always. «Catches» names a mutation of the rule that makes the case fail.

use dutch_master::core::{Action, Config, Directory, EndOfRestart, Event, ExitStatus, Failure, Phase, Report, Said, Signal, SizeChange, Surge, Time, WhyGo};
use dutch_master_protocol::message::DisconnectReason;

use crate::world::World;

pub(crate) fn config() -> Config {
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
    assert!(back.is_consistent());
}

/// Catches: a state that was damaged and is gone on with (a worker that is never found by its id kept a master busy for ever).
#[test]
fn a_state_that_contradicts_itself_is_told() {
    let mut world = World::running(config(), 2);
    world.restart(1);
    let text = serde_json::to_string(&world.pool).unwrap();
    for (sound, damaged) in [
        ("\"id\":1,", "\"id\":7,"),
        ("\"last_worker\":3", "\"last_worker\":2"),
        ("\"generation\":1,", "\"generation\":0,"),
        ("\"last_generation\":2", "\"last_generation\":1"),
        ("\"committed\":1", "\"committed\":9"),
        ("\"size\":2", "\"size\":0"),
    ] {
        assert!(text.contains(sound), "{sound} is not in {text}");
        let back: dutch_master::core::Pool = serde_json::from_str(&text.replacen(sound, damaged, 1)).unwrap();
        assert!(!back.is_consistent(), "{damaged}");
    }
}

/// Catches: a wake-up for nothing.
#[test]
fn an_idle_pool_has_no_deadline() {
    let world = World::running(config(), 4);
    assert_eq!(world.pool.poll_deadline(), None);
    assert_eq!(Time(5).since(Time(9)), 0);
}
