//! The sockets behind the listeners: bound here, held for as long as the master runs, handed over to workers. What a request gets is the registry's decision.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use dutch_master_protocol::control::ListenerStatus;
use dutch_master_protocol::message::{Address, ErrorMessage, Kind, Listen, Listener, codes};
use nix::errno::Errno;
use tracing::{debug, info};

use super::listening_socket::ListeningSocket;
use super::missing::Missing;
use super::port_holder;
use super::remedy::remedy;
use super::socket_access::FileAccess;
use super::systemd::{HandedSockets, Upheld};
use super::upkeep::{Finding, Held};
use super::watch::Watch;
use crate::core::listeners::{BACKLOG, Key, LISTENERS_MAX, Registry, Resolution};
use crate::core::{Time, WorkerId};
use crate::options::ListenSpec;

/// Longest name of a listener in bytes: all names together are sent to every worker in one frame.
const NAME_MAX: usize = 128;

/// How often it is looked up who has an address that workers ask for: it takes milliseconds, and a worker may ask again and again.
const HOLDER_SEARCHES_MAX: u32 = 8;

/// The first port that anybody may bind.
const FIRST_FREE_PORT: u16 = 1024;

/// Why a worker that runs as another user does not get an address.
const OUT_OF_BOUNDS: &str =
    "workers run as another user than the master, which binds for them no port below 1024 and no Unix path that is not configured; `--listen` configures it";

/// The remedy where it is this master itself that has an address.
const TAKEN_BEFORE: &str = "; an earlier --listen has taken it";

/// The same for what a worker asks for.
const TAKEN_OTHERWISE: &str = "; a listener of this master at another address is in its way: name the same address in --listen and in the program";

/// A configured listener that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{remedy}")]
pub struct ListenError {
    address: String,
    remedy: String,
    #[source]
    source: io::Error,
}

/// All listeners of the master.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// Declared first: removed while the sockets are open, and their files cannot be mistaken for others.
    unserved: Unserved,
    registry: Registry,
    sockets: BTreeMap<Key, Held>,
    /// Who may connect to configured Unix listeners, where that is configured.
    access: BTreeMap<Key, FileAccess>,
    watch: Option<Watch>,
    names: Vec<String>,
    /// Those of a dead master that have not come back from its workers.
    missing: Missing,
    are_closed: bool,
    /// Workers run as another user: what only root could bind is not bound for them.
    lends_no_rights: bool,
    /// What the service manager has handed over, and nobody has asked for yet.
    handed: HandedSockets,
    /// What it is to be told of those that it keeps; none where there is none.
    upheld: Option<Vec<Upheld>>,
    /// How often it was looked up who has an address, since a worker served last.
    holder_searches: u32,
}

/// What a request gets.
#[derive(Debug)]
pub(super) enum Answer {
    /// The listener and its descriptor.
    HandedOver(Listener, Arc<OwnedFd>),
    /// No.
    Refused(ErrorMessage),
    /// This one has not come back yet.
    Later(Key),
}

impl Listeners {
    /// Binds what the configuration asks for.
    pub(super) fn configure(&mut self, spec: &ListenSpec) -> Result<(), ListenError> {
        let access = check_spec(spec, self.sockets.len())?;
        let key = self.registry.key_for_configured(spec.name.as_deref(), &spec.address);
        self.names.push(key.clone());
        self.access.insert(key, access);
        if self.missing.inherit_configured(&mut self.registry, spec) {
            return Ok(());
        }
        let socket = match self.handed_over_for(spec) {
            Some(socket) => socket.with_access(access),
            None => {
                self.make_room(&spec.address)?;
                let socket = ListeningSocket::bind_for(&spec.address, BACKLOG, access).map_err(|source| ListenError::of(&spec.address, source))?;
                self.unserved.add(&socket);
                socket
            }
        };
        let key = self.registry.configured(spec.name.clone(), &spec.address, socket.address().clone());
        self.hold(key, socket);
        Ok(())
    }

    /// The start is not refused any more: from now on workers serve here, and go on when the master dies.
    pub(super) fn are_served(&mut self) {
        self.unserved.forget();
    }

    /// What workers ask for the configured listeners by, in the order of the configuration: their names, and the keys of those without one.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The names of all that are configured, as far as they have one.
    pub(super) fn configured_names(&self) -> impl Iterator<Item = Option<&str>> {
        self.registry.iter().filter(|(_, entry)| entry.configured).map(|(_, entry)| entry.name.as_deref())
    }

