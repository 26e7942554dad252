//! Sockets that the service manager handed over at the start: those of a socket unit, which are lent, and those that an earlier master had given it to keep.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use dutch_master_protocol::message::{Address, Kind};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{Shutdown, SockType, SockaddrStorage, UnixAddr, getsockname, getsockopt, shutdown, sockopt};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::super::descriptors::{Inherited, Kept};
use super::super::listeners::{in_words, overlap};
use super::super::listening_socket::{ListeningSocket, Unfit};
use super::super::master::fnv1a;
use super::super::orders::in_full;
use super::super::socket_file::successor;
use crate::core::listeners::LISTENERS_MAX;

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;

/// Most sockets that are taken: as many listeners as a master has, lent, and as many kept. What is beyond is left alone.
const SOCKETS_MAX: u64 = 2 * LISTENERS_MAX as u64;

/// What the names of sockets begin with that masters gave away to be kept.
const KEPT: &str = "dm-listener-";

/// Longest part of such a name that is for people. systemd takes 255 bytes in all.
const READABLE_MAX: usize = 80;

/// What systemd calls sockets that have no name.
const NAMELESS: [&str; 3] = ["", "unknown", "stored"];

/// How often a restart may complete before a kept socket that nobody has asked for is given up: as with listeners that only workers asked for.
const UNUSED_RESTARTS: u32 = 2;

/// Sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub(in super::super) struct HandedSockets {
    sockets: Vec<Handed>,
    /// Names under which taken ones were kept, and are not any more.
    outdated: Vec<String>,
    restarts: u32,
}

/// The same as it is handed over to the program that takes this one's place.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in super::super) struct Handover {
    sockets: Vec<Handable>,
    restarts: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Handable {
    name: String,
    fd: RawFd,
    address: Address,
    is_lent: bool,
}

#[derive(Debug)]
struct Handed {
    name: String,
    fd: OwnedFd,
    address: Address,
    /// It belongs to a socket unit, file and all.
    is_lent: bool,
}

