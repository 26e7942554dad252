//! Which listeners there are, who holds them, and what a request gets (SPEC 6.2, rule 13). The descriptors themselves are the shell's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dutch_master_protocol::limits::{DATA_MAX, PATH_MAX};
use dutch_master_protocol::message::{Address, Kind, Listen, codes};
use serde::{Deserialize, Serialize};

use super::worker::WorkerId;

/// Identifies a listener: its name, or what it was asked for as.
pub type Key = String;

/// Most listeners of one pool: each is a descriptor of the master, and a worker may ask for any.
pub const LISTENERS_MAX: usize = 256;

/// Completed restarts without a request after which a listener that only workers asked for is closed.
const UNUSED_RESTARTS: u32 = 2;

/// The accept queue of a listener whose asker names none; the kernel caps it.
pub const BACKLOG: u32 = 511;

/// All listeners of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Registry {
    entries: BTreeMap<Key, Entry>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its configured name.
    pub name: Option<String>,
    /// Where it listens.
    pub address: Address,
    /// It comes from the configuration.
    pub configured: bool,
    /// The first asker's opaque text.
    pub data: Option<String>,
    /// A worker asked for it and it has been answered once: from then on `data` is fixed.
    asked: bool,
    holders: BTreeSet<WorkerId>,
    unused_restarts: u32,
    /// The configuration has it no more, and no worker has asked for it since.
    #[serde(default)]
    withdrawn: bool,
}

/// What a request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// This one exists: hand over a copy.
    Held(Key),
    /// It has to be bound first; then call [`Registry::bound`].
    Bind {
        /// Its key from then on.
        key: Key,
        /// Where.
        address: Address,
        /// Its accept queue.
        backlog: u32,
    },
    /// Answer `error`.
    Refused {
        /// An errno name or one of [`codes`].
        code: &'static str,
        /// A sentence for people.
        message: String,
    },
}

impl Registry {
    /// Adds a configured listener that was bound at `address`. Returns its key.
    pub fn configured(&mut self, name: Option<String>, asked_for: &Address, address: Address) -> Key {
        let key = self.key_for_configured(name.as_deref(), asked_for);
        self.entries.insert(key.clone(), Entry { name, configured: true, ..Entry::at(address) });
        key
    }

    /// The key that the next configured listener would get.
    pub fn key_for_configured(&self, name: Option<&str>, asked_for: &Address) -> Key {
        // Several for port 0 are several ports.
        let nth = |index| key_of(asked_for, index);
        let free = || (0..).map(nth).find(|key| !self.entries.contains_key(key)).unwrap_or_default();
        match (name, asked_for.port) {
            (Some(name), _) => name.to_owned(),
            (None, Some(0)) => free(),
            (None, _) => nth(0),
        }
    }

    /// Takes a listener over from the registry of a dead master, unless there is one of that key already.
    pub fn inherit(&mut self, key: &Key, dead: &Registry, configured: bool) -> bool {
        let Some(entry) = dead.entries.get(key).filter(|_| !self.entries.contains_key(key)) else { return false };
        let withdrawn = !configured && (entry.configured || entry.withdrawn);
        self.entries.insert(key.clone(), Entry { configured, withdrawn, ..entry.clone() });
        true
    }

    /// Forgets a listener that cannot be had.
    pub fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// A worker that came back tells what it holds.
    pub fn holds(&mut self, worker: WorkerId, keys: &[Key]) {
        for (key, entry) in &mut self.entries {
            if keys.contains(key) {
                entry.holders.insert(worker);
            } else {
                entry.holders.remove(&worker);
            }
        }
    }

    /// All listeners, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// A listener.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Who holds a copy of a listener.
    pub fn holders(&self, key: &str) -> impl Iterator<Item = WorkerId> {
        self.entries.get(key).into_iter().flat_map(|entry| entry.holders.iter().copied())
    }

    /// What `worker`'s request gets. A [`Resolution::Held`] is taken as handed over.
    pub fn resolve(&mut self, worker: WorkerId, request: &Listen) -> Resolution {
        if request.data.as_ref().is_some_and(|data| data.len() > DATA_MAX) {
            return refused("EMSGSIZE", format!("data is longer than {DATA_MAX} bytes"));
        }
        let key = match (&request.name, &request.address) {
            (Some(name), None) if self.entries.get(name).is_some_and(|e| e.configured) => name.clone(),
            (Some(name), None) => {
                return refused(codes::UNKNOWN_NAME, format!("no listener is configured by the name {:?}; there are: {}", shortened(name), self.names()));
            }
            (None, Some(address)) => match check(address) {
                Err(message) => return refused("EINVAL", message),
                Ok(()) => self.key_for(address, request.index.unwrap_or(0)),
            },
            (Some(_), Some(_)) | (None, None) => return refused("EINVAL", "give either a name or an address".into()),
        };
        let is_full = self.entries.len() >= LISTENERS_MAX;
        match self.entries.get_mut(&key) {
            Some(entry) if entry.holders.contains(&worker) => refused("EADDRINUSE", format!("this worker already holds {key}")),
            Some(entry) => {
                entry.hand_over(worker, request.data.clone());
                Resolution::Held(key)
            }
            None if is_full => refused("EMFILE", format!("the master has {LISTENERS_MAX} listeners, the limit")),
            None => match &request.address {
                Some(address) => Resolution::Bind { key, address: address.clone(), backlog: request.backlog.filter(|n| *n > 0).unwrap_or(BACKLOG) },
                None => refused(codes::UNKNOWN_NAME, "no such listener".into()),
            },
        }
    }

