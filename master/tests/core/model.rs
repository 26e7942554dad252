//! A model checker over the real reconciler: every order of events in small pools, every state visited once. In each state the invariants hold, and well-behaved workers bring the pool to rest from there.
//! `make model` looks further than `make test` does.

mod identity;
mod rest;
mod search;

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Instant;

use dutch_master::core::{Config, Event, ExitStatus, Pool, Said, SizeChange, State, Surge, Time, Worker, WorkerId};

use self::identity::{full_identity, identity};
use self::rest::Rest;
use self::search::{Explored, Key, lock, search};
use crate::world::World;

/// Something that happens.
#[derive(Debug, Clone)]
enum Move {
    Deadline,
    /// Time passes although nothing is due: long enough for workers to count as proven.
    Rest,
    Fact(Event),
}

/// The bounds of what happens.
#[derive(Clone)]
struct Lab {
    config: Config,
    size: u32,
    /// How many workers are started in all.
    workers: WorkerId,
    restarts: u64,
    /// How often the master may die.
    deaths: u64,
}

#[derive(Debug, Clone)]
struct Node {
    world: World,
    done: Done,
    /// What led to it: which of the moves each time.
    history: Vec<u8>,
}

/// What can happen only so often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Done {
    restarts: u64,
    deaths: u64,
    /// The last worker that was ordered before the master died: whether it was ever spawned only the world knows.
    in_doubt: WorkerId,
    scaled: bool,
}

impl Node {
    /// What decides the future of the node.
    fn key(&self) -> Key {
        let World { now, pool, checks, .. } = &self.world;
        let in_doubt: Vec<bool> = starting(pool).map(|worker| worker.id <= self.done.in_doubt).collect();
        let done = Done { in_doubt: 0, ..self.done };
        Key::of(&(identity(*now, pool), in_doubt, done, checks.last_spawned, &checks.open_restarts, checks.exited))
    }

    /// The same with nothing left out but the clock.
    fn full_key(&self) -> Key {
        let World { now, pool, checks, .. } = &self.world;
        Key::of(&(full_identity(*now, pool), self.done, checks))
    }
}

fn starting(pool: &Pool) -> impl Iterator<Item = &Worker> {
    pool.workers().filter(|worker| matches!(worker.state, State::Starting { .. }))
}

impl Lab {
    fn first(&self) -> Node {
        let mut world = World::new(self.config.clone(), self.size);
        world.event(Event::StartRequested);
        Node { world, done: Done::default(), history: Vec::new() }
    }

    /// What can happen next.
    fn moves(&self, node: &Node) -> Vec<Move> {
        let mut moves = Vec::new();
        let fact = |event| Move::Fact(event);
        match node.world.pool.poll_deadline() {
            Some(_) => moves.push(Move::Deadline),
            None => moves.push(Move::Rest),
        }
        for worker in node.world.pool.workers() {
            let (id, connected) = (worker.id, worker.connected);
            let say = |said| Move::Fact(Event::WorkerSaid { worker: id, said });
            for status in [ExitStatus::Code(0), ExitStatus::Signal(9)] {
                moves.push(fact(Event::WorkerExited { worker: id, status }));
            }
            match (&worker.state, connected) {
                (State::Killing, _) => continue,
                (_, false) => moves.push(fact(Event::WorkerConnected { worker: id })),
                (State::Starting { .. }, true) => moves.push(say(Said::Listening)),
                (State::Running { .. }, true) => moves.extend([say(Said::RequestRestart), say(Said::Leaving)]),
                (State::Draining { .. } | State::Lost, true) => {}
            }
            if connected {
                moves.extend([say(Said::Disconnect), fact(Event::ConnectionEnded { worker: id })]);
            } else {
                moves.push(fact(Event::SpawnFailed { worker: id, reason: String::new() }));
                if id <= node.done.in_doubt && matches!(worker.state, State::Starting { .. }) {
                    moves.push(fact(Event::NeverSpawned { worker: id }));
                }
            }
        }
        if node.done.restarts < self.restarts {
            moves.push(fact(Event::RestartRequested { ticket: node.done.restarts, size: self.size }));
        }
        if !node.done.scaled {
            moves.push(fact(Event::ScaleRequested(SizeChange::To(if self.size == 1 { 2 } else { self.size - 1 }))));
        }
        if node.done.deaths < self.deaths {
            moves.push(fact(Event::TakenOver));
        }
        moves.push(fact(Event::StopRequested));
        moves
    }

    /// The node after something has happened.
    fn after(&self, node: &Node, event: Move) -> Node {
        let mut next = node.clone();
        match event {
            Move::Rest => next.world.now = next.world.now.after(10_000),
            Move::Deadline => assert!(next.world.next_deadline(Time(u64::MAX)), "there is a deadline"),
            Move::Fact(event) => {
                next.done.restarts += u64::from(matches!(event, Event::RestartRequested { .. }));
                if event == Event::TakenOver {
                    next.done.deaths += 1;
                    next.done.in_doubt = node.world.pool.workers().map(|worker| worker.id).max().unwrap_or_default();
                }
                next.done.scaled |= matches!(event, Event::ScaleRequested(_));
                next.world.event(event);
            }
        }
        next.world.actions.clear();
        next
    }

