//! Accepting connections from a TCP or Unix listener.

use std::io;
use std::net::{self, SocketAddr};
use std::os::unix;

use dutch_master_protocol::message::Kind;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::QUEUE_MAX;
use crate::listener::{AdoptError, Listener};

/// A connection, just accepted.
pub(super) type Stream = Either<TcpStream, UnixStream>;

pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    pub(super) fn new(listener: Listener) -> io::Result<Acceptor> {
        let adopt = |listener: Listener| -> Result<Acceptor, AdoptError> {
            Ok(match listener.kind()? {
                Kind::Unix => Acceptor::Unix(listener.into_tokio_unix()?),
                Kind::Tcp | Kind::Udp => Acceptor::Tcp(listener.into_tokio_tcp()?),
            })
        };
        adopt(listener).map_err(|error| match error {
            AdoptError::Io(error) => error,
            wrong @ AdoptError::WrongKind { .. } => io::Error::new(io::ErrorKind::InvalidInput, wrong),
        })
    }

    /// The next connection, and where it comes from if that has an address.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Acceptor::Tcp(listener) => listener.accept().await.map(|(stream, from)| (Either::Left(stream), Some(from))),
            Acceptor::Unix(listener) => listener.accept().await.map(|(stream, _)| (Either::Right(stream), None)),
        }
    }

    /// Takes what waits in the queue, and closes this copy of the listener.
    ///
    /// It asks the system rather than the runtime, which may not have learnt yet that something waits.
    pub(super) fn accept_queue(self) -> Vec<(Stream, Option<SocketAddr>)> {
        match self {
            Acceptor::Tcp(listener) => {
                let Ok(listener) = listener.into_std() else { return Vec::new() };
                let waiting = std::iter::from_fn(|| next(|| listener.accept()));
                let adopt = |stream: net::TcpStream| stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                waiting.take(QUEUE_MAX).filter_map(|(stream, from)| Some((Either::Left(adopt(stream).ok()?), Some(from)))).collect()
            }
            Acceptor::Unix(listener) => {
                let Ok(listener) = listener.into_std() else { return Vec::new() };
                let waiting = std::iter::from_fn(|| next(|| listener.accept()));
                let adopt = |stream: unix::net::UnixStream| stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
                waiting.take(QUEUE_MAX).filter_map(|(stream, _)| Some((Either::Right(adopt(stream).ok()?), None))).collect()
            }
        }
    }
}

/// The next connection that waits; one that its client has given up is none.
fn next<T>(accept: impl Fn() -> io::Result<T>) -> Option<T> {
    loop {
        match accept() {
            Ok(connection) => return Some(connection),
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(_) => return None, // WouldBlock: nothing waits. Anything else will not get better now.
        }
    }
}
