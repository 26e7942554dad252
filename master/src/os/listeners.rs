//! The sockets behind the listeners: bound here, held for as long as the master runs, handed over to workers. What a request gets is the registry's decision.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use dutch_master_protocol::control::ListenerStatus;
use dutch_master_protocol::message::{Address, ErrorMessage, Kind, Listen, Listener, codes};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, setsockopt, sockopt};
use tracing::debug;

use super::port_holder;
use super::remedy::remedy;
use super::socket_file::SocketFile;
use crate::core::WorkerId;
use crate::core::listeners::{BACKLOG, Key, LISTENERS_MAX, Registry, Resolution};
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
    sockets: BTreeMap<Key, Socket>,
    names: Vec<String>,
    are_closed: bool,
    /// How often it was looked up who has an address, since a worker served last.
    holder_searches: u32,
}

#[derive(Debug)]
struct Socket {
    fd: Arc<OwnedFd>,
    /// Length of the accept queue; none for datagrams.
    backlog: Option<u32>,
    file: Option<SocketFile>,
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
        let (socket, address) = Socket::bind(&spec.address, BACKLOG).map_err(|source| ListenError::of(&spec.address, source))?;
        let key = self.registry.configured(spec.name.clone(), &spec.address, address);
        self.names.extend(spec.name.clone());
        self.sockets.insert(key, socket);
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
            Resolution::Bind { key, address, backlog } => match Socket::bind(&address, backlog) {
                Ok((socket, real)) => {
                    self.registry.bound(worker, key.clone(), real, request.data.clone());
                    self.sockets.insert(key.clone(), socket);
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
            (Some(entry), Some(socket)) => {
                let listener =
                    Listener { seq: request.seq, key, name: entry.name.clone(), data: entry.data.clone(), address: Some(entry.address.clone()), fds: 1 };
                Answer::HandedOver(listener, socket.fd.clone())
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
        for socket in self.sockets.values() {
            let _ = socket.listen();
        }
    }

    /// A restart was completed: closes what nobody has wanted since.
    pub(super) fn restart_completed(&mut self) {
        for key in self.registry.restart_completed() {
            if let Some(socket) = self.sockets.remove(&key) {
                socket.close();
                debug!(listener = key, "Listener closed: no worker has asked for it since two restarts");
            }
        }
    }

    /// The pool stops: nothing is accepted any more but by the workers that still go.
    pub(super) fn close_all(&mut self) {
        self.are_closed = true;
        std::mem::take(&mut self.sockets).into_values().for_each(Socket::close);
    }

    /// For `status`.
    pub(super) fn status(&self) -> impl Iterator<Item = ListenerStatus> {
        self.registry.iter().map(|(key, entry)| {
            let queue = self.sockets.get(key).filter(|_| entry.address.kind == Kind::Tcp).and_then(|socket| accept_queue(&socket.fd));
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

impl Socket {
    /// Binds and listens. Returns where it really is.
    fn bind(address: &Address, backlog: u32) -> io::Result<(Socket, Address)> {
        let (socket, real) = match (address.kind, &address.path) {
            (Kind::Unix, Some(path)) => {
                let (fd, file) = SocketFile::bind(Path::new(path), |fd, _| listen(fd, backlog))?;
                (Socket { fd: Arc::new(fd), backlog: Some(backlog), file: Some(file) }, address.clone())
            }
            (Kind::Unix, None) => return Err(Errno::EINVAL.into()),
            (Kind::Tcp | Kind::Udp, _) => {
                let fd = bind_ip(address)?;
                let real = real_address(&fd, address)?;
                (Socket { fd: Arc::new(fd), backlog: (address.kind == Kind::Tcp).then_some(backlog), file: None }, real)
            }
        };
        socket.listen()?;
        Ok((socket, real))
    }

    fn listen(&self) -> io::Result<()> {
        self.backlog.map_or(Ok(()), |backlog| listen(&self.fd, backlog))
    }

    fn close(self) {
        if let Some(file) = &self.file {
            file.remove();
        }
    }
}

fn listen(fd: &impl AsFd, backlog: u32) -> io::Result<()> {
    // What is longer than the system's limit is cut by it anyway.
    let backlog = i32::try_from(backlog).ok().and_then(|backlog| Backlog::new(backlog).ok()).unwrap_or(Backlog::MAXCONN);
    Ok(socket::listen(fd, backlog)?)
}

/// No host means every address: both families through one socket where the system has IPv6, else IPv4 alone.
fn bind_ip(address: &Address) -> nix::Result<OwnedFd> {
    match address.host {
        Some(host) => bind_host(address, host),
        None => match bind_host(address, Ipv6Addr::UNSPECIFIED.into()) {
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) if !address.ipv6_only => bind_host(address, Ipv4Addr::UNSPECIFIED.into()),
            outcome => outcome,
        },
    }
}

fn bind_host(address: &Address, host: IpAddr) -> nix::Result<OwnedFd> {
    let family = if host.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let kind = if address.kind == Kind::Udp { SockType::Datagram } else { SockType::Stream };
    let fd = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if address.kind == Kind::Tcp {
        // A port whose old connections linger can be had again. For datagrams it would mean sharing a port with strangers.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    if host.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &address.ipv6_only)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(host, address.port.unwrap_or(0))))?;
    Ok(fd)
}

fn real_address(fd: &OwnedFd, asked_for: &Address) -> nix::Result<Address> {
    let name: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    let v4 = name.as_sockaddr_in().map(|name| (IpAddr::V4(name.ip()), name.port()));
    let (host, port) = v4.or_else(|| name.as_sockaddr_in6().map(|name| (IpAddr::V6(name.ip()), name.port()))).ok_or(Errno::EAFNOSUPPORT)?;
    Ok(Address { host: Some(host), port: Some(port), ..asked_for.clone() })
}

/// How many connections wait to be accepted, and how many may.
#[allow(unsafe_code)]
fn accept_queue(fd: &impl AsRawFd) -> Option<(u32, u32)> {
    use nix::libc;
    // SAFETY: a struct of plain integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    // SAFETY: both pointers are valid for this call, and `length` says how much the kernel may write.
    let outcome = unsafe { libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length) };
    // For a listening socket the kernel puts the two lengths into these fields.
    (outcome == 0).then_some((info.tcpi_unacked, info.tcpi_sacked))
}

impl ListenError {
    fn of(address: &Address, source: io::Error) -> ListenError {
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
fn in_words(address: &Address) -> String {
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
    use std::net::{TcpListener, TcpStream};

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
        listen(&fd, 3).unwrap();
        assert_eq!(accept_queue(&fd).unwrap().1, 3);
        listeners.worker_serves();
        assert_eq!(accept_queue(&fd).unwrap().1, 17);
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
