//! What the service manager is told, as datagrams. Nothing here ever waits: what cannot be sent at once is tried again later.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket};
use tracing::warn;

use crate::core::Time;
use crate::core::listeners::LISTENERS_MAX;

/// Most messages that wait for a service manager that does not read: each listener given and taken back, and some about the state. What is beyond is dropped.
const QUEUE_MAX: usize = 2 * LISTENERS_MAX + 64;

/// How long it is until the next attempt, in milliseconds.
const RETRY_MS: u64 = 200;

/// Where the service manager listens.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: OwnedFd,
    to: UnixAddr,
    waiting: VecDeque<Message>,
    retry_at: Option<Time>,
    /// That it cannot be told was told.
    is_told: bool,
}

#[derive(Debug)]
struct Message {
    text: String,
    fd: Option<Arc<OwnedFd>>,
}

impl Notifier {
    /// A path, or with `@` an abstract name.
    pub(super) fn to(name: &OsStr) -> io::Result<Notifier> {
        let to = match name.as_bytes() {
            [b'/', ..] => UnixAddr::new(Path::new(name))?,
            [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract socket")),
        };
        let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        Ok(Notifier { socket, to, waiting: VecDeque::new(), retry_at: None, is_told: false })
    }

    /// Says it, now or as soon as that is possible, and in its order.
    pub(super) fn say(&mut self, now: Time, text: String, fd: Option<Arc<OwnedFd>>) {
        if self.waiting.len() < QUEUE_MAX {
            self.waiting.push_back(Message { text, fd });
        }
        if self.retry_at.is_none() {
            self.send_waiting(now);
        }
    }

    /// When what waits is to be tried again.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.retry_at
    }

    pub(super) fn expired(&mut self, now: Time) {
        if self.retry_at.take_if(|at| *at <= now).is_some() {
            self.send_waiting(now);
        }
    }

    fn send_waiting(&mut self, now: Time) {
        while let Some(message) = self.waiting.front() {
            match self.send(message) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => {
                    self.retry_at = Some(now.after(RETRY_MS));
                    return;
                }
                outcome => {
                    if let Err(errno) = outcome
                        && !std::mem::replace(&mut self.is_told, true)
                    {
                        warn!(reason = %errno, "The service manager cannot be told anything");
                    }
                    self.waiting.pop_front();
                }
            }
        }
    }

    fn send(&self, message: &Message) -> nix::Result<()> {
        let fds: Vec<_> = message.fd.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg(self.socket.as_raw_fd(), &[IoSlice::new(message.text.as_bytes())], control, flags, Some(&self.to)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4_096];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    }

    #[test]
    fn a_service_manager_is_found_at_a_path_or_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("dm-notify-{}.sock", std::process::id()));
        let abstract_name = format!("dm-notify-{}", std::process::id());
        let (there, hidden) = (UnixDatagram::bind(&path).unwrap(), SocketAddr::from_abstract_name(&abstract_name).unwrap());
        let hidden = UnixDatagram::bind_addr(&hidden).unwrap();
        for (name, socket) in [(path.to_str().unwrap().to_owned(), there), (format!("@{abstract_name}"), hidden)] {
            Notifier::to(OsStr::new(&name)).unwrap().say(Time(0), "READY=1".into(), None);
            assert_eq!(heard(&socket), "READY=1");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Notifier::to(OsStr::new("vsock:2:1")).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn a_service_manager_that_does_not_read_is_told_everything_in_its_order_when_it_reads_again_and_up_to_a_limit() {
        let path = std::env::temp_dir().join(format!("dm-deaf-{}.sock", std::process::id()));
        let deaf = UnixDatagram::bind(&path).unwrap();
        let mut notifier = Notifier::to(path.as_os_str()).unwrap();
        let mut said = 0;
        while notifier.waiting.len() < QUEUE_MAX {
            notifier.say(Time(0), said.to_string(), None);
            said += 1;
        }
        notifier.say(Time(0), "too much".into(), None);
        let mut heard_so_far = 0;
        while heard_so_far < said {
            assert_eq!(heard(&deaf), heard_so_far.to_string());
            heard_so_far += 1;
            notifier.expired(notifier.deadline().unwrap_or(Time(0)));
        }
        assert_eq!((notifier.waiting.len(), notifier.deadline()), (0, None));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_service_manager_that_is_gone_harms_nobody() {
        let mut notifier = Notifier::to(OsStr::new("/nowhere/notify")).unwrap();
        notifier.say(Time(0), "READY=1".into(), None);
        assert_eq!((notifier.waiting.len(), notifier.deadline(), notifier.is_told), (0, None, true));
    }
}
