//! Whether well-behaved workers bring a pool to rest.

use std::collections::HashMap;
use std::sync::Mutex;

use dutch_master::core::Phase;

use super::Node;
use super::identity::identity;
use super::search::{Key, lock};
use crate::world::World;

/// How long that may take: longer than all deadlines in a row.
const REST_MS: u64 = 3_600_000;

/// How many things may happen meanwhile, so that a pool that goes on without end is found out.
const REST_EVENTS: usize = 10_000;

/// The states that are known to come to rest, each with the milliseconds that it takes. What leads to one of them does so, too: every way is walked only as far as to one that is known.
#[derive(Default)]
pub(super) struct Rest {
    known: [Mutex<HashMap<Key, u64>>; 32],
}

impl Rest {
    pub(super) fn is_reached_from(&self, node: &Node) -> Result<(), String> {
        let (mut world, began) = (node.world.clone(), node.world.now);
        let mut way = Vec::new();
        let ms = loop {
            let key = Key::of(&(identity(world.now, &world.pool), &world.checks.open_restarts, world.checks.exited));
            if let Some(ms) = lock(self.part(key)).get(&key).copied() {
                break Some(ms);
            }
            way.push((key, world.now));
            if way.len() > REST_EVENTS {
                break None;
            }
            if !world.play_on(began.after(REST_MS)) {
                break is_at_rest(&world).then_some(0);
            }
            world.actions.clear();
        };
        match ms.map(|ms| world.now.after(ms)).filter(|end| end.since(began) <= REST_MS) {
            Some(end) => way.into_iter().for_each(|(key, at)| {
                lock(self.part(key)).insert(key, end.since(at));
            }),
            None => return Err(format!("well-behaved workers do not bring the pool to rest, but to {world:?}")),
        }
        Ok(())
    }

    /// The longest time that it took.
    pub(super) fn longest_ms(&self) -> u64 {
        self.known.iter().filter_map(|part| lock(part).values().max().copied()).max().unwrap_or_default()
    }

    fn part(&self, key: Key) -> &Mutex<HashMap<Key, u64>> {
        &self.known[key.part(self.known.len())]
    }
}

fn is_at_rest(world: &World) -> bool {
    match world.pool.phase() {
        Phase::Stopping => world.pool.workers().next().is_none(),
        Phase::Serving => world.pool.running() == world.pool.size(),
        Phase::Starting | Phase::Restarting => false,
    }
}
