//! A listener that the master handed over (or, standalone, one that the program bound itself), and its ways into the types that programs use.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use dutch_master_protocol::message::{self, Address, Kind};
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt};

/// A listening socket, bound, non-blocking and close-on-exec.
///
/// Every worker shares it: close it, but never `shutdown` it and never make it blocking, since that would reach all the others.
#[derive(Debug)]
pub struct Listener {
    key: String,
    name: Option<String>,
    data: Option<String>,
    address: Option<Address>,
    socket: OwnedFd,
}

/// Why a listener cannot be used as what the program wants.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// It is another kind of socket.
    #[error("the listener {key} is {found}, not {wanted}")]
    WrongKind {
        /// Its key.
        key: String,
        /// What the program asked for.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The system refused.
    #[error("the listener cannot be used")]
    Io(#[from] io::Error),
}

impl Listener {
    pub(crate) fn new(message: message::Listener, socket: OwnedFd) -> Listener {
        Listener { key: message.key, name: message.name, data: message.data, address: message.address, socket }
    }

    /// Names the listener towards the master, see [`Worker::close`](crate::Worker::close).
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its name in the configuration.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The opaque text of the pool's first asker.
    pub fn data(&self) -> Option<&str> {
        self.data.as_deref()
    }

    /// Where it listens.
    pub fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// Whether it is a Unix or a TCP listener, or a bound UDP socket.
    ///
    /// # Errors
    /// [`AdoptError`] when it is none of them.
    pub fn kind(&self) -> Result<Kind, AdoptError> {
        match classify(self.socket.as_fd())? {
            Found::Tcp => Ok(Kind::Tcp),
            Found::Unix => Ok(Kind::Unix),
            Found::Udp => Ok(Kind::Udp),
            found @ (Found::Connection | Found::Other) => Err(self.wrong_kind("a listener", found)),
        }
    }

    /// As the standard library's TCP listener. It is non-blocking.
    ///
    /// # Errors
    /// [`AdoptError`] when it is no TCP listener.
    pub fn into_std_tcp(self) -> Result<TcpListener, AdoptError> {
        self.expect(Found::Tcp, "a TCP listener")?;
        Ok(self.socket.into())
    }

    /// As the standard library's Unix listener. It is non-blocking.
    ///
    /// # Errors
    /// [`AdoptError`] when it is no Unix stream listener.
    pub fn into_std_unix(self) -> Result<UnixListener, AdoptError> {
        self.expect(Found::Unix, "a Unix listener")?;
        Ok(self.socket.into())
    }

    /// As tokio's TCP listener. Call it inside a runtime.
    ///
    /// # Errors
    /// [`AdoptError`] when it is no TCP listener, or the runtime cannot watch it.
    #[cfg(feature = "tokio")]
    pub fn into_tokio_tcp(self) -> Result<tokio::net::TcpListener, AdoptError> {
        Ok(tokio::net::TcpListener::from_std(self.into_std_tcp()?)?)
    }

    /// As tokio's Unix listener. Call it inside a runtime.
    ///
    /// # Errors
    /// [`AdoptError`] when it is no Unix stream listener, or the runtime cannot watch it.
    #[cfg(feature = "tokio")]
    pub fn into_tokio_unix(self) -> Result<tokio::net::UnixListener, AdoptError> {
        Ok(tokio::net::UnixListener::from_std(self.into_std_unix()?)?)
    }

    /// The bare descriptor, unchecked.
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }

    fn expect(&self, wanted: Found, name: &'static str) -> Result<(), AdoptError> {
        match classify(self.socket.as_fd())? {
            found if found == wanted => Ok(()),
            found => Err(self.wrong_kind(name, found)),
        }
    }

    fn wrong_kind(&self, wanted: &'static str, found: Found) -> AdoptError {
        let found = match found {
            Found::Tcp => "a TCP listener",
            Found::Unix => "a Unix listener",
            Found::Udp => "a UDP socket",
            Found::Connection => "a socket that does not listen",
            Found::Other => "no such socket at all",
        };
        AdoptError::WrongKind { key: self.key.clone(), wanted, found }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a descriptor really is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Tcp,
    Unix,
    Udp,
    Connection,
    Other,
}

fn classify(socket: BorrowedFd<'_>) -> io::Result<Found> {
    let kind = match getsockopt(&socket, sockopt::SockType) {
        Ok(kind) => kind,
        Err(nix::errno::Errno::ENOTSOCK) => return Ok(Found::Other),
        Err(errno) => return Err(errno.into()),
    };
    let family = getsockname::<SockaddrStorage>(socket.as_raw_fd())?.family();
    let internet = matches!(family, Some(AddressFamily::Inet | AddressFamily::Inet6));
    let unix = family == Some(AddressFamily::Unix);
    if kind == SockType::Datagram && internet {
        return Ok(Found::Udp);
    }
    if kind != SockType::Stream || !(internet || unix) {
        return Ok(Found::Other);
    }
    if !getsockopt(&socket, sockopt::AcceptConn)? {
        return Ok(Found::Connection);
    }
    Ok(if unix { Found::Unix } else { Found::Tcp })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn listener(socket: impl Into<OwnedFd>) -> Listener {
        Listener { key: "k".into(), name: None, data: None, address: None, socket: socket.into() }
    }

    fn tcp() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_tcp_listener_becomes_a_tcp_listener() {
        let bound = tcp();
        let address = bound.local_addr().unwrap();
        assert_eq!(listener(bound).into_std_tcp().unwrap().local_addr().unwrap(), address);
    }

    #[test]
    fn a_listener_of_the_wrong_kind_says_what_it_is() {
        let error = listener(tcp()).into_std_unix().unwrap_err();
        assert_eq!(error.to_string(), "the listener k is a TCP listener, not a Unix listener");
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(listener(udp).into_std_tcp().unwrap_err().to_string(), "the listener k is a UDP socket, not a TCP listener");
        let (pair, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(listener(pair).into_std_unix().unwrap_err().to_string(), "the listener k is a socket that does not listen, not a Unix listener");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(listener(file).kind().unwrap_err().to_string(), "the listener k is no such socket at all, not a listener");
    }
}
