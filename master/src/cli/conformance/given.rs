//! The listeners that the kit makes for workers: on the loopback alone, whatever was asked for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use dutch_master_protocol::message::{Address, Kind, Listen, Listener};

use super::http::Stream;

/// A listener that was handed over; the kit keeps its own copy, as a master does.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) message: Listener,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
    Udp(UdpSocket),
}

impl Given {
    /// Makes what was asked for, as the n-th of a trial. Paths are the kit's own.
    pub(super) fn make(listen: &Listen, trial: usize, nth: usize, folder: &Path) -> io::Result<Given> {
        let kind = listen.address.as_ref().map_or(Kind::Tcp, |address| address.kind);
        let (socket, address) = match kind {
            Kind::Tcp => {
                let socket = bind(listen, trial, TcpListener::bind)?;
                socket.set_nonblocking(true)?;
                let local = socket.local_addr()?;
                (Socket::Tcp(socket), Address::tcp(Some(local.ip()), local.port()))
            }
            Kind::Udp => {
                let socket = bind(listen, trial, UdpSocket::bind)?;
                socket.set_nonblocking(true)?;
                let local = socket.local_addr()?;
                (Socket::Udp(socket), Address { kind, ..Address::tcp(Some(local.ip()), local.port()) })
            }
            Kind::Unix => {
                let path = folder.join(format!("listener-{nth}"));
                let socket = UnixListener::bind(&path)?;
                socket.set_nonblocking(true)?;
                let address = Address::unix(path.to_string_lossy());
                (Socket::Unix(socket, path), address)
            }
        };
        let key = listen.name.clone().unwrap_or_else(|| format!("kit-{nth}"));
        let message = Listener { seq: listen.seq, key, name: listen.name.clone(), data: listen.data.clone(), address: Some(address), fds: 1 };
        Ok(Given { message, socket })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket, _) => socket.as_fd(),
            Socket::Udp(socket) => socket.as_fd(),
        }
    }

    /// Whether one can connect to it.
    pub(super) fn is_stream(&self) -> bool {
        !matches!(self.socket, Socket::Udp(_))
    }

    pub(super) fn connect(&self, patience: Duration) -> io::Result<Stream> {
        match &self.socket {
            Socket::Tcp(socket) => TcpStream::connect_timeout(&socket.local_addr()?, patience).map(Stream::Tcp),
            Socket::Unix(_, path) => UnixStream::connect(path).map(Stream::Unix),
            Socket::Udp(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Takes a connection that waits, as another worker would.
    pub(super) fn accept(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(socket) => socket.accept().map(drop),
            Socket::Unix(socket, _) => socket.accept().map(drop),
            Socket::Udp(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// How long a port may be in use by another case, and how often that is looked at.
const IN_USE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_millis(50));

/// Binds in reach of this machine alone. A port that was asked for is given, since there are workers that insist on it: where the system has them, each case has a loopback address of its own.
fn bind<T>(listen: &Listen, nth: usize, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let host = listen.address.as_ref().and_then(|address| address.host);
    let port = listen.address.as_ref().and_then(|address| address.port).unwrap_or(0);
    if port == 0 || matches!(host, Some(IpAddr::V6(_))) {
        let host = if matches!(host, Some(IpAddr::V6(_))) { IpAddr::from(Ipv6Addr::LOCALHOST) } else { Ipv4Addr::LOCALHOST.into() };
        return patiently(|| bind((host, port).into()));
    }
    // A nil host is `::` where there is IPv6, but `0.0.0.0` will do (6.2.1).
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, high.max(1), low, u8::try_from(nth % 254).unwrap_or(0) + 1);
    match bind((own, port).into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => patiently(|| bind((Ipv4Addr::LOCALHOST, port).into())),
        bound => bound,
    }
}

fn patiently<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + IN_USE.0;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => thread::sleep(IN_USE.1),
            bound => return bound,
        }
    }
}
