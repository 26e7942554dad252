//! A breadth-first search over the nodes of a lab, on all cores: each state is looked at once, and a fault is told with one of the shortest histories that lead to it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dutch_master::core::Time;

use super::{Done, Lab, Node};
use crate::world::{Invariants, World};

/// Stands for a state: two hashes of what it is. Of a hundred million states no two are likely to share one (one chance in 10^22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u64, u64);

impl Key {
    pub(super) fn of(what: &impl Hash) -> Key {
        let hash = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, what).hash(&mut hasher);
            hasher.finish()
        };
        Key(hash(1), hash(2))
    }

    /// One of `parts` that it belongs to.
    pub(super) fn part(self, parts: usize) -> usize {
        self.0 as usize % parts
    }
}

/// How far it went.
#[derive(Debug, Default)]
pub(super) struct Explored {
    pub(super) states: usize,
    pub(super) steps: usize,
    /// How many events the longest of the shortest histories has.
    pub(super) longest: usize,
    /// There is more behind histories of that many events.
    pub(super) cut: bool,
}

/// A node that waits for its turn, in the form in which a master would write its pool down: a tenth of the memory.
struct Packed {
    pool: Vec<u8>,
    now: Time,
    checks: Invariants,
    done: Done,
    history: Vec<u8>,
}

impl From<Node> for Packed {
    fn from(Node { world: World { now, pool, checks, .. }, done, history }: Node) -> Packed {
        Packed { pool: rmp_serde::to_vec(&pool).expect("the state can be written"), now, checks, done, history }
    }
}

impl From<Packed> for Node {
    fn from(Packed { pool, now, checks, done, history }: Packed) -> Node {
        let pool = rmp_serde::from_slice(&pool).expect("and read");
        Node { world: World { now, pool, actions: Vec::new(), checks }, done, history }
    }
}

/// How many nodes a thread takes at a time.
const BATCH: usize = 256;

/// How many locks share what was seen, so that threads seldom wait for one.
const PARTS: usize = 64;

/// Visits every state that histories of up to `events` events lead to. What `key` says is the same is one state; `visit` judges each.
pub(super) fn search(
    lab: &Lab,
    events: usize,
    key: impl Fn(&Node) -> Key + Sync,
    visit: impl Fn(&Node) -> Result<(), String> + Sync,
) -> Result<Explored, String> {
    let seen: Vec<Mutex<HashSet<Key>>> = (0..PARTS).map(|_| Mutex::default()).collect();
    let is_new = |node: &Node| {
        let key = key(node);
        lock(&seen[key.part(PARTS)]).insert(key)
    };
    let first = lab.first();
    is_new(&first);
    visit(&first)?;
    let mut explored = Explored { states: 1, ..Explored::default() };
    let mut level = vec![Packed::from(first)];
    while !level.is_empty() && explored.longest < events {
        let (work, fault) = (Mutex::new(level.into_iter()), Mutex::new(None));
        let expand = || {
            let (mut next, mut steps) = (Vec::new(), 0);
            while lock(&fault).is_none() {
                let batch: Vec<Packed> = lock(&work).by_ref().take(BATCH).collect();
                if batch.is_empty() {
                    break;
                }
                for node in batch.into_iter().map(Node::from) {
                    for (which, event) in (0..).zip(lab.moves(&node)) {
                        steps += 1;
                        // A broken invariant is a panic.
                        let outcome = catch_unwind(AssertUnwindSafe(|| {
                            let mut after = lab.after(&node, event.clone());
                            let new = lab.contains(&after) && is_new(&after);
                            after.history.push(which);
                            if new { visit(&after).map(|()| Some(after)) } else { Ok(None) }
                        }));
                        match outcome.unwrap_or_else(|_| Err("see the panic above".to_owned())) {
                            Ok(new) => next.extend(new.map(Packed::from)),
                            Err(what) => *lock(&fault) = Some(format!("{what}\nafter {:?}, {event:?}\nfrom {:?}", lab.events(&node.history), node.world)),
                        }
                    }
                }
            }
            (next, steps)
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(expand)).collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread of the search")).collect()
        });
        if let Some(fault) = lock(&fault).take() {
            return Err(fault);
        }
        explored.steps += found.iter().map(|(_, steps)| steps).sum::<usize>();
        level = found.into_iter().flat_map(|(next, _)| next).collect();
        explored.states += level.len();
        explored.longest += usize::from(!level.is_empty());
    }
    explored.cut = !level.is_empty();
    Ok(explored)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
