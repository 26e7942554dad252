//! One socket behind a listener: made here, and put right where a worker, which shares it, has broken it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use dutch_master_protocol::message::{Address, Kind};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, UnixAddr, bind, getsockname, getsockopt, setsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::descriptors::{Inherited, Kept};
use super::socket_access::FileAccess;
use super::socket_file::{SocketFile, successor};
use crate::core::listeners::BACKLOG;

/// A socket that workers get copies of. They all share one open file description with it.
#[derive(Debug)]
pub(super) struct ListeningSocket {
    fd: Arc<OwnedFd>,
    /// Where it really is.
    address: Address,
    /// Length of the accept queue; none for datagrams.
    backlog: Option<u32>,
    file: Option<SocketFile>,
    access: FileAccess,
    /// It belongs to the service manager, which has it as well, and whose file is not ours to remove.
    is_lent: bool,
}

/// A socket as it is handed over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    fd: RawFd,
    address: Address,
    backlog: Option<u32>,
    inode: Option<(u64, u64)>,
    access: FileAccess,
    is_lent: bool,
}

/// What can be wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    /// A worker has shut it down: nobody can connect any more.
    ShutDown,
    /// Its file was removed, or another took its place: nobody finds it.
    FileGone,
}

/// How it was put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repair {
    /// It is the same one; the copies serve again.
    Revived,
    /// It is a new one; the copies that workers hold are those of a dead one.
    BoundAnew,
}

