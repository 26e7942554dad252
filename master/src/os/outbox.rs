//! What waits to be sent on one connection: frames, and descriptors right behind theirs.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use dutch_master_protocol::codec::{self, Malformed};
use dutch_master_protocol::socket::send_fd;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use serde::{Deserialize, Serialize};

use super::descriptors::{Inherited, Kept};
use super::failpoint::{self, Place};
use super::in_json;
use crate::core::listeners::LISTENERS_MAX;

/// Most bytes that wait for a peer that does not read: a `status` of the largest pool fits in. Beyond it the connection ends.
pub(super) const BYTES_MAX: usize = 1 << 20;

/// Most descriptors that wait: a worker may ask for every listener at once, and some twice.
pub(super) const DESCRIPTORS_MAX: usize = 2 * LISTENERS_MAX;

/// Why nothing more can be queued.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// Too much waits.
    #[error("the peer does not read: {bytes} bytes and {descriptors} descriptors wait")]
    Full {
        /// Bytes that wait.
        bytes: usize,
        /// Descriptors that wait.
        descriptors: usize,
    },
    /// The message fits into no frame.
    #[error("a message of our own does not fit: {0}")]
    TooLarge(#[from] Malformed),
}

/// The queue. Order is kept, and nothing comes between a frame and its descriptor.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    items: VecDeque<Item>,
    bytes: usize,
    descriptors: usize,
    /// Bytes of the first item that were written.
    written: usize,
}

#[derive(Debug)]
enum Item {
    Frame(Vec<u8>),
    Descriptor(Arc<OwnedFd>),
}

/// The queue as it is handed over.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Handed {
    items: Vec<Queued>,
    written: usize,
}

/// One item of it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Queued {
    Frame(#[serde(with = "in_json::bytes")] Vec<u8>),
    Descriptor(RawFd),
}

impl Outbox {
    pub(super) fn hand_over<'a>(&'a self, kept: &mut Kept<'a>) -> Handed {
        let item = |item: &'a Item| match item {
            Item::Frame(frame) => Queued::Frame(frame.clone()),
            Item::Descriptor(descriptor) => Queued::Descriptor(kept.keep(descriptor.as_fd())),
        };
        Handed { items: self.items.iter().map(item).collect(), written: self.written }
    }

    pub(super) fn handed(Handed { items, written }: Handed, inherited: &mut Inherited) -> io::Result<Outbox> {
        let mut outbox = Outbox { written, ..Outbox::default() };
        for item in items {
            outbox.items.push_back(match item {
                Queued::Frame(frame) => {
                    outbox.bytes += frame.len();
                    Item::Frame(frame)
                }
                Queued::Descriptor(number) => {
                    outbox.descriptors += 1;
                    Item::Descriptor(inherited.share(number)?)
                }
            });
        }
        let is_within_a_frame = matches!(outbox.items.front(), Some(Item::Frame(frame)) if written < frame.len());
        if written == 0 || is_within_a_frame { Ok(outbox) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Queues a message.
    pub(super) fn push(&mut self, message: &impl Serialize) -> Result<(), Refused> {
        let frame = codec::encode(message)?;
        if self.bytes + frame.len() > BYTES_MAX || self.descriptors >= DESCRIPTORS_MAX {
            return Err(Refused::Full { bytes: self.bytes, descriptors: self.descriptors });
        }
        self.bytes += frame.len();
        self.items.push_back(Item::Frame(frame));
        Ok(())
    }

    /// Queues a message that announces one descriptor, and the descriptor.
    pub(super) fn push_with(&mut self, message: &impl Serialize, descriptor: Arc<OwnedFd>) -> Result<(), Refused> {
        self.push(message)?;
        self.descriptors += 1;
        self.items.push_back(Item::Descriptor(descriptor));
        Ok(())
    }

    /// Forgets what waits, but for a frame that the peer has a part of. Not for one that is handed descriptors.
    pub(super) fn forget_the_rest(&mut self) {
        self.items.truncate(usize::from(self.written > 0));
        let left = |item: &Item| if let Item::Frame(frame) = item { frame.len() } else { 0 };
        (self.bytes, self.descriptors) = (self.items.iter().map(left).sum(), 0);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Sends as much as the socket takes.
    ///
    /// # Errors
    /// `WouldBlock` when something is left, and what else the system says.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        while let Some(item) = self.items.front() {
            match item {
                Item::Frame(frame) => {
                    if matches!(self.items.get(1), Some(Item::Descriptor(_))) {
                        failpoint::reached(Place::BeforeFrame);
                    }
                    let rest = &frame[self.written..];
                    self.written += write(socket, rest)?;
                    if self.written < frame.len() {
                        continue;
                    }
                    self.bytes -= frame.len();
                }
                Item::Descriptor(descriptor) => {
                    failpoint::reached(Place::BeforeDescriptor);
                    send_fd(socket, descriptor.as_fd())?;
                    self.descriptors -= 1;
                }
            }
            self.items.pop_front();
            self.written = 0;
        }
        Ok(())
    }
}

