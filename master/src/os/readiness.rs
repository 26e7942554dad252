//! Descriptors whose readiness the loop waits for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime.
#[allow(unsafe_code)]
pub(super) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is always the same open descriptor until it is dropped, and it is dropped only after `AsyncFd` has deregistered it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest)? })
}

/// To be called with the outcome of each attempt to read, made directly: tells the runtime when there was nothing, so that it waits for something new.
///
/// Nothing can get lost in between: readiness is only set by the runtime, which runs on this thread, and the kernel keeps what has come for it.
pub(super) fn clear_if_empty<T>(fd: &AsyncFd<OwnedFd>, outcome: &io::Result<T>) {
    if let Err(error) = outcome
        && error.kind() == io::ErrorKind::WouldBlock
    {
        let _ = fd.try_io(Interest::READABLE, |_| io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
    }
}
