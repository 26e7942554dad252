//! Accepting connections from a TCP or Unix listener.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix;

use dutch_master_protocol::message::Kind;
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

use super::QUEUE_MAX;
use super::turn::Turn;
use crate::listener::{AdoptError, Listener};

/// A connection, just accepted.
pub(super) type Stream = Either<TcpStream, UnixStream>;

/// A connection, and where it comes from if that has an address.
pub(super) type Accepted = (Stream, Option<SocketAddr>);

pub(super) struct Acceptor {
    listener: AsyncFd<Socket>,
    is_unix: bool,
    turn: Turn,
}

impl Acceptor {
    /// `pool_size`: how many workers share the listener.
    pub(super) fn new(listener: Listener, pool_size: u32) -> io::Result<Acceptor> {
        let adopt = |listener: Listener| -> Result<(Socket, bool), AdoptError> {
            Ok(match listener.kind()? {
                Kind::Unix => (listener.into_std_unix()?.into(), true),
                Kind::Tcp | Kind::Udp => (listener.into_std_tcp()?.into(), false),
            })
        };
        let (socket, is_unix) = adopt(listener).map_err(|error| match error {
            AdoptError::Io(error) => error,
            wrong @ AdoptError::WrongKind { .. } => io::Error::new(io::ErrorKind::InvalidInput, wrong),
        })?;
        Ok(Acceptor { listener: watch(socket)?, is_unix, turn: Turn::new(pool_size)? })
    }

    /// The next connection. `load` tells how many there are already.
    pub(super) async fn accept(&mut self, load: impl Fn() -> usize) -> io::Result<Accepted> {
        loop {
            let mut ready = self.listener.readable().await?;
            if ready.ready().is_read_closed() {
                drop(ready);
                // Somebody shut the listener down. Even when it listens again the runtime keeps on saying so, to this registration.
                match next_or_why(|| self.listener.get_ref().accept())? {
                    Some((socket, from)) => return adopt(socket, self.is_unix, from.as_socket()),
                    None => self.listener = watch(self.listener.get_ref().try_clone()?)?,
                }
                continue;
            }
            if !self.turn.comes(self.listener.get_ref(), load()).await {
                ready.clear_ready();
                continue;
            }
            if let Ok(accepted) = ready.try_io(|listener| listener.get_ref().accept()) {
                let (socket, from) = accepted?;
                return adopt(socket, self.is_unix, from.as_socket());
            }
            self.turn.is_over();
        }
    }

    /// Takes what waits in the queue, and closes this copy of the listener.
    ///
    /// It asks the system rather than the runtime, which may not have learnt yet that something waits.
    pub(super) fn accept_queue(self) -> Vec<Accepted> {
        let listener = self.listener.into_inner();
        let waiting = std::iter::from_fn(|| next(|| listener.accept()));
        waiting.take(QUEUE_MAX).filter_map(|(socket, from)| adopt(socket, self.is_unix, from.as_socket()).ok()).collect()
    }
}

/// Lets the runtime tell when there is something to read.
#[allow(unsafe_code)]
pub(super) fn watch<T: Fixed>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: a `Fixed` is the same open descriptor until it is dropped, and that happens only after `AsyncFd` has deregistered it.
    Ok(unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE)? })
}

/// An owner of one descriptor, which stays the same and stays open until it is dropped.
pub(super) trait Fixed: AsRawFd {}

impl Fixed for Socket {}

fn adopt(socket: Socket, is_unix: bool, from: Option<SocketAddr>) -> io::Result<Accepted> {
    if is_unix {
        let stream = unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        return Ok((Either::Right(UnixStream::from_std(stream)?), None));
    }
    let stream = net::TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok((Either::Left(TcpStream::from_std(stream)?), from))
}

/// The next connection, if one waits.
fn next_or_why<T>(accept: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
    match accept() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        outcome => outcome.map(Some),
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
