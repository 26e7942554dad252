//! The connection to the master, as a worker has it.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use dutch_master_protocol::codec::{self, FrameDecoder};
use dutch_master_protocol::message::{ErrorMessage, FromMaster, FromWorker, codes};
use dutch_master_protocol::socket;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the master may take to read what it is told.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the connection has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the connection to the master failed")]
    Io(#[from] io::Error),
    #[error("the master has ended the connection")]
    Ended,
    #[error("the master breaks the protocol")]
    Malformed(#[from] codec::Malformed),
    #[error("the master broke the protocol: {0}")]
    Descriptors(&'static str),
    #[error("the master refused: {} ({})", .0.message, .0.code)]
    Refused(ErrorMessage),
}

#[derive(Debug)]
pub(super) struct Link {
    /// None: it has ended.
    socket: Option<UnixStream>,
    decoder: FrameDecoder,
    fds: VecDeque<OwnedFd>,
    /// A `listener` whose descriptor has not arrived.
    handed_over: Option<FromMaster>,
}

impl Link {
    pub(super) async fn connect(path: &Path) -> Result<Link, LinkError> {
        Ok(Link { socket: Some(UnixStream::connect(path).await?), decoder: FrameDecoder::default(), fds: VecDeque::new(), handed_over: None })
    }

    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// The next message; after the end none ever comes. An error is the end.
    pub(super) async fn hear(&mut self) -> Result<(FromMaster, Option<OwnedFd>), LinkError> {
        let heard = self.next().await;
        if let Err(error) = &heard {
            let code = match error {
                LinkError::Malformed(malformed) => Some(malformed.code()),
                LinkError::Descriptors(_) => Some(codes::BAD_DESCRIPTORS),
                LinkError::Io(_) | LinkError::Ended | LinkError::Refused(_) => None,
            };
            if let Some(code) = code {
                self.say(&FromWorker::Error(ErrorMessage { seq: None, code: code.into(), message: error.to_string() })).await;
            }
            self.socket = None;
        }
        heard
    }

    /// A master that does not hear it has gone, which shows when it is heard.
    pub(super) async fn say(&mut self, message: &FromWorker) {
        let (Some(socket), Ok(frame)) = (&self.socket, codec::encode(message)) else { return };
        let mut rest = frame.as_slice();
        let write = async {
            while !rest.is_empty() {
                socket.writable().await?;
                match socket.try_write(rest) {
                    Ok(n) => rest = &rest[n..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let _gone = timeout(WRITE_TIMEOUT, write).await;
    }

    async fn next(&mut self) -> Result<(FromMaster, Option<OwnedFd>), LinkError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            let Some(socket) = &self.socket else { return pending().await };
            let mut buffer = [0; 4_096];
            let received = socket.async_io(Interest::READABLE, || socket::receive(socket.as_fd(), &mut buffer)).await?;
            self.fds.extend(received.fds);
            self.decoder.push(&buffer[..received.bytes]);
            match received.bytes {
                0 => return Err(LinkError::Ended),
                _ if received.excess || received.lost => return Err(LinkError::Descriptors("more descriptors at once than are allowed")),
                _ => {}
            }
        }
    }

    fn take(&mut self) -> Result<Option<(FromMaster, Option<OwnedFd>)>, LinkError> {
        loop {
            if let Some(message) = self.handed_over.take() {
                let Some(byte) = self.decoder.next_byte() else {
                    self.handed_over = Some(message);
                    return Ok(None);
                };
                return match (byte, self.fds.pop_front()) {
                    (0, Some(fd)) => Ok(Some((message, Some(fd)))),
                    (0, None) => Err(LinkError::Descriptors("a message announced a descriptor, and none came")),
                    _ => Err(LinkError::Descriptors("a descriptor's byte that is not zero")),
                };
            }
            let Some(frame) = self.decoder.next_frame()? else {
                // Which byte a descriptor arrives with differs between systems, but none comes later than its own zero byte.
                let stray = self.decoder.is_empty() && !self.fds.is_empty();
                return if stray { Err(LinkError::Descriptors("a descriptor that no message announced")) } else { Ok(None) };
            };
            match codec::decode(frame)? {
                FromMaster::Listener(listener) if listener.fds != 1 => return Err(LinkError::Descriptors("`listener` hands over exactly one descriptor")),
                message @ FromMaster::Listener(_) => self.handed_over = Some(message),
                FromMaster::Error(error) if error.seq.is_none() => return Err(LinkError::Refused(error)),
                FromMaster::Unknown => {}
                message @ (FromMaster::Welcome(_) | FromMaster::Error(_) | FromMaster::Disconnect(_) | FromMaster::ReturnListener(_)) => {
                    return Ok(Some((message, None)));
                }
            }
        }
    }
}