    /// What `worker`'s request gets; binds where that is needed.
    pub(super) fn answer(&mut self, worker: WorkerId, request: &Listen) -> Answer {
        let refused = |code: &str, message: String| Answer::Refused(ErrorMessage { seq: Some(request.seq), code: code.into(), message });
        if self.are_closed {
            return refused(codes::STOPPING, "the master stops and has closed its listeners".into());
        }
        let key = match self.registry.resolve(worker, request) {
            Resolution::Held(key) if self.missing.contains(&key) => {
                self.registry.closed(worker, &key);
                return Answer::Later(key);
            }
            Resolution::Held(key) => key,
            Resolution::Refused { code, message } => return refused(code, message),
            Resolution::Bind { key, address, backlog } => {
                let handed = self.handed.take(&key, None, &address);
                if handed.is_none() && self.is_out_of_bounds(&address) {
                    let message = format!("cannot listen on {}: {OUT_OF_BOUNDS}", in_words(&address));
                    return refused("EACCES", message);
                }
                if handed.is_none()
                    && let Err(error) = self.make_room(&address)
                {
                    return refused("EADDRINUSE", error.to_string());
                }
                match handed.map_or_else(|| ListeningSocket::bind(&address, backlog), Ok) {
                    Ok(socket) => {
                        self.registry.bound(worker, key.clone(), socket.address().clone(), request.data.clone());
                        self.hold(key.clone(), socket);
                        key
                    }
                    Err(error) => {
                        let name = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                        self.holder_searches = self.holder_searches.saturating_add(1);
                        let message = match self.holder_searches {
                            ..=HOLDER_SEARCHES_MAX => ListenError::remedied(&address, error, TAKEN_OTHERWISE).to_string(),
                            _ => format!("cannot listen on {}: {error}", in_words(&address)),
                        };
                        return refused(&format!("{name:?}"), message);
                    }
                }
            }
        };
        match (self.registry.get(&key), self.sockets.get(&key)) {
            (Some(entry), Some(held)) => {
                let listener =
                    Listener { seq: request.seq, key, name: entry.name.clone(), data: entry.data.clone(), address: Some(entry.address.clone()), fds: 1 };
                Answer::HandedOver(listener, held.socket.fd().clone())
            }
            _ => refused(codes::UNEXPECTED, format!("the master has lost its socket for {key}")),
        }
    }

    /// From now on the master binds for workers only what their own user could bind.
    pub(super) fn lend_no_rights(&mut self, lends_none: bool) {
        self.lends_no_rights = lends_none;
    }

    fn is_out_of_bounds(&self, address: &Address) -> bool {
        self.lends_no_rights && (address.path.is_some() || address.port.is_some_and(|port| (1..FIRST_FREE_PORT).contains(&port)))
    }

    /// The worker closed its copy.
    pub(super) fn closed(&mut self, worker: WorkerId, key: &str) {
        self.registry.closed(worker, key);
        self.close_withdrawn();
    }

    /// The worker is gone, and with it its copies.
    pub(super) fn worker_gone(&mut self, worker: WorkerId) {
        self.registry.worker_gone(worker);
        self.close_withdrawn();
    }

    fn close_withdrawn(&mut self) {
        for key in self.registry.take_withdrawn() {
            self.close(&key);
            info!(listener = key, "Listener closed: it is not configured any more, and no worker holds it");
        }
    }

    /// A worker serves. It may have called `listen` again on its copies, which sets the queue length of everybody's: set it back.
    pub(super) fn worker_serves(&mut self) {
        self.holder_searches = 0;
        // One that was shut down is not to be revived on the way: whoever holds it would not be told.
        for held in self.sockets.values().filter(|held| held.socket.damage().is_none()) {
            let _ = held.socket.listen();
        }
    }

    /// A restart was completed: closes what nobody has wanted since.
    pub(super) fn restart_completed(&mut self) {
        self.give_up_unclaimed();
        for key in self.registry.restart_completed() {
            self.close(&key);
            debug!(listener = key, "Listener closed: no worker has asked for it since two restarts");
        }
    }

    fn close(&mut self, key: &str) {
        self.missing.found(key);
        if let Some(held) = self.sockets.remove(key) {
            self.uphold_no_more(key, &held.socket);
            self.watch.iter().for_each(|watch| watch.remove(&held.socket));
            held.socket.close();
        }
    }

    /// The pool stops: nothing is accepted any more but by the workers that still go.
    pub(super) fn close_all(&mut self) {
        self.are_closed = true;
        self.missing = Missing::default();
        for (key, held) in std::mem::take(&mut self.sockets) {
            self.uphold_no_more(&key, &held.socket);
            held.socket.close();
        }
        self.give_up_all_unclaimed();
    }

    /// From now on it is noticed when somebody breaks one.
    pub(super) fn watch_by(&mut self, watch: Watch) {
        self.sockets.values().for_each(|held| watch.add(&held.socket));
        self.watch = Some(watch);
    }

    pub(super) fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    fn access_of(&self, key: &str) -> FileAccess {
        self.access.get(key).copied().unwrap_or_default()
    }

    fn hold(&mut self, key: Key, socket: ListeningSocket) {
        self.watch.iter().for_each(|watch| watch.add(&socket));
        self.uphold(&key, &socket);
        self.sockets.insert(key, Held::new(socket));
    }

    /// Looks at each socket, which all workers can change, and puts right what is wrong.
    pub(super) fn check(&mut self, now: Time) -> Vec<Finding> {
        let Listeners { registry, sockets, watch, upheld, .. } = self;
        let put_right = |(key, held): (&Key, &mut Held)| {
            let name = format!("{key} ({})", in_words(held.socket.address()));
            let before = held.socket.fd().clone();
            let findings = held.put_right(now, &name, watch.as_ref(), || registry.holders(key).collect());
            if let Some(upheld) = upheld.as_mut().filter(|_| !Arc::ptr_eq(&before, held.socket.fd())) {
                upheld.extend([Upheld::no_more(key), Upheld::Keep(key.clone(), held.socket.fd().clone())]);
            }
            findings
        };
        sockets.iter_mut().flat_map(put_right).collect()
    }

