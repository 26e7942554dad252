//! A model checker over the real reconciler: every order of events in small pools, every state visited once. In each state the invariants hold, and well-behaved workers bring the pool to rest from there.
//! `make model` looks further than `make test` does.

use std::hash::{Hash, Hasher};

use dutch_master::core::{Config, Event, ExitStatus, Phase, Pool, Said, SizeChange, State, Surge, Time, WorkerId};
use stateright::{Checker, Model, Property};

use crate::world::{Invariants, World};

/// What can happen next.
#[derive(Debug, Clone, PartialEq)]
enum Move {
    Deadline,
    /// Time passes although nothing is due: long enough for workers to count as proven.
    Rest,
    Fact(Event),
}

struct Lab {
    config: Config,
    size: u32,
    workers: WorkerId,
    restarts: u64,
    /// How often the master may die.
    deaths: u64,
}

#[derive(Debug, Clone)]
struct Node {
    now: Time,
    pool: Pool,
    checks: Invariants,
    restarts: u64,
    deaths: u64,
    /// The last worker that was ordered before the master died: whether it was ever spawned only the world knows.
    in_doubt: WorkerId,
    scaled: bool,
    broken: Option<String>,
}

impl Node {
    /// The state with times relative to now, as text: two moments that look alike from then on are one state.
    fn identity(&self) -> String {
        let mut text = format!("{:?} {} {} {} {}", self.pool, self.restarts, self.deaths, self.in_doubt, self.scaled);
        // What failed last is only told, it decides nothing.
        if let (Some(from), Some(to)) = (text.find("last_failure: "), text.find("backoff: ")) {
            text.replace_range(from..to, "");
        }
        let mut parts = text.split("Time(");
        let mut identity = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (digits, rest) = part.split_once(')').unwrap_or((part, ""));
            // When a worker was ordered decides nothing.
            if !identity.ends_with("ordered_at: ") {
                let relative = digits.parse::<i64>().unwrap_or(0) - self.now.0.cast_signed();
                identity.push_str(&relative.max(-10_000).to_string());
            }
            identity.push_str(rest);
        }
        identity
    }

    fn step(&mut self, event: Event) {
        let before = self.pool.clone();
        self.pool.handle(self.now, event.clone());
        let actions: Vec<_> = std::iter::from_fn(|| self.pool.poll_action()).collect();
        self.broken = self.checks.try_step(&before, &event, &self.pool, &actions).err();
    }

    /// Whether well-behaved workers bring the pool to rest from here.
    fn comes_to_rest(&self) -> bool {
        let mut world = World { now: self.now, pool: self.pool.clone(), actions: Vec::new(), checks: self.checks.clone() };
        world.play(3_600_000);
        match world.pool.phase() {
            Phase::Stopping => world.pool.workers().next().is_none(),
            Phase::Serving => world.pool.running() == world.pool.size(),
            Phase::Starting | Phase::Restarting => false,
        }
    }
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.identity() == other.identity()
    }
}

impl Model for Lab {
    type State = Node;
    type Action = Move;

    fn init_states(&self) -> Vec<Node> {
        let mut node = Node {
            now: Time(1_000_000),
            pool: Pool::new(self.config.clone(), self.size),
            checks: Invariants::default(),
            restarts: 0,
            deaths: 0,
            in_doubt: 0,
            scaled: false,
            broken: None,
        };
        node.step(Event::StartRequested);
        vec![node]
    }