impl HandedSockets {
    pub(in super::super) fn hand_over<'a>(&'a self, kept: &mut Kept<'a>) -> Handover {
        let handable = |socket: &'a Handed| Handable {
            name: socket.name.clone(),
            fd: kept.keep(socket.fd.as_fd()),
            address: socket.address.clone(),
            is_lent: socket.is_lent,
        };
        Handover { sockets: self.sockets.iter().map(handable).collect(), restarts: self.restarts }
    }

    pub(in super::super) fn handed(Handover { sockets, restarts }: Handover, inherited: &mut Inherited) -> io::Result<HandedSockets> {
        let handed = |Handable { name, fd, address, is_lent }| Ok(Handed { name, fd: inherited.take(fd)?, address, is_lent });
        // What was outdated was told in the turn in which it became so.
        Ok(HandedSockets { sockets: sockets.into_iter().map(handed).collect::<io::Result<_>>()?, outdated: Vec::new(), restarts })
    }

    /// Takes over `count` descriptors from 3 on. Returns also what is no listener, by name.
    ///
    /// # Safety
    /// Those of them without close-on-exec must be nobody else's.
    #[allow(unsafe_code)]
    pub(super) unsafe fn take_over(count: u64, names: &str) -> (HandedSockets, Vec<(String, Unfit)>) {
        let mut names = names.split(':');
        let (mut sockets, mut unfit) = (Vec::new(), Vec::new());
        for number in (FIRST..).take(usize::try_from(count.min(SOCKETS_MAX)).unwrap_or(0)) {
            let name = names.next().unwrap_or_default().to_owned();
            // SAFETY: the number is only asked about; what is not open says so.
            let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
            // What came through the exec has no close-on-exec; what this process has opened since, where there was none of that number, has.
            let came = fcntl(borrowed, FcntlArg::F_GETFD).map(|flags| !FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
            let taken = came.and_then(|came| if came { fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) } else { Err(Errno::EBADF) });
            if let Err(errno) = taken {
                unfit.push((name, errno.into()));
                continue;
            }
            // SAFETY: it is open, had no close-on-exec, and the caller says that it is nobody else's.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            match address_of(&fd) {
                Ok(address) => sockets.push(Handed { is_lent: !name.starts_with(KEPT), name, fd, address }),
                Err(why) => unfit.push((name, why)),
            }
        }
        (HandedSockets { sockets, ..HandedSockets::default() }, unfit)
    }

    /// The one that is this listener, if it has come and is fit.
    pub(in super::super) fn take(&mut self, key: &str, name: Option<&str>, asked_for: &Address) -> Option<ListeningSocket> {
        let kept = kept_name(key);
        let is_called_so = |socket: &Handed| if socket.is_lent { name == Some(&socket.name) } else { socket.name == kept };
        let find = |condition: &dyn Fn(&Handed) -> bool| self.sockets.iter().position(|socket| socket.is_at(asked_for) && condition(socket));
        // Which port the system chose is known by the name alone. Elsewhere the address counts: it cannot be bound again, whatever it was called before.
        let at = find(&is_called_so).or_else(|| find(&|_| asked_for.port != Some(0)))?;
        let socket = self.sockets.swap_remove(at);
        if !socket.is_lent && socket.name != kept {
            self.outdated.push(socket.name.clone());
        }
        socket.open(key, asked_for)
    }

    /// Names that nothing is to be kept under any more.
    pub(in super::super) fn take_outdated(&mut self) -> Vec<String> {
        std::mem::take(&mut self.outdated)
    }

    /// Gives up what has this name and is elsewhere: whoever asks for the name must not get another address than was configured.
    pub(in super::super) fn reject(&mut self, name: &str, asked_for: &Address) {
        for socket in self.sockets.extract_if(.., |socket| socket.is_lent && socket.name == name && !socket.is_at(asked_for)) {
            let reason = format!("it is at {}, and the listener of that name at {}", in_words(&socket.address), in_words(asked_for));
            warn!(socket = name, reason, "Socket of the service manager cannot be used");
        }
    }

    /// Makes room for this address: closes every kept listener that it cannot be bound beside. The service manager, which has a copy, is told later; so it is shut down, which frees the address at once.
    /// What workers that live hold, by name, stays.
    ///
    /// # Errors
    /// Why there is no room.
    pub(in super::super) fn make_room(&mut self, asked_for: &Address, held: &[String]) -> Result<(), String> {
        for socket in self.sockets.extract_if(.., |socket| !socket.is_lent && overlap(&socket.address, asked_for)).collect::<Vec<_>>() {
            let here = in_words(&socket.address);
            let why = if held.contains(&socket.name) {
                Some(format!("; workers that live serve {here}, which is in its way: go back to that address, or stop the service and its workers first"))
            } else if shutdown(socket.fd.as_raw_fd(), Shutdown::Both).is_err() {
                // Datagrams have nothing to shut down.
                Some(format!("; the service manager keeps {here}, which is in its way: stop the service, so that it lets go, then start it"))
            } else {
                info!(listener = here, wanted = in_words(asked_for), "Kept listener closed: it is in the way of another");
                None
            };
            match why {
                None => self.outdated.push(socket.name),
                Some(why) => {
                    self.sockets.push(socket);
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// Those of socket units that nothing was configured for, with their names, and addresses as they are.
    pub(in super::super) fn take_lent(&mut self) -> Vec<(Option<String>, ListeningSocket)> {
        let mut lent: Vec<_> = self.sockets.extract_if(.., |socket| socket.is_lent).collect();
        lent.sort_by_key(|socket| socket.fd.as_raw_fd());
        let open = |socket: Handed| {
            // The name that systemd gives by default is that of the socket unit.
            let name = socket.name.strip_suffix(".socket").unwrap_or(&socket.name).to_owned();
            let address = socket.address.clone();
            Some((Some(name).filter(|name| !NAMELESS.contains(&name.as_str())), socket.open(&in_words(&address), &address)?))
        };
        lent.into_iter().filter_map(open).collect()
    }

    /// A restart was completed. Gives up what nobody has asked for since long, and returns the names.
    pub(in super::super) fn restart_completed(&mut self) -> Vec<String> {
        self.restarts += 1;
        if self.restarts >= UNUSED_RESTARTS { self.give_up() } else { Vec::new() }
    }

    /// Closes what has not been taken, and returns the names of those that are kept.
    pub(in super::super) fn give_up(&mut self) -> Vec<String> {
        std::mem::take(&mut self.sockets).into_iter().filter(|socket| !socket.is_lent).map(|socket| socket.name).collect()
    }
}

impl Handed {
    fn is_at(&self, asked_for: &Address) -> bool {
        let here = &self.address;
        if here.kind != asked_for.kind {
            return false;
        }
        if let Some(path) = &asked_for.path {
            // One of ours may have been bound under another name and renamed.
            let bound_as = successor(Path::new(path));
            return here.path.as_ref().is_some_and(|here| here == path || !self.is_lent && Path::new(here) == bound_as);
        }
        let is_same_host = match (asked_for.host, here.host) {
            (None, Some(IpAddr::V4(here))) => here.is_unspecified() && !asked_for.ipv6_only,
            (None, Some(IpAddr::V6(host))) => host.is_unspecified() && here.ipv6_only == asked_for.ipv6_only,
            (Some(asked), Some(host)) if asked.is_unspecified() && asked.is_ipv6() => asked == host && here.ipv6_only == asked_for.ipv6_only,
            (Some(asked), host) => host == Some(asked),
            (None, None) => false,
        };
        is_same_host && (asked_for.port == Some(0) || asked_for.port == here.port)
    }

    fn open(self, key: &str, asked_for: &Address) -> Option<ListeningSocket> {
        let from = if self.is_lent { "a socket unit" } else { "what was kept" };
        let address = Address { host: self.address.host, port: self.address.port, ..asked_for.clone() };
        match ListeningSocket::handed_over(self.fd, &address, self.is_lent) {
            Ok(socket) => {
                info!(listener = key, from, "Listener taken from the service manager");
                Some(socket)
            }
            Err(why) => {
                warn!(socket = self.name, reason = in_full(why), "Socket of the service manager cannot be used");
                None
            }
        }
    }
}

/// What a listener is called while the service manager keeps it. A name there has no colons, and is not as long as a path may be.
pub(in super::super) fn kept_name(key: &str) -> String {
    let readable: String = key.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).take(READABLE_MAX).collect();
    format!("{KEPT}{readable}-{:016x}", fnv1a(key.as_bytes().iter()))
}

/// Where it listens.
fn address_of(fd: &OwnedFd) -> Result<Address, Unfit> {
    let kind = getsockopt(fd, sockopt::SockType)?;
    if kind == SockType::Stream && !getsockopt(fd, sockopt::AcceptConn)? {
        return Err(Unfit::Deaf);
    }
    let name: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    let ip = name.as_sockaddr_in().map(|name| (IpAddr::V4(name.ip()), name.port()));
    let ip = ip.or_else(|| name.as_sockaddr_in6().map(|name| (IpAddr::V6(name.ip()), name.port())));
    match (kind, ip) {
        (SockType::Stream | SockType::Datagram, Some((host, port))) => {
            let ipv6_only = host.is_ipv6() && host.is_unspecified() && getsockopt(fd, sockopt::Ipv6V6Only)?;
            let tcp = Address { ipv6_only, ..Address::tcp(Some(host), port) };
            Ok(if kind == SockType::Stream { tcp } else { Address { kind: Kind::Udp, ..tcp } })
        }
        (SockType::Stream, None) => {
            let name: UnixAddr = getsockname(fd.as_raw_fd()).map_err(|_| Errno::EAFNOSUPPORT)?;
            let path = name.path().and_then(Path::to_str).ok_or(Unfit::NoPath)?;
            Ok(Address::unix(path))
        }
        _ => Err(Unfit::Kind),
    }
}

#[cfg(test)]
mod tests;
