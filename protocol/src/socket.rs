//! Bytes and descriptors over a Unix stream socket (SPEC 4): the only file of the workspace that knows about `SCM_RIGHTS`.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use passfd::FdPassingExt;

use crate::limits::FDS_MAX;

/// What one read brought.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer were filled; 0: the peer closed the connection.
    pub bytes: usize,
    /// Descriptors that arrived with them, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// One message carried more than the one descriptor that it may have, or than there was room for, and the kernel closed those: fatal for the connection, and none of `fds` may be used (SPEC 4.4).
    pub excess: bool,
    /// A descriptor came and is gone, because this process may open no more files: not the peer's fault.
    pub lost: bool,
}

/// Reads once into `buffer`, with room for descriptors, so that none can be lost or leak.
///
/// # Errors
/// Those of `recvmsg`, `WouldBlock` on a non-blocking socket without data among them.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = cmsg_space!([RawFd; FDS_MAX]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), receive_flags()) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(message) => break message,
        }
    };
    let (bytes, mut excess) = (message.bytes, message.flags.contains(MsgFlags::MSG_CTRUNC));
    let mut fds = Vec::new();
    match message.cmsgs() {
        Ok(parts) => {
            for part in parts {
                if let ControlMessageOwned::ScmRights(raw) = part {
                    excess |= raw.len() > 1; // no system puts the descriptors of two messages into one part
                    fds.extend(raw.into_iter().map(own));
                }
            }
        }
        // nix does not walk a truncated buffer, but what is in it is installed and would leak.
        Err(_) => fds.extend(first_rights(&control).map(own)),
    }
    // With room for sixteen, the kernel can have lacked only numbers to install them by.
    let lost = excess && fds.is_empty();
    Ok(Received { bytes, fds, excess: excess && !lost, lost })
}

/// How the kernel writes the length of a control message, its header included.
#[cfg(any(target_os = "linux", target_os = "android"))]
type CmsgLength = usize;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
type CmsgLength = u32;

/// The descriptors in the first control message of a buffer that was zeroed before the kernel wrote to it.
#[allow(clippy::unnecessary_cast)] // on Linux alone
fn first_rights(control: &[u8]) -> impl Iterator<Item = RawFd> {
    const HEADER: usize = size_of::<nix::libc::cmsghdr>();
    let length = control.first_chunk().map_or(0, |bytes| CmsgLength::from_ne_bytes(*bytes) as usize);
    let rights = control.get(HEADER..length.min(control.len())).unwrap_or_default();
    rights.chunks_exact(size_of::<RawFd>()).filter_map(|chunk| Some(RawFd::from_ne_bytes(chunk.try_into().ok()?)))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn receive_flags() -> MsgFlags {
    MsgFlags::MSG_CMSG_CLOEXEC
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn receive_flags() -> MsgFlags {
    MsgFlags::empty()
}

#[allow(unsafe_code)]
fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC));
    fd
}

/// Sends one descriptor in a message of one zero byte, as it must follow a frame that says `fds`. Call it only when the frame is written completely, and keep SIGPIPE ignored.
///
/// # Errors
/// Those of `sendmsg`; on `WouldBlock` nothing was sent.
pub fn send_fd(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    socket.as_raw_fd().send_fd_with_payload(fd.as_raw_fd(), &[0])
}

/// Sends several descriptors with one zero byte, which the protocol does not allow (SPEC 4.1): for trying out what a receiver makes of it.
///
/// # Errors
/// Those of `sendmsg`.
pub fn send_fds(socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::empty(), None).map(drop).map_err(io::Error::from)
}