    /// What has happened.
    fn events(&self, history: &[u8]) -> Vec<Move> {
        let mut node = self.first();
        let event = |which: &u8| {
            let event = self.moves(&node).swap_remove(usize::from(*which));
            node = self.after(&node, event.clone());
            event
        };
        history.iter().map(event).collect()
    }

    /// Whether it is within the bounds.
    fn contains(&self, node: &Node) -> bool {
        node.world.checks.last_spawned <= self.workers
    }
}

/// Short times that are multiples of a second: as many orders of deadlines, fewer distances between them.
fn config() -> Config {
    Config { start_timeout_ms: 3_000, hook_timeout_ms: 0, kill_timeout_ms: 2_000, restart_attempts: 2, ..Config::default() }
}

/// `MODEL_EVENTS` in the environment: of how many events histories are at most; 0: of any number, where that ends.
fn asked() -> Option<usize> {
    let asked = std::env::var("MODEL_EVENTS").ok().and_then(|n| n.parse().ok());
    asked.map(|events| if events == 0 { usize::MAX } else { events })
}

/// Visits every state within the bounds of `lab` that a history of up to `events` events leads to.
fn explore(lab: &Lab, events: usize) {
    let rest = Rest::default();
    let began = Instant::now();
    let explored = search(lab, events, Node::key, |node| rest.is_reached_from(node)).unwrap_or_else(|fault| panic!("{fault}"));
    let Lab { size, workers, restarts, deaths, config: Config { surge, settle_ms, .. } } = lab;
    let Explored { states, steps, longest, cut } = explored;
    let (all, took) = (if cut { "not all" } else { "all" }, began.elapsed());
    eprintln!(
        "size {size}, {surge:?}, settle {settle_ms} ms, {workers} workers, {restarts} restarts, {deaths} deaths: {all} states: {states}, {steps} steps, histories of up to {longest} events, at rest after {} ms at most; {took:.1?}",
        rest.longest_ms()
    );
    assert!(states > 1_000, "the model explores something");
}

fn lab(size: u32, config: Config) -> Lab {
    Lab { config, size, workers: size + 1, restarts: 1, deaths: 1 }
}

#[test]
fn every_state_of_a_pool_of_one_is_sound() {
    for settle_ms in [0, 2_000] {
        let lab = lab(1, Config { settle_ms, ..config() });
        explore(&lab, asked().unwrap_or(usize::MAX));
        if asked() == Some(usize::MAX) {
            explore(&Lab { workers: 3, ..lab.clone() }, usize::MAX);
            explore(&Lab { restarts: 2, deaths: 2, ..lab }, usize::MAX);
        }
    }
}

#[test]
fn every_state_of_a_pool_of_two_is_sound() {
    for config in [Config { settle_ms: 2_000, ..config() }, Config { settle_ms: 0, surge: Surge::All, restart_attempts: 1, ..config() }] {
        let lab = lab(2, config);
        explore(&lab, asked().unwrap_or(7));
        if asked() == Some(usize::MAX) {
            explore(&Lab { restarts: 2, deaths: 2, ..lab }, usize::MAX);
        }
    }
}

/// A pool of three has too many states to see the end of: this many events take some minutes and gigabytes.
const EVENTS_OF_THREE: usize = 12;

#[test]
fn the_first_states_of_a_pool_of_three_are_sound() {
    explore(&lab(3, Config { settle_ms: 0, ..config() }), asked().unwrap_or(6).min(EVENTS_OF_THREE));
}

/// How many events of a pool of two are compared in `make model`.
const EVENTS_COMPARED: usize = 9;

/// What the model takes for one state are states with the same future: whether it looks at one of them or at all of them, it gets to the same.
#[test]
fn nothing_is_lost_by_what_the_identity_leaves_out() {
    let pools = [(1, 0, 8, usize::MAX), (1, 2_000, 8, usize::MAX), (2, 0, 6, EVENTS_COMPARED), (2, 2_000, 6, EVENTS_COMPARED)];
    for (size, settle_ms, events, most) in pools {
        let lab = lab(size, Config { settle_ms, ..config() });
        let reached = |key: fn(&Node) -> Key| {
            let reached = Mutex::new(HashSet::new());
            let visit = |node: &Node| {
                lock(&reached).insert(node.key());
                Ok(())
            };
            let explored = search(&lab, asked().unwrap_or(events).min(most), key, visit).unwrap_or_else(|fault| panic!("{fault}"));
            (lock(&reached).clone(), explored.states)
        };
        let ((few, states), (all, full_states)) = (reached(Node::key), reached(Node::full_key));
        eprintln!("size {size}, settle {settle_ms} ms: {states} states stand for {full_states}");
        assert!(few == all, "{} states were not found", all.difference(&few).count());
        assert!(full_states > 2 * states, "something is left out");
    }
}
