//! Seeded random histories: whatever happens in whatever order, the invariants hold after every step, and the pool comes to rest.

use dutch_master::core::{Config, Event, ExitStatus, Phase, Recycle, Said, SizeChange, Surge};
use proptest::prelude::*;

use crate::world::World;

#[derive(Debug, Clone)]
enum Step {
    Advance(u64),
    NextDeadline,
    /// Something to the n-th worker that exists.
    Worker(prop::sample::Index, Deed),
    Restart(u32),
    Scale(SizeChange),
    Stop,
    MasterDies,
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Spawned,
    SpawnFailed,
    Connect,
    Say(Said),
    Due(Recycle),
    HangUp,
    Exit(ExitStatus),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => Just(Deed::Spawned),
        1 => Just(Deed::SpawnFailed),
        4 => Just(Deed::Connect),
        8 => Just(Deed::Say(Said::Listening)),
        2 => Just(Deed::Say(Said::RequestRestart)),
        1 => Just(Deed::Say(Said::Leaving)),
        2 => Just(Deed::Say(Said::Disconnect)),
        3 => Just(Deed::Say(Said::Heartbeat)),
        2 => prop_oneof![Just(Recycle::Memory), Just(Recycle::Requests)].prop_map(Deed::Due),
        2 => Just(Deed::HangUp),
        4 => prop_oneof![Just(ExitStatus::Code(0)), Just(ExitStatus::Code(1)), Just(ExitStatus::Signal(9)), Just(ExitStatus::Unknown)].prop_map(Deed::Exit),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (any::<prop::sample::Index>(), deed()).prop_map(|(index, deed)| Step::Worker(index, deed)),
        4 => prop_oneof![1u64..100, 900u64..3_000, 10_000u64..70_000].prop_map(Step::Advance),
        4 => Just(Step::NextDeadline),
        2 => (1u32..5).prop_map(Step::Restart),
        1 => prop_oneof![(0u32..6).prop_map(SizeChange::To), (-3i32..4).prop_map(SizeChange::By)].prop_map(Step::Scale),
        1 => Just(Step::Stop),
        1 => Just(Step::MasterDies),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let surge = prop_oneof![Just(Surge::Percent(25)), Just(Surge::All), (0u32..3).prop_map(Surge::Count)];
    let settle_ms = prop_oneof![Just(0u64), Just(2_000)];
    let kill_timeout_ms = prop_oneof![Just(1u64), Just(1_000), Just(30_000)];
    let limits = (prop::option::of(Just(20_000u64)), prop::option::of(Just(5_000u64)));
    (surge, settle_ms, 1u32..4, any::<bool>(), kill_timeout_ms, limits).prop_map(
        |(surge, settle_ms, restart_attempts, keep_trying, kill_timeout_ms, (max_lifetime_ms, heartbeat_ms))| Config {
            max_lifetime_ms,
            heartbeat_ms,
            surge,
            settle_ms,
            restart_attempts,
            keep_trying,
            kill_timeout_ms,
            ..Config::default()
        },
    )
}

fn run(world: &mut World, steps: Vec<Step>) {
    world.event(Event::StartRequested);
    for (ticket, step) in steps.into_iter().enumerate() {
        match step {
            Step::Advance(ms) => world.advance(ms),
            Step::NextDeadline => {
                if let Some((at, _)) = world.pool.poll_deadline() {
                    let ms = at.since(world.now);
                    world.advance(ms);
                }
            }
            Step::Restart(size) => world.event(Event::RestartRequested { ticket: ticket as u64, size }),
            Step::Scale(change) => world.event(Event::ScaleRequested(change)),
            Step::MasterDies => world.master_dies(),
            Step::Stop => world.event(Event::StopRequested),
            Step::Worker(index, deed) => {
                let ids: Vec<_> = world.pool.workers().map(|w| w.id).collect();
                let Some(worker) = (!ids.is_empty()).then(|| *index.get(&ids)) else { continue };
                world.event(match deed {
                    Deed::Spawned => Event::WorkerSpawned { worker },
                    Deed::SpawnFailed => Event::SpawnFailed { worker, reason: "no".into() },
                    Deed::Connect => Event::WorkerConnected { worker },
                    Deed::Due(why) => Event::RecycleDue { worker, why },
                    Deed::Say(said) => Event::WorkerSaid { worker, said },
                    Deed::HangUp => Event::ConnectionEnded { worker },
                    Deed::Exit(status) => Event::WorkerExited { worker, status },
                });
            }
        }
    }
}

/// `PROPTEST_CASES` in the environment: how many.
fn histories() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_and_well_behaved_workers_bring_the_pool_to_rest(
        config in config(), size in 1u32..5, rare_stop in 0u8..4, steps in proptest::collection::vec(step(), 0..60)
    ) {
        let mut world = World::new(config, size);
        let steps = steps.into_iter().filter(|step| rare_stop == 0 || !matches!(step, Step::Stop)).collect();
        run(&mut world, steps);
        // What is due again and again never comes to rest.
        world.pool.set_config(Config { max_lifetime_ms: None, ..world.pool.config().clone() });
        world.play(3_600_000);
        if world.pool.phase() == Phase::Stopping {
            prop_assert!(world.exit_code().is_some(), "a stop always ends");
        } else {
            prop_assert_eq!(world.pool.phase(), Phase::Serving, "every restart ends");
            prop_assert_eq!(world.pool.running(), world.pool.size());
            prop_assert!(world.pool.workers().all(|w| w.is_running()));
            prop_assert_eq!(world.pool.poll_deadline(), None);
        }
    }
}
