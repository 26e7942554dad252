//! The kit's end of a connection: every wait is bounded, every read has room for descriptors.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use dutch_master_protocol::codec::{self, FrameDecoder};
use dutch_master_protocol::message::FromWorker;
use dutch_master_protocol::socket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::DeserializeOwned;

use super::case::{Verdict, differs};

/// What the other side said, if anything.
#[derive(Debug)]
pub(super) enum Heard<M = FromWorker> {
    Message(M),
    /// It ended the connection.
    End,
    /// Nothing, for as long as was waited.
    Silence,
}

#[derive(Debug)]
pub(super) struct Peer {
    socket: UnixStream,
    decoder: FrameDecoder,
    fds: VecDeque<OwnedFd>,
}

impl Peer {
    pub(super) fn new(socket: UnixStream) -> io::Result<Peer> {
        socket.set_nonblocking(false)?;
        // A worker that does not read must not hold the kit.
        socket.set_write_timeout(Some(Duration::from_secs(5)))?;
        Ok(Peer { socket, decoder: FrameDecoder::default(), fds: VecDeque::new() })
    }

    /// The process that connected, where the system tells.
    pub(super) fn pid(&self) -> Option<i32> {
        #[cfg(target_os = "linux")]
        return nix::sys::socket::getsockopt(&self.socket, nix::sys::socket::sockopt::PeerCredentials).map(|peer| peer.pid()).ok();
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// What it says next.
    pub(super) fn hear<M: DeserializeOwned>(&mut self, patience: Duration) -> Verdict<Heard<M>> {
        let until = Instant::now() + patience;
        loop {
            let next = self.decoder.next_frame().map(|frame| frame.map(codec::decode));
            match next {
                Ok(Some(Ok(message))) => return Ok(Heard::Message(message)),
                Ok(None) => {}
                Ok(Some(Err(flaw))) | Err(flaw) => return differs("well-formed messages (3)", flaw.to_string()),
            }
            if !readable(self.socket.as_fd(), until)? {
                return Ok(Heard::Silence);
            }
            if !self.read()? {
                return if self.decoder.is_empty() { Ok(Heard::End) } else { differs("whole frames (3.1.3)", "a stream that ends within a frame") };
            }
        }
    }

    /// The descriptor behind a frame that announced it.
    pub(super) fn descriptor(&mut self, patience: Duration) -> Verdict<OwnedFd> {
        let until = Instant::now() + patience;
        loop {
            match self.decoder.next_byte() {
                Some(0) => break,
                Some(other) => return differs("a zero byte with a descriptor (4.1)", format!("the byte {other:02x}")),
                None if !readable(self.socket.as_fd(), until)? => return differs("a zero byte with a descriptor (4.1)", "nothing"),
                None if !self.read()? => return differs("a zero byte with a descriptor (4.1)", "the end of the connection"),
                None => {}
            }
        }
        self.fds.pop_front().map_or_else(|| differs("a descriptor (4.1)", "a zero byte without one"), Ok)
    }

    /// Writes; a worker that has hung up does not get it, which later steps will notice.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    pub(super) fn send_fd(&mut self, fd: BorrowedFd<'_>) {
        let _ = socket::send_fd(self.socket.as_fd(), fd);
    }

    /// Several with one byte, as no master sends them.
    pub(super) fn send_fds(&mut self, fds: &[BorrowedFd<'_>]) {
        let _ = socket::send_fds(self.socket.as_fd(), fds);
    }

    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4_096];
        match socket::receive(self.socket.as_fd(), &mut buffer) {
            Ok(received) => {
                self.fds.extend(received.fds);
                self.decoder.push(&buffer[..received.bytes]);
                Ok(received.bytes > 0)
            }
            // It closed without having read everything.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Waits until there is something to read, an end included.
pub(super) fn readable(fd: BorrowedFd<'_>, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            // Poll counts whole milliseconds and may be early.
            Ok(0) if Instant::now() + Duration::from_millis(1) < until => {}
            Err(nix::errno::Errno::EINTR) => {}
            Ok(ready) => return Ok(ready > 0),
            Err(errno) => return Err(errno.into()),
        }
    }
}
