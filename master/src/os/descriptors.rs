//! Descriptors across an exec: those that the next program is to have, and those that it takes over. Each of them stays open across nothing but that one exec.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;

/// Those that are to stay open.
#[derive(Debug, Default)]
pub(super) struct Kept<'a>(BTreeMap<RawFd, BorrowedFd<'a>>);

impl<'a> Kept<'a> {
    /// Keeps one. Returns the number that it has, here and there.
    pub(super) fn keep(&mut self, fd: BorrowedFd<'a>) -> RawFd {
        self.0.insert(fd.as_raw_fd(), fd);
        fd.as_raw_fd()
    }

    pub(super) fn numbers(&self) -> BTreeSet<RawFd> {
        self.0.keys().copied().collect()
    }

    /// Whether an exec leaves them open: no child may be started while it does.
    pub(super) fn survive_exec(&self, they_do: bool) -> io::Result<()> {
        let flags = if they_do { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
        self.0.values().try_for_each(|fd| Ok(fcntl(fd, FcntlArg::F_SETFD(flags)).map(drop)?))
    }
}

/// Those that the program that this process was before has left open. What nobody takes is closed with it.
#[derive(Debug)]
pub(super) struct Inherited {
    open: BTreeMap<RawFd, OwnedFd>,
    shared: BTreeMap<RawFd, Arc<OwnedFd>>,
}

/// They can be claimed once.
static CLAIMED: AtomicBool = AtomicBool::new(false);

impl Inherited {
    /// Takes possession of them, and lets no child have them.
    ///
    /// # Errors
    /// That was done before.
    #[allow(unsafe_code)]
    pub(super) fn claim(numbers: &BTreeSet<RawFd>) -> io::Result<Inherited> {
        if CLAIMED.swap(true, Ordering::Relaxed) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut inherited = Inherited { open: BTreeMap::new(), shared: BTreeMap::new() };
        // The three standard ones are the program's own.
        for number in numbers.iter().copied().filter(|number| *number > libc::STDERR_FILENO) {
            // SAFETY: a plain system call. A number that is not open is left out, and told when it is wanted.
            if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
                continue;
            }
            // SAFETY: it is open, and was before this program began, so nobody here has got it from the system; and nobody else takes it, because this is done once and a set has each number once.
            inherited.open.insert(number, unsafe { OwnedFd::from_raw_fd(number) });
        }
        Ok(inherited)
    }

    /// These, as if they had been claimed by their numbers.
    #[cfg(test)]
    pub(super) fn of(open: BTreeMap<RawFd, OwnedFd>) -> Inherited {
        Inherited { open, shared: BTreeMap::new() }
    }

    /// One that is used in one place.
    pub(super) fn take(&mut self, number: RawFd) -> io::Result<OwnedFd> {
        self.open.remove(&number).ok_or_else(|| missing(number))
    }

    /// One that may be used in several.
    pub(super) fn share(&mut self, number: RawFd) -> io::Result<Arc<OwnedFd>> {
        if let Some(shared) = self.shared.get(&number) {
            return Ok(shared.clone());
        }
        let shared = Arc::new(self.take(number)?);
        self.shared.insert(number, shared.clone());
        Ok(shared)
    }
}

fn missing(number: RawFd) -> io::Error {
    io::Error::other(format!("descriptor {number} was not handed over"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::{AsFd, IntoRawFd};

    use super::*;

    fn closes_on_exec(fd: &impl AsFd) -> bool {
        FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap()).contains(FdFlag::FD_CLOEXEC)
    }

    #[test]
    fn what_is_kept_survives_an_exec_only_while_that_is_wanted_and_is_had_once() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let fds = [null(), null(), writer.into()];
        let mut kept = Kept::default();
        for fd in &fds {
            kept.keep(fd.as_fd());
        }
        kept.survive_exec(true).unwrap();
        assert!(fds.iter().all(|fd| !closes_on_exec(fd)));
        kept.survive_exec(false).unwrap();
        assert!(fds.iter().all(closes_on_exec));
        let (numbers, [a, b, c]) = (kept.numbers(), fds.map(IntoRawFd::into_raw_fd));
        assert_eq!(numbers, [a, b, c].into());
        let mut inherited = Inherited::claim(&numbers).unwrap();
        let (taken, shared) = (inherited.take(a).unwrap(), inherited.share(b).unwrap());
        assert!(closes_on_exec(&taken) && closes_on_exec(&shared));
        assert!(Arc::ptr_eq(&shared, &inherited.share(b).unwrap()));
        assert!(inherited.take(a).is_err() && inherited.take(b).is_err());
        drop(inherited);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "what nobody took is closed");
        assert!(Inherited::claim(&numbers).is_err(), "once");
    }
}
