//! Listeners of a dead master that its workers hold: their addresses cannot be bound again, so they are had from a worker, or anew when none holds them any more.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::WorkerId;
use crate::core::listeners::{BACKLOG, Key, Registry};
use crate::options::ListenSpec;

/// What a dead master wrote down of its listeners.
#[derive(Debug, Default)]
pub(super) struct Dead {
    pub(super) registry: Registry,
    pub(super) backlogs: BTreeMap<Key, u32>,
    pub(super) listen: Vec<ListenSpec>,
    /// Its workers that live.
    pub(super) living: BTreeSet<WorkerId>,
}

/// Those that are not here.
#[derive(Debug, Default)]
pub(super) struct Missing {
    dead: Dead,
    by_key: BTreeMap<Key, Absent>,
}

#[derive(Debug)]
struct Absent {
    backlog: u32,
    /// That it cannot be had was told.
    told: bool,
}

impl Missing {
    pub(super) fn of(dead: Dead) -> Missing {
        Missing { dead, by_key: BTreeMap::new() }
    }

    /// Those that were missing already when this process was another program, with the lengths of their accept queues.
    pub(super) fn handed(backlogs: BTreeMap<Key, u32>) -> Missing {
        let by_key = backlogs.into_iter().map(|(key, backlog)| (key, Absent { backlog, told: false })).collect();
        Missing { dead: Dead::default(), by_key }
    }

    /// Whether a configured listener is one that living workers hold; then it is missing, and not bound.
    pub(super) fn inherit_configured(&mut self, registry: &mut Registry, spec: &ListenSpec) -> bool {
        let key = registry.key_for_configured(spec.name.as_deref(), &spec.address);
        // Who may connect can be changed.
        let is_the_same = |dead: &ListenSpec| (&dead.name, &dead.address) == (&spec.name, &spec.address);
        self.dead.listen.iter().any(is_the_same) && self.inherit(registry, &key, true)
    }

    /// What else living workers hold is nobody's but theirs.
    pub(super) fn inherit_the_rest(&mut self, registry: &mut Registry) {
        for key in self.dead.registry.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.inherit(registry, &key, false);
        }
        self.dead = Dead::default();
    }

    fn inherit(&mut self, registry: &mut Registry, key: &Key, configured: bool) -> bool {
        let is_held = self.dead.registry.holders(key).any(|worker| self.dead.living.contains(&worker));
        let is_inherited = is_held && registry.inherit(key, &self.dead.registry, configured);
        if is_inherited {
            let backlog = self.dead.backlogs.get(key).copied().unwrap_or(BACKLOG);
            self.by_key.insert(key.clone(), Absent { backlog, told: false });
        }
        is_inherited
    }

    /// What workers that live hold, as far as the dead master knew.
    pub(super) fn held(&self) -> impl Iterator<Item = &Key> {
        let is_held = |key: &&Key| self.dead.registry.holders(key).any(|worker| self.dead.living.contains(&worker));
        self.by_key.keys().chain(self.dead.registry.iter().map(|(key, _)| key).filter(is_held))
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.by_key.keys().cloned().collect()
    }

    pub(super) fn backlog(&self, key: &str) -> u32 {
        self.by_key.get(key).map_or(BACKLOG, |absent| absent.backlog)
    }

    pub(super) fn backlogs(&self) -> impl Iterator<Item = (Key, u32)> {
        self.by_key.iter().map(|(key, absent)| (key.clone(), absent.backlog))
    }

    /// It is here, or not wanted any more.
    pub(super) fn found(&mut self, key: &str) {
        self.by_key.remove(key);
    }

    /// Whether it is news that this one cannot be had; from now on it is not.
    pub(super) fn tell(&mut self, key: &str) -> bool {
        self.by_key.get_mut(key).is_some_and(|absent| !std::mem::replace(&mut absent.told, true))
    }
}

#[cfg(test)]
mod tests {
    use dutch_master_protocol::message::Address;

    use super::*;

    fn spec(name: &str, port: u16) -> ListenSpec {
        ListenSpec::new(Some(name.into()), Address::tcp(None, port))
    }

    fn dead(living: impl Into<BTreeSet<WorkerId>>) -> Missing {
        let mut registry = Registry::default();
        for (name, port) in [("web", 8000), ("admin", 9000)] {
            registry.configured(Some(name.into()), &Address::tcp(None, port), Address::tcp(None, port));
        }
        registry.bound(1, "tcp:*:7000".into(), Address::tcp(None, 7000), None);
        registry.holds(2, &["web".into()]);
        Missing::of(Dead { registry, backlogs: [("web".into(), 7)].into(), listen: vec![spec("web", 8000), spec("admin", 9000)], living: living.into() })
    }

    #[test]
    fn what_living_workers_hold_is_missing_and_the_rest_is_bound() {
        let (mut missing, mut registry) = (dead([1, 2]), Registry::default());
        assert!(missing.inherit_configured(&mut registry, &spec("web", 8000)));
        assert!(!missing.inherit_configured(&mut registry, &spec("admin", 9000)), "nobody holds it");
        missing.inherit_the_rest(&mut registry);
        assert_eq!(missing.keys(), ["tcp:*:7000", "web"]);
        assert_eq!((missing.backlog("web"), missing.backlog("tcp:*:7000")), (7, BACKLOG));
        assert!(registry.get("web").unwrap().configured && !registry.get("tcp:*:7000").unwrap().configured);
    }

    #[test]
    fn what_only_dead_workers_held_is_bound() {
        let (mut missing, mut registry) = (dead([]), Registry::default());
        assert!(!missing.inherit_configured(&mut registry, &spec("web", 8000)));
        missing.inherit_the_rest(&mut registry);
        assert!(missing.keys().is_empty() && registry.iter().next().is_none());
    }

    #[test]
    fn a_listener_that_is_configured_otherwise_now_is_bound_anew() {
        let (mut missing, mut registry) = (dead([1, 2]), Registry::default());
        assert!(!missing.inherit_configured(&mut registry, &spec("web", 8001)));
        registry.configured(Some("web".into()), &Address::tcp(None, 8001), Address::tcp(None, 8001));
        missing.inherit_the_rest(&mut registry);
        assert_eq!(missing.keys(), ["tcp:*:7000"], "workers that hold the old one keep it for themselves");
    }
}
