//! Without a master the program binds for itself, to the same addresses and with the same kind of socket as the master would hand over.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;

use dutch_master_protocol::message::{self, Address, Kind, Listen};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::limits::BACKLOG;
use crate::listener::Listener;
use crate::request::ListenRequest;
use crate::worker::ListenError;

pub(crate) fn bind(request: ListenRequest) -> Result<Listener, ListenError> {
    let Listen { name, address, backlog, data, .. } = request.into_message()?;
    let Some(address) = address else { return Err(ListenError::NoMaster { name: name.unwrap_or_default() }) };
    let backlog = backlog.unwrap_or(BACKLOG);
    let (socket, address) = match address.kind {
        Kind::Unix => unix(address, backlog)?,
        Kind::Tcp | Kind::Udp => internet(&address, backlog)?,
    };
    let key = match (&address.path, address.host, address.port) {
        (Some(path), _, _) => path.clone(),
        (None, Some(host), Some(port)) => SocketAddr::new(host, port).to_string(),
        (None, _, _) => String::new(),
    };
    Ok(Listener::new(message::Listener { seq: 0, key, name: None, data, address: Some(address), fds: 1 }, socket.into()))
}

/// Without a host every address is meant: IPv6 and IPv4 by one socket, or IPv4 where there is no IPv6.
fn internet(address: &Address, backlog: u32) -> io::Result<(Socket, Address)> {
    let port = address.port.unwrap_or(0);
    let (host, both) = address.host.map_or((Ipv6Addr::UNSPECIFIED.into(), !address.ipv6_only), |host| (host, false));
    let bound = match bind_to(address.kind, host, port, address.ipv6_only, both, backlog) {
        Err(error) if both && matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL)) => {
            bind_to(address.kind, Ipv4Addr::UNSPECIFIED.into(), port, false, false, backlog)
        }
        bound => bound,
    };
    let socket = bound?;
    let real = socket.local_addr()?.as_socket();
    Ok((socket, Address { host: real.map(|real| real.ip()), port: real.map(|real| real.port()), ..address.clone() }))
}

fn bind_to(kind: Kind, host: IpAddr, port: u16, ipv6_only: bool, both: bool, backlog: u32) -> io::Result<Socket> {
    let to = SocketAddr::new(host, port);
    let socket = Socket::new(Domain::for_address(to), if kind == Kind::Udp { Type::DGRAM } else { Type::STREAM }, None)?;
    if to.is_ipv6() && (ipv6_only || both) {
        socket.set_only_v6(ipv6_only)?;
    }
    if kind == Kind::Tcp {
        // Else the port cannot be bound again while connections of the last run are in TIME_WAIT.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&to.into())?;
    if kind == Kind::Tcp {
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn unix(address: Address, backlog: u32) -> io::Result<(Socket, Address)> {
    let path = address.path.as_deref().unwrap_or_default();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let to = SockAddr::unix(path)?;
    match socket.bind(&to) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            std::fs::remove_file(path)?;
            socket.bind(&to)?;
        }
        bound => bound?,
    }
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// A socket file that an earlier run left behind: nobody listens there.
fn is_stale(path: &str) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