    /// When one that is broken may be repaired.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.sockets.values().filter_map(Held::repair_at).min()
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Lengths of all accept queues.
    pub(super) fn backlogs(&self) -> BTreeMap<Key, u32> {
        let there = self.sockets.iter().filter_map(|(key, held)| Some((key.clone(), held.socket.backlog()?)));
        there.chain(self.missing.backlogs()).collect()
    }

    /// Configured ones that none of those has asked for, by name or address.
    pub(super) fn untaken(&self, serves: impl Fn(WorkerId) -> bool) -> Vec<String> {
        let is_untaken = |key: &Key| !self.registry.holders(key).any(&serves);
        self.registry.iter().filter(|(key, entry)| entry.configured && is_untaken(key)).map(|(key, _)| key.clone()).collect()
    }

    /// For `status`.
    pub(super) fn status(&self) -> impl Iterator<Item = ListenerStatus> {
        self.registry.iter().map(|(key, entry)| {
            let queue = self.sockets.get(key).and_then(|held| held.socket.accept_queue());
            ListenerStatus {
                key: key.clone(),
                name: entry.name.clone(),
                address: entry.address.clone(),
                configured: entry.configured,
                queued: queue.map(|(queued, _)| queued),
                backlog: queue.map(|(_, limit)| limit),
            }
        })
    }
}

/// The end of a remedy where no more is known than who has the address.
const ANOTHER_ADDRESS: &str = "or choose another address";

impl ListenError {
    /// Of a configured one.
    pub(super) fn of(address: &Address, source: io::Error) -> ListenError {
        ListenError::remedied(address, source, TAKEN_BEFORE)
    }

    /// With what to do about it; `taken` where it is this master that has the address.
    fn remedied(address: &Address, source: io::Error, taken: &str) -> ListenError {
        let port = address.port.unwrap_or(0);
        let remedy = match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EADDRINUSE) => match port_holder::find(address) {
                Some(holder) if holder.ends_with(&format!("(pid {})", std::process::id())) => taken.into(),
                Some(holder) => format!("; {holder} has it: stop that, {ANOTHER_ADDRESS}"),
                None => format!("; stop what has it, {ANOTHER_ADDRESS}"),
            },
            Some(Errno::EACCES) if (1..FIRST_FREE_PORT).contains(&port) => "; ports below 1024 need root or CAP_NET_BIND_SERVICE".into(),
            Some(Errno::EADDRNOTAVAIL) => "; this machine does not have that address".into(),
            Some(Errno::EMFILE | Errno::ENFILE) => remedy(&source).into(),
            Some(_) if address.path.is_some() => remedy(&source).into(),
            Some(_) | None => String::new(),
        };
        ListenError { address: in_words(address), remedy, source }
    }
}

/// What can be seen of a configured listener alone, after so many others: who may connect to it.
fn check_spec(spec: &ListenSpec, before: usize) -> Result<FileAccess, ListenError> {
    let refused = |why: String| Err(ListenError::of(&spec.address, io::Error::other(why)));
    if before >= LISTENERS_MAX {
        return refused(format!("{LISTENERS_MAX} listeners are the most that one master has"));
    }
    if spec.name.as_ref().is_some_and(|name| name.len() > NAME_MAX) {
        return refused(format!("its name is longer than {NAME_MAX} bytes"));
    }
    FileAccess::of(&spec.access).or_else(|error| refused(error.to_string()))
}

/// Whether the system lets no two sockets have these addresses, which are no paths.
pub(super) fn overlap(one: &Address, other: &Address) -> bool {
    let host = |address: &Address| address.host.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
    let is_both_families = |address: &Address| host(address) == Ipv6Addr::UNSPECIFIED && !address.ipv6_only;
    let is_same_port = one.kind == other.kind && one.port.is_some_and(|port| port != 0) && one.port == other.port;
    let (a, b) = (host(one), host(other));
    let is_same_host = a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified());
    is_same_port && (is_same_host || is_both_families(one) || is_both_families(other))
}

/// An address for people.
pub(super) fn in_words(address: &Address) -> String {
    let port = address.port.unwrap_or(0);
    let place = match (&address.path, address.host) {
        (Some(path), _) => return format!("unix:{path}"),
        (None, Some(host)) => SocketAddr::new(host, port).to_string(),
        (None, None) => format!("port {port}"),
    };
    if address.kind == Kind::Udp { format!("{place} (UDP)") } else { place }
}

pub(super) mod foresee;
mod handed_over;
mod left_behind;
mod returning;
mod succession;
#[cfg(test)]
mod tests;
mod unserved;

pub(super) use self::returning::OutOfReach;
pub(super) use self::succession::Handed;
use self::unserved::Unserved;