/// Why a socket is not the one that it is said to be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    /// A stream for datagrams, or the other way round.
    #[error("it is a socket of another kind")]
    Kind,
    /// It does not listen.
    #[error("it does not listen")]
    Deaf,
    /// A Unix socket in the abstract namespace, or none at all.
    #[error("it has no path")]
    NoPath,
    /// It is bound to another address.
    #[error("it is bound to another address")]
    Elsewhere,
    /// It is no socket, or not of the family.
    #[error("{0}")]
    Refused(#[from] Errno),
    /// It does not listen again.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl ListeningSocket {
    /// Binds and listens.
    pub(super) fn bind(address: &Address, backlog: u32) -> io::Result<ListeningSocket> {
        ListeningSocket::bind_for(address, backlog, FileAccess::default())
    }

    /// The same, for those who are to be able to connect.
    pub(super) fn bind_for(address: &Address, backlog: u32, access: FileAccess) -> io::Result<ListeningSocket> {
        let socket = match (address.kind, &address.path) {
            (Kind::Unix, Some(path)) => {
                let (fd, file) = SocketFile::bind(Path::new(path), |fd, path| {
                    access.set(path)?;
                    listen(fd, backlog)
                })?;
                ListeningSocket { fd: Arc::new(fd), address: address.clone(), backlog: Some(backlog), file: Some(file), access, is_lent: false }
            }
            (Kind::Unix, None) => return Err(Errno::EINVAL.into()),
            (Kind::Tcp | Kind::Udp, _) => {
                let fd = bind_ip(address)?;
                let real = real_address(&fd, address)?;
                ListeningSocket { fd: Arc::new(fd), address: real, backlog: (address.kind == Kind::Tcp).then_some(backlog), file: None, access, is_lent: false }
            }
        };
        socket.listen()?;
        Ok(socket)
    }

    /// One that was bound by a master that died, from a worker that held it. It has to be what it is said to be.
    pub(super) fn adopt(fd: OwnedFd, address: &Address, backlog: u32, access: FileAccess) -> Result<ListeningSocket, Unfit> {
        let kind = if address.kind == Kind::Udp { SockType::Datagram } else { SockType::Stream };
        if getsockopt(&fd, sockopt::SockType)? != kind {
            return Err(Unfit::Kind);
        }
        if kind == SockType::Stream && !getsockopt(&fd, sockopt::AcceptConn)? {
            return Err(Unfit::Deaf);
        }
        let file = match &address.path {
            Some(path) => {
                let name: UnixAddr = getsockname(fd.as_raw_fd())?;
                // It was bound under another name and renamed, where one was left over.
                let place = Path::new(path);
                if ![place, &successor(place)].iter().any(|there| name.path() == Some(there)) {
                    return Err(Unfit::Elsewhere);
                }
                // Where the file is gone it is made anew, with the access that it should have.
                let _ = access.set(place);
                Some(SocketFile::found(place))
            }
            None if real_address(&fd, address)? != *address => return Err(Unfit::Elsewhere),
            None => None,
        };
        let socket = ListeningSocket {
            fd: Arc::new(fd),
            address: address.clone(),
            backlog: (kind == SockType::Stream).then_some(backlog),
            file,
            access,
            is_lent: false,
        };
        socket.make_nonblocking();
        socket.listen()?;
        Ok(socket)
    }

    pub(super) fn hand_over<'a>(&'a self, kept: &mut Kept<'a>) -> Handed {
        let inode = self.file.as_ref().map(SocketFile::inode);
        Handed { fd: kept.keep(self.fd.as_fd()), address: self.address.clone(), backlog: self.backlog, inode, access: self.access, is_lent: self.is_lent }
    }

    pub(super) fn handed(Handed { fd, address, backlog, inode, access, is_lent }: Handed, inherited: &mut Inherited) -> io::Result<ListeningSocket> {
        let file = address.path.as_ref().zip(inode).map(|(path, inode)| SocketFile::handed(Path::new(path), inode));
        Ok(ListeningSocket { fd: inherited.share(fd)?, address, backlog, file, access, is_lent })
    }

    /// One that the service manager handed over, with the accept queue that it has.
    pub(super) fn handed_over(fd: OwnedFd, address: &Address, is_lent: bool) -> Result<ListeningSocket, Unfit> {
        let unknown = if is_lent { u32::MAX } else { BACKLOG };
        let backlog = if address.kind == Kind::Tcp { accept_queue(&fd).map_or(unknown, |(_, limit)| limit) } else { unknown };
        let socket = ListeningSocket::adopt(fd, address, backlog, FileAccess::default())?;
        Ok(ListeningSocket { is_lent, file: socket.file.filter(|_| !is_lent), ..socket })
    }

    /// Who is to be able to connect, should its file have to be made again.
    pub(super) fn with_access(self, access: FileAccess) -> ListeningSocket {
        ListeningSocket { access, ..self }
    }

    pub(super) fn is_lent(&self) -> bool {
        self.is_lent
    }

    pub(super) fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Where it really is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn backlog(&self) -> Option<u32> {
        self.backlog
    }

    /// Its file, if it has one.
    pub(super) fn file(&self) -> Option<&SocketFile> {
        self.file.as_ref()
    }

    /// Listens, with the accept queue as long as it should be.
    pub(super) fn listen(&self) -> io::Result<()> {
        self.backlog.map_or(Ok(()), |backlog| listen(&self.fd, backlog))
    }

    /// Gives it up. Copies live on.
    pub(super) fn close(self) {
        if let Some(file) = &self.file {
            file.remove();
        }
    }

    /// How many connections wait to be accepted, and how many may; of TCP alone.
    pub(super) fn accept_queue(&self) -> Option<(u32, u32)> {
        if self.address.kind == Kind::Tcp { accept_queue(&self.fd) } else { None }
    }

    /// Makes it non-blocking again. Returns whether it had been made blocking.
    pub(super) fn make_nonblocking(&self) -> bool {
        let flags = fcntl(&self.fd, FcntlArg::F_GETFL).map_or(OFlag::O_NONBLOCK, OFlag::from_bits_retain);
        !flags.contains(OFlag::O_NONBLOCK) && fcntl(&self.fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).is_ok()
    }

    /// What is wrong with it.
    pub(super) fn damage(&self) -> Option<Damage> {
        if self.is_shut_down() {
            return Some(Damage::ShutDown);
        }
        self.file.as_ref().filter(|file| !file.is_in_place()).map(|_| Damage::FileGone)
    }

    fn is_shut_down(&self) -> bool {
        // TCP says one of them, a Unix socket of which only the reading side was shut down the other.
        let mut fds = [PollFd::new(&self.fd, PollFlags::RDHUP)];
        poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP)
    }

    /// Puts it right.
    ///
    /// # Errors
    /// What the system says. Somebody else may have taken the address meanwhile.
    pub(super) fn repair(&mut self) -> io::Result<Repair> {
        match self.address.kind {
            Kind::Tcp => {
                // The system keeps an address that was asked for; a port that it had found by itself has to be taken again.
                match bind(self.fd.as_raw_fd(), &ip_address(&self.address)) {
                    Ok(()) | Err(Errno::EINVAL) => {}
                    Err(errno) => return Err(errno.into()),
                }
                self.listen()?;
                Ok(Repair::Revived)
            }
            Kind::Unix if self.is_lent => Err(io::Error::other("it belongs to a socket unit, which has to be restarted")),
            Kind::Unix => {
                *self = ListeningSocket::bind_for(&self.address, self.backlog.unwrap_or_default(), self.access)?;
                Ok(Repair::BoundAnew)
            }
            // Nobody else can have its port while workers hold it, and nothing brings it back.
            Kind::Udp => Err(io::Error::other("only a new start of the master brings a UDP socket back")),
        }
    }
}

