//! The sockets behind the listeners: bound here, held for as long as the master runs, handed over to workers. What a request gets is the registry's decision.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use dutch_master_protocol::control::ListenerStatus;
use dutch_master_protocol::message::{Address, ErrorMessage, Kind, Listen, Listener, codes};
use nix::errno::Errno;
use tracing::debug;

use super::listening_socket::ListeningSocket;
use super::port_holder;
use super::remedy::remedy;
use super::upkeep::{Finding, Held};
use super::watch::Watch;
use crate::core::listeners::{BACKLOG, Key, LISTENERS_MAX, Registry, Resolution};
use crate::core::{Time, WorkerId};
use crate::options::ListenSpec;

/// Longest name of a listener in bytes: all names together are sent to every worker in one frame.
const NAME_MAX: usize = 128;

/// How often it is looked up who has an address that workers ask for: it takes milliseconds, and a worker may ask again and again.
const HOLDER_SEARCHES_MAX: u32 = 8;

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
    registry: Registry,
    sockets: BTreeMap<Key, Held>,
    watch: Option<Watch>,
    names: Vec<String>,
    are_closed: bool,
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
}

impl Listeners {
    /// Binds what the configuration asks for.
    pub(super) fn configure(&mut self, spec: &ListenSpec) -> Result<(), ListenError> {
        if self.sockets.len() >= LISTENERS_MAX {
            let source = io::Error::other(format!("{LISTENERS_MAX} listeners are the most that one master has"));
            return Err(ListenError::of(&spec.address, source));
        }
        if spec.name.as_ref().is_some_and(|name| name.len() > NAME_MAX) {
            return Err(ListenError::of(&spec.address, io::Error::other(format!("its name is longer than {NAME_MAX} bytes"))));
        }
        let socket = ListeningSocket::bind(&spec.address, BACKLOG).map_err(|source| ListenError::of(&spec.address, source))?;
        let key = self.registry.configured(spec.name.clone(), &spec.address, socket.address().clone());
        self.names.extend(spec.name.clone());
        self.hold(key, socket);
        Ok(())
    }

