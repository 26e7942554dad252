//! Bytes to and from the master: connecting, bounded writes from any thread, and waiting with a deadline.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dutch_master_protocol::codec;
use dutch_master_protocol::message::FromWorker;
use dutch_master_protocol::socket::send_fd;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::limits::WRITE_TIMEOUT;

/// Connects, or fails at once: also when a master's queue is full, which is a reason to come back later.
pub(crate) fn dial(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

/// The socket: read by one thread, written by any.
pub(crate) struct Wire {
    socket: UnixStream,
    /// Held while a frame is written, since frames must not mix.
    writing: Mutex<()>,
}

impl Wire {
    pub(crate) fn new(socket: UnixStream) -> Wire {
        Wire { socket, writing: Mutex::new(()) }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Ends the connection in both directions.
    pub(crate) fn shutdown(&self) {
        let _ = self.socket.shutdown(Shutdown::Both); // It fails when the peer ended it first.
    }

    /// Writes one message, or ends the connection: half a frame would garble everything after it.
    pub(crate) fn say(&self, message: &FromWorker) -> io::Result<()> {
        self.say_with(message, None)
    }

    /// Writes one message, and behind it the descriptor that it announces. With one, SIGPIPE must be ignored or blocked.
    pub(crate) fn say_with(&self, message: &FromWorker, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let frame = codec::encode(message).map_err(|malformed| io::Error::new(io::ErrorKind::InvalidInput, malformed))?;
        let until = Instant::now() + WRITE_TIMEOUT;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(&frame, until).and_then(|()| fd.map_or(Ok(()), |fd| self.hand_over(fd, until))).inspect_err(|_| self.shutdown())
    }

    fn write(&self, mut bytes: &[u8], until: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.patiently(until, || Ok(send(self.socket.as_raw_fd(), bytes, no_sigpipe())?))?..];
        }
        Ok(())
    }

    fn hand_over(&self, fd: BorrowedFd<'_>, until: Instant) -> io::Result<()> {
        self.patiently(until, || send_fd(self.socket(), fd))
    }

    /// Tries until the socket takes it, or the time is over.
    fn patiently<T>(&self, until: Instant, attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
        loop {
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(self.socket(), PollFlags::POLLOUT)];
                    match poll(&mut fds, timeout(Some(until))) {
                        Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                outcome => return outcome,
            }
        }
    }
}

/// The program may have SIGPIPE at its default, for example inside another runtime; where there is no such flag, the socket itself is told (socket2 does).
fn no_sigpipe() -> MsgFlags {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return MsgFlags::MSG_NOSIGNAL;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return MsgFlags::empty();
}

/// Wakes the session thread out of [`wait`].
pub(crate) struct Waker(UnixStream);

impl Waker {
    /// The waker, and what it makes readable.
    pub(crate) fn new() -> io::Result<(Waker, UnixStream)> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok((Waker(waker), woken))
    }

    pub(crate) fn wake(&self) {
        let _ = (&self.0).write(&[0]); // It fails when it is full, and then the thread is awake anyway.
    }
}

/// Waits until `socket` is readable (true), or somebody woke us, or the deadline is over.
pub(crate) fn wait(socket: Option<BorrowedFd<'_>>, woken: Option<&UnixStream>, until: Option<Instant>) -> bool {
    let mut fds: Vec<PollFd<'_>> = woken.map(AsFd::as_fd).into_iter().chain(socket).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    loop {
        match poll(&mut fds, timeout(until)) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            // Out of memory, most likely: try again, but do not spin.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    if let Some(mut woken) = woken.filter(|_| fds[0].any().unwrap_or(true)) {
        let _ = woken.read(&mut [0; 64]); // Should more be there, it wakes once more.
    }
    socket.is_some() && fds.last().is_some_and(|fd| fd.any().unwrap_or(true))
}

/// Rounded up, so that the deadline is over when the time is.
fn timeout(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