fn listen(fd: &impl AsFd, backlog: u32) -> io::Result<()> {
    // What is longer than the system's limit is cut by it anyway.
    let backlog = i32::try_from(backlog).ok().and_then(|backlog| Backlog::new(backlog).ok()).unwrap_or(Backlog::MAXCONN);
    Ok(socket::listen(fd, backlog)?)
}

/// No host means every address: both families through one socket where the system has IPv6, else IPv4 alone.
pub(super) fn bind_ip(address: &Address) -> nix::Result<OwnedFd> {
    match address.host {
        Some(_) => bind_host(address),
        None => match bind_host(&Address { host: Some(Ipv6Addr::UNSPECIFIED.into()), ..address.clone() }) {
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) if !address.ipv6_only => {
                bind_host(&Address { host: Some(Ipv4Addr::UNSPECIFIED.into()), ..address.clone() })
            }
            outcome => outcome,
        },
    }
}

fn bind_host(address: &Address) -> nix::Result<OwnedFd> {
    let is_ipv6 = address.host.is_some_and(|host| host.is_ipv6());
    let family = if is_ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let kind = if address.kind == Kind::Udp { SockType::Datagram } else { SockType::Stream };
    let fd = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if address.kind == Kind::Tcp {
        // A port whose old connections linger can be had again. For datagrams it would mean sharing a port with strangers.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    if is_ipv6 {
        setsockopt(&fd, sockopt::Ipv6V6Only, &address.ipv6_only)?;
    }
    bind(fd.as_raw_fd(), &ip_address(address))?;
    Ok(fd)
}

fn ip_address(address: &Address) -> SockaddrStorage {
    SocketAddr::new(address.host.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), address.port.unwrap_or(0)).into()
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

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn tcp(port: u16) -> ListeningSocket {
        ListeningSocket::bind(&Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), port), 17).unwrap()
    }

    fn unix(name: &str) -> (ListeningSocket, String) {
        let path = std::env::temp_dir().join(format!("dm-damage-{name}-{}.sock", std::process::id())).to_str().unwrap().to_owned();
        (ListeningSocket::bind(&Address::unix(&path), 17).unwrap(), path)
    }

    fn shut_down(socket: &ListeningSocket) {
        let copy = TcpStream::from(socket.fd.try_clone().unwrap());
        copy.shutdown(Shutdown::Both).unwrap();
    }

    fn connect(socket: &ListeningSocket) -> io::Result<TcpStream> {
        TcpStream::connect(("127.0.0.1", socket.address.port.unwrap()))
    }

    #[test]
    fn a_tcp_listener_that_was_shut_down_is_revived_at_its_port_as_often_as_it_takes() {
        let found = tcp(0);
        let free = found.address.port.unwrap();
        for mut socket in [found, tcp(0)] {
            for _ in 0..3 {
                assert_eq!(socket.damage(), None);
                let _waiting = connect(&socket).unwrap();
                shut_down(&socket);
                assert_eq!(socket.damage(), Some(Damage::ShutDown));
                connect(&socket).unwrap_err();
                assert_eq!(socket.repair().unwrap(), Repair::Revived);
                connect(&socket).unwrap();
                assert_eq!(socket.accept_queue(), Some((1, 17)));
            }
        }
        let mut asked_for = tcp(free);
        shut_down(&asked_for);
        asked_for.repair().unwrap();
        connect(&asked_for).unwrap();
    }

    #[test]
    fn a_unix_listener_that_was_shut_down_is_bound_anew() {
        let (mut socket, path) = unix("shut-down");
        shut_down(&socket);
        assert_eq!(socket.damage(), Some(Damage::ShutDown));
        assert_eq!(socket.repair().unwrap(), Repair::BoundAnew);
        assert_eq!(socket.damage(), None);
        UnixStream::connect(&path).unwrap();
        socket.close();
    }

    #[test]
    fn a_unix_listener_whose_file_is_gone_is_bound_anew_unless_somebody_serves_there() {
        let (mut socket, path) = unix("gone");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(socket.damage(), Some(Damage::FileGone));
        assert_eq!(socket.repair().unwrap(), Repair::BoundAnew);
        UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        assert_eq!(socket.damage(), Some(Damage::FileGone));
        assert_eq!(socket.repair().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_listener_that_was_made_blocking_is_made_non_blocking_again() {
        let socket = tcp(0);
        assert!(!socket.make_nonblocking());
        let copy = std::net::TcpListener::from(socket.fd.try_clone().unwrap());
        copy.set_nonblocking(false).unwrap();
        assert!(socket.make_nonblocking());
        assert_eq!(copy.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