fn write(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match send(socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EINTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use dutch_master_protocol::message::{ErrorMessage, FromMaster};
    use dutch_master_protocol::socket::receive;

    use super::*;

    fn message(text: &str) -> FromMaster {
        FromMaster::Error(ErrorMessage { message: text.into(), ..ErrorMessage::default() })
    }

    #[test]
    fn a_descriptor_goes_right_behind_its_frame_however_slowly_the_peer_reads() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let descriptor = Arc::new(OwnedFd::from(UnixStream::pair().unwrap().0));
        let (mut outbox, mut expected) = (Outbox::default(), Vec::new());
        for n in 0..10 {
            let message = message(&format!("{n}").repeat(50_000));
            outbox.push_with(&message, descriptor.clone()).unwrap();
            expected.extend(codec::encode(&message).unwrap());
            expected.push(0);
        }
        let (mut bytes, mut at) = (Vec::new(), Vec::new());
        let mut buffer = vec![0; 7_000];
        while bytes.len() < expected.len() {
            let flushed = outbox.flush(ours.as_fd());
            assert!(flushed.is_ok() || flushed.unwrap_err().kind() == io::ErrorKind::WouldBlock);
            while let Ok(received) = receive(theirs.as_fd(), &mut buffer) {
                bytes.extend_from_slice(&buffer[..received.bytes]);
                at.extend(received.fds.iter().map(|_| bytes.len()));
            }
        }
        assert!(outbox.is_empty());
        assert_eq!(bytes, expected);
        let ends: Vec<_> = (1..=10).map(|n| n * expected.len() / 10).collect();
        assert_eq!(at, ends, "each descriptor arrives with the zero byte behind its frame");
    }

    #[test]
    fn what_waits_for_a_peer_that_does_not_read_has_a_limit() {
        let mut outbox = Outbox::default();
        let long = message(&"x".repeat(60_000));
        let queued = (0..100).take_while(|_| outbox.push(&long).is_ok()).count();
        assert_eq!(queued, BYTES_MAX / codec::encode(&long).unwrap().len());
        let mut outbox = Outbox::default();
        let descriptor = Arc::new(OwnedFd::from(UnixStream::pair().unwrap().0));
        let queued = (0..10_000).take_while(|_| outbox.push_with(&message(""), descriptor.clone()).is_ok()).count();
        assert_eq!(queued, DESCRIPTORS_MAX);
    }

    #[test]
    fn what_is_handed_over_goes_on_within_the_frame_where_it_was() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let descriptor = Arc::new(OwnedFd::from(UnixStream::pair().unwrap().0));
        let (message, mut outbox) = (message("half of it was sent"), Outbox::default());
        outbox.push_with(&message, descriptor.clone()).unwrap();
        outbox.push_with(&message, descriptor.clone()).unwrap();
        outbox.written = 5;
        let mut kept = Kept::default();
        let handed = serde_json::to_string(&outbox.hand_over(&mut kept)).unwrap();
        let numbers = kept.numbers();
        assert_eq!(numbers, [descriptor.as_raw_fd()].into(), "the same one twice");
        let inherited = || Inherited::of([(descriptor.as_raw_fd(), descriptor.try_clone().unwrap())].into());
        let mut successor = Outbox::handed(serde_json::from_str(&handed).unwrap(), &mut inherited()).unwrap();
        assert_eq!((successor.bytes, successor.descriptors, successor.is_empty()), (outbox.bytes, 2, false));
        successor.flush(ours.as_fd()).unwrap();
        assert_eq!((successor.bytes, successor.descriptors, successor.is_empty()), (0, 0, true));
        let frame = codec::encode(&message).unwrap();
        let expected = [&frame[5..], &[0], &frame, &[0]].concat();
        let (mut bytes, mut fds, mut buffer) = (Vec::new(), 0, [0; 1_000]);
        while bytes.len() < expected.len() {
            let received = receive(theirs.as_fd(), &mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..received.bytes]);
            fds += received.fds.len();
        }
        assert_eq!((bytes, fds), (expected, 2));
        let beyond = handed.replace("\"written\":5", "\"written\":5000");
        assert!(Outbox::handed(serde_json::from_str(&beyond).unwrap(), &mut inherited()).is_err());
    }
}