    fn actions(&self, node: &Node, moves: &mut Vec<Move>) {
        let fact = |event| Move::Fact(event);
        match node.pool.poll_deadline() {
            Some(_) => moves.push(Move::Deadline),
            None => moves.push(Move::Rest),
        }
        for worker in node.pool.workers() {
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
                if id <= node.in_doubt && matches!(worker.state, State::Starting { .. }) {
                    moves.push(fact(Event::NeverSpawned { worker: id }));
                }
            }
        }
        if node.restarts < self.restarts {
            moves.push(fact(Event::RestartRequested { ticket: node.restarts, size: self.size }));
        }
        if !node.scaled {
            moves.push(fact(Event::ScaleRequested(SizeChange::To(if self.size == 1 { 2 } else { self.size - 1 }))));
        }
        if node.deaths < self.deaths {
            moves.push(fact(Event::TakenOver));
        }
        moves.push(fact(Event::StopRequested));
    }

    fn next_state(&self, node: &Node, action: Move) -> Option<Node> {
        let mut next = node.clone();
        match action {
            Move::Rest => next.now = next.now.after(10_000),
            Move::Deadline => {
                next.now = node.pool.poll_deadline().map_or(node.now, |(at, _)| at.max(node.now));
                next.step(Event::DeadlineReached);
            }
            Move::Fact(event) => {
                next.restarts += u64::from(matches!(event, Event::RestartRequested { .. }));
                if event == Event::TakenOver {
                    next.deaths += 1;
                    next.in_doubt = node.pool.workers().map(|worker| worker.id).max().unwrap_or_default();
                }
                next.scaled |= matches!(event, Event::ScaleRequested(_));
                next.step(event);
            }
        }
        Some(next)
    }

    fn within_boundary(&self, node: &Node) -> bool {
        node.pool.workers().all(|w| w.id <= self.workers)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the invariants hold", |_: &Lab, node: &Node| node.broken.is_none()),
            Property::always("well-behaved workers bring the pool to rest", |_: &Lab, node: &Node| node.comes_to_rest()),
        ]
    }
}

/// Short times that are multiples of a second: as many orders of deadlines, fewer distances between them.
fn config() -> Config {
    Config { start_timeout_ms: 3_000, hook_timeout_ms: 0, kill_timeout_ms: 2_000, restart_attempts: 2, ..Config::default() }
}

/// How many states of a pool of three `make model` goes through: what fits into some minutes and gigabytes.
const STATES_OF_THREE: usize = 4_000_000;

/// Breadth first: all histories up to some length, with two workers more than the pool has, and a master that may die once at every step.
/// `MODEL_STATES=0` in the environment: all histories of any length, with one worker more; a pool of three is too large for that, and has a limit of its own.
fn explore(size: u32, config: Config) {
    let limit = std::env::var("MODEL_STATES").ok().and_then(|n| n.parse().ok()).unwrap_or(300_000);
    let limit = if limit == 0 && size > 2 { STATES_OF_THREE } else { limit };
    let workers = if limit == 0 { size + 1 } else { size + 2 };
    let checker = Lab { config: config.clone(), size, workers, restarts: 1, deaths: 1 }.checker().threads(2);
    let checker = if limit == 0 { checker } else { checker.target_state_count(limit) }.spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    eprintln!("size {size}, {:?}, settle {} ms: {states} states, histories of up to {depth} events, {workers} workers", config.surge, config.settle_ms);
    for name in ["the invariants hold", "well-behaved workers bring the pool to rest"] {
        if let Some(path) = checker.discovery(name) {
            let moves = path.clone().into_actions();
            panic!("not so: {name}\nafter {moves:?}\nin {:?}", path.last_state());
        }
    }
    assert!(states > 1_000, "the model explores something");
}

#[test]
fn every_state_of_a_pool_of_one_is_sound() {
    for settle_ms in [0, 2_000] {
        explore(1, Config { settle_ms, ..config() });
    }
}

#[test]
fn every_state_of_a_pool_of_two_is_sound() {
    explore(2, Config { settle_ms: 2_000, ..config() });
    explore(2, Config { settle_ms: 0, surge: Surge::All, restart_attempts: 1, ..config() });
}

#[test]
fn the_first_states_of_a_pool_of_three_are_sound() {
    explore(3, Config { settle_ms: 0, ..config() });
}