    /// A listener that `worker` asked for was bound at `address` and is handed over.
    pub fn bound(&mut self, worker: WorkerId, key: Key, address: Address, data: Option<String>) {
        let mut entry = Entry::at(address);
        entry.hand_over(worker, data);
        self.entries.insert(key, entry);
    }

    /// The worker closed its copy.
    pub fn closed(&mut self, worker: WorkerId, key: &str) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.holders.remove(&worker);
        }
    }

    /// The worker is gone, and with it all its copies.
    pub fn worker_gone(&mut self, worker: WorkerId) {
        for entry in self.entries.values_mut() {
            entry.holders.remove(&worker);
        }
    }

    /// A restart was completed. Returns the listeners to close: asked for by workers only, held by none, and not asked for since two completed restarts.
    pub fn restart_completed(&mut self) -> Vec<Key> {
        for entry in self.entries.values_mut().filter(|entry| !entry.configured) {
            entry.unused_restarts += 1;
        }
        self.remove_unheld(|entry| !entry.configured && entry.unused_restarts >= UNUSED_RESTARTS)
    }

    /// The listeners to close because the configuration has them no more and the last worker that held them is gone: who connected there would wait in vain.
    pub fn take_withdrawn(&mut self) -> Vec<Key> {
        self.remove_unheld(|entry| entry.withdrawn)
    }

    fn remove_unheld(&mut self, is_over: impl Fn(&Entry) -> bool) -> Vec<Key> {
        let over = self.entries.iter().filter(|(_, entry)| is_over(entry) && entry.holders.is_empty());
        let keys: Vec<_> = over.map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| drop(self.entries.remove(key)));
        keys
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.entries.values().filter_map(|entry| entry.name.as_deref()).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }

    /// The listener that is at this very address serves a request for it, whatever its name, also where it was asked for as port 0; a nil host matches the only configured listener on its port.
    fn key_for(&self, address: &Address, index: u32) -> Key {
        let of_kind = || self.entries.iter().filter(|(_, entry)| entry.address.kind == address.kind);
        let same = of_kind().filter(|_| address.port != Some(0)).find(|(_, entry)| {
            let there = &entry.address;
            (there.port, &there.path) == (address.port, &address.path) && any_host(there.host) == any_host(address.host) && there.ipv6_only == address.ipv6_only
        });
        let configured = of_kind().filter(|(_, entry)| entry.configured);
        let mut on_port = configured.filter(|(_, entry)| address.kind != Kind::Unix && address.host.is_none() && entry.address.port == address.port);
        let only_one = match (on_port.next(), on_port.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        };
        same.or(only_one).map_or_else(|| key_of(address, index), |(key, _)| key.clone())
    }
}

impl Entry {
    /// One that nobody has asked for yet.
    fn at(address: Address) -> Entry {
        Entry { name: None, address, configured: false, data: None, asked: false, holders: BTreeSet::new(), unused_restarts: 0, withdrawn: false }
    }

    fn hand_over(&mut self, worker: WorkerId, data: Option<String>) {
        if !self.asked {
            self.asked = true;
            self.data = data;
        }
        self.holders.insert(worker);
        self.unused_restarts = 0;
        self.withdrawn = false;
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// `::` and nil are the same wish.
fn any_host(host: Option<IpAddr>) -> Option<IpAddr> {
    host.filter(|host| *host != IpAddr::from([0u16; 8]))
}

fn key_of(address: &Address, index: u32) -> Key {
    let kind = match address.kind {
        Kind::Unix => return format!("unix:{}", address.path.as_deref().unwrap_or_default()),
        Kind::Tcp => "tcp",
        Kind::Udp => "udp",
    };
    let host = match address.host {
        None => "*".to_owned(),
        Some(IpAddr::V4(host)) => host.to_string(),
        Some(IpAddr::V6(host)) => format!("[{host}]"),
    };
    let port = address.port.unwrap_or(0);
    let only = if address.ipv6_only { ":ipv6-only" } else { "" };
    let index = if port == 0 { format!("#{index}") } else { String::new() };
    format!("{kind}:{host}:{port}{only}{index}")
}

fn check(address: &Address) -> Result<(), String> {
    match (address.kind, &address.path, address.port) {
        (Kind::Unix, Some(path), None) if !path.starts_with('/') => Err(format!("{path:?} is not an absolute path")),
        (Kind::Unix, Some(path), None) if path.contains('\0') => Err("a path cannot contain a zero byte".into()),
        (Kind::Unix, Some(path), None) if path.len() > PATH_MAX => Err(format!("the path has {} bytes; a Unix socket takes {PATH_MAX}", path.len())),
        (Kind::Unix, Some(_), None) if address.host.is_none() => Ok(()),
        (Kind::Tcp | Kind::Udp, None, Some(_)) => Ok(()),
        (Kind::Unix, _, _) => Err("a unix address has a path and nothing else".into()),
        (Kind::Tcp | Kind::Udp, _, _) => Err("a tcp or udp address has a port and no path".into()),
    }
}

fn refused(code: &'static str, message: String) -> Resolution {
    Resolution::Refused { code, message }
}