    /// Names of the configured listeners, in the order of the configuration.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// What `worker`'s request gets; binds where that is needed.
    pub(super) fn answer(&mut self, worker: WorkerId, request: &Listen) -> Answer {
        let refused = |code: &str, message: String| Answer::Refused(ErrorMessage { seq: Some(request.seq), code: code.into(), message });
        if self.are_closed {
            return refused(codes::STOPPING, "the master stops and has closed its listeners".into());
        }
        let key = match self.registry.resolve(worker, request) {
            Resolution::Held(key) => key,
            Resolution::Refused { code, message } => return refused(code, message),
            Resolution::Bind { key, address, backlog } => match ListeningSocket::bind(&address, backlog) {
                Ok(socket) => {
                    self.registry.bound(worker, key.clone(), socket.address().clone(), request.data.clone());
                    self.hold(key.clone(), socket);
                    key
                }
                Err(error) => {
                    let name = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                    self.holder_searches = self.holder_searches.saturating_add(1);
                    let message = match self.holder_searches {
                        ..=HOLDER_SEARCHES_MAX => ListenError::of(&address, error).to_string(),
                        _ => format!("cannot listen on {}: {error}", in_words(&address)),
                    };
                    return refused(&format!("{name:?}"), message);
                }
            },
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

    /// The worker closed its copy.
    pub(super) fn closed(&mut self, worker: WorkerId, key: &str) {
        self.registry.closed(worker, key);
    }

    /// The worker is gone, and with it its copies.
    pub(super) fn worker_gone(&mut self, worker: WorkerId) {
        self.registry.worker_gone(worker);
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
        for key in self.registry.restart_completed() {
            if let Some(held) = self.sockets.remove(&key) {
                self.watch.iter().for_each(|watch| watch.remove(&held.socket));
                held.socket.close();
                debug!(listener = key, "Listener closed: no worker has asked for it since two restarts");
            }
        }
    }

    /// The pool stops: nothing is accepted any more but by the workers that still go.
    pub(super) fn close_all(&mut self) {
        self.are_closed = true;
        std::mem::take(&mut self.sockets).into_values().for_each(|held| held.socket.close());
    }

    /// From now on it is noticed when somebody breaks one.
    pub(super) fn watch_by(&mut self, watch: Watch) {
        self.sockets.values().for_each(|held| watch.add(&held.socket));
        self.watch = Some(watch);
    }

    pub(super) fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    fn hold(&mut self, key: Key, socket: ListeningSocket) {
        self.watch.iter().for_each(|watch| watch.add(&socket));
        self.sockets.insert(key, Held::new(socket));
    }

    /// Looks at each socket, which all workers can change, and puts right what is wrong.
    pub(super) fn check(&mut self, now: Time) -> Vec<Finding> {
        let Listeners { registry, sockets, watch, .. } = self;
        let put_right = |(key, held): (&Key, &mut Held)| {
            let name = format!("{key} ({})", in_words(held.socket.address()));
            held.put_right(now, &name, watch.as_ref(), || registry.holders(key).collect())
        };
        sockets.iter_mut().flat_map(put_right).collect()
    }

    /// When one that is broken may be repaired.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.sockets.values().filter_map(Held::repair_at).min()
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

impl ListenError {
    pub(super) fn of(address: &Address, source: io::Error) -> ListenError {
        let port = address.port.unwrap_or(0);
        let remedy = match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EADDRINUSE) => match port_holder::find(address) {
                Some(holder) if holder.ends_with(&format!("(pid {})", std::process::id())) => "; an earlier --listen has taken it".into(),
                Some(holder) => format!("; {holder} has it: stop that, or choose another address"),
                None => "; stop what has it, or choose another address".into(),
            },
            Some(Errno::EACCES) if (1..1024).contains(&port) => "; ports below 1024 need root or CAP_NET_BIND_SERVICE".into(),
            Some(Errno::EADDRNOTAVAIL) => "; this machine does not have that address".into(),
            Some(_) if address.path.is_some() => remedy(&source).into(),
            Some(_) | None => String::new(),
        };
        ListenError { address: in_words(address), remedy, source }
    }
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    fn asks_for(address: Address) -> Listen {
        Listen { seq: 7, address: Some(address), ..Listen::default() }
    }

    #[track_caller]
    fn handed_over(answer: Answer) -> (Listener, Arc<OwnedFd>) {
        match answer {
            Answer::HandedOver(listener, fd) => (listener, fd),
            Answer::Refused(error) => panic!("refused: {error:?}"),
        }
    }

    #[track_caller]
    fn refused(answer: Answer) -> ErrorMessage {
        match answer {
            Answer::Refused(error) => error,
            Answer::HandedOver(listener, _) => panic!("handed over: {listener:?}"),
        }
    }

    #[test]
    fn a_random_port_is_shared_by_the_pool() {
        let mut listeners = Listeners::default();
        let request = asks_for(Address::tcp(None, 0));
        let (first, one) = handed_over(listeners.answer(1, &request));
        let (second, two) = handed_over(listeners.answer(2, &request));
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(first.address, second.address);
        let port = first.address.unwrap().port.unwrap();
        TcpStream::connect(("127.0.0.1", port)).expect("no host means IPv4 too");
    }

    #[test]
    fn connections_queue_while_no_worker_lives_and_status_counts_them() {
        let mut listeners = Listeners::default();
        listeners.configure(&ListenSpec { name: Some("web".into()), address: Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), 0) }).unwrap();
        let port = listeners.status().next().unwrap().address.port.unwrap();
        let _waiting: Vec<_> = (0..3).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        let status = listeners.status().next().unwrap();
        assert_eq!((status.queued, status.backlog), (Some(3), Some(BACKLOG)));
    }

    #[test]
    fn a_bind_that_fails_is_answered_with_its_errno_and_can_be_tried_again() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let request = asks_for(Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), taken.local_addr().unwrap().port()));
        let mut listeners = Listeners::default();
        let error = refused(listeners.answer(1, &request));
        assert_eq!((error.code.as_str(), error.seq), ("EADDRINUSE", Some(7)));
        drop(taken);
        handed_over(listeners.answer(1, &request));
    }

    #[test]
    fn a_configured_listener_that_is_taken_names_who_has_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), taken.local_addr().unwrap().port());
        let error = Listeners::default().configure(&ListenSpec { name: None, address }).unwrap_err();
        assert!(error.to_string().contains("an earlier --listen has taken it"), "{error}");
    }

    #[test]
    fn a_worker_that_changes_the_queue_length_changes_it_for_a_moment_only() {
        let mut listeners = Listeners::default();
        let (_, fd) = handed_over(listeners.answer(1, &Listen { backlog: Some(17), ..asks_for(Address::tcp(None, 0)) }));
        nix::sys::socket::listen(&fd, nix::sys::socket::Backlog::new(3).unwrap()).unwrap();
        let backlog = |listeners: &Listeners| listeners.status().next().unwrap().backlog;
        assert_eq!(backlog(&listeners), Some(3));
        listeners.worker_serves();
        assert_eq!(backlog(&listeners), Some(17));
    }

    #[test]
    fn after_the_stop_nothing_listens_and_nothing_is_handed_over() {
        let path = std::env::temp_dir().join(format!("dm-listener-{}.sock", std::process::id()));
        let mut listeners = Listeners::default();
        let request = asks_for(Address::unix(path.to_str().unwrap()));
        handed_over(listeners.answer(1, &request));
        assert!(path.exists());
        listeners.close_all();
        assert!(!path.exists());
        assert_eq!(refused(listeners.answer(2, &request)).code, codes::STOPPING);
    }
}
