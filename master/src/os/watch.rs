//! Notices what others do to the sockets that the master shares with them or that they can reach by a path. What is asked for is told apart from what happens all the time: that somebody
//! connects wakes nobody.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::debug;

use super::listening_socket::ListeningSocket;
use super::readiness::{clear_if_empty, register};

/// Ready when something may have happened to one of the sockets or files; which one is for the receiver to find out.
#[derive(Debug)]
pub(super) struct Watch {
    epoll: Epoll,
    /// Another descriptor of the same, for the runtime.
    ready: AsyncFd<OwnedFd>,
    /// `None`: the user has no more of them. Then what happens to files is noticed when the next worker starts.
    files: Option<Inotify>,
}

impl Watch {
    /// Watches nothing yet. Needs a runtime.
    pub(super) fn new() -> io::Result<Watch> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let ready = register(epoll.0.try_clone()?, Interest::READABLE)?;
        let files = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let files = files.and_then(|files| epoll.add(&files, EpollEvent::new(EpollFlags::EPOLLIN, 0)).map(|()| files));
        let files = files.inspect_err(|errno| debug!(reason = %errno, "Files of sockets are not watched")).ok();
        Ok(Watch { epoll, ready, files })
    }

    /// Watches a listener, and its file if it has one. Without that it is looked at when the next worker starts.
    pub(super) fn add(&self, socket: &ListeningSocket) {
        // Its end alone: the other events come with every connection.
        match self.epoll.add(socket.fd(), EpollEvent::new(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET, 0)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => debug!(reason = %errno, "A listener is not watched"),
        }
        socket.file().into_iter().for_each(|file| self.add_file(file.path()));
    }

    /// Watches a listener no longer. To be called before it is given up: a copy that a worker holds would keep it watched.
    pub(super) fn remove(&self, socket: &ListeningSocket) {
        let _ = self.epoll.delete(socket.fd());
    }

    /// Watches the file at this path: whether it is removed, or another takes its place.
    pub(super) fn add_file(&self, path: &Path) {
        self.files.iter().for_each(|files| add_to(files, path));
    }

    /// Ready when something may have happened.
    pub(super) fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.ready.poll_read_ready(cx).map(drop)
    }

    /// Takes note of everything that has happened, so that it is ready again only when more does.
    pub(super) fn take_note(&self) {
        let mut events = [EpollEvent::empty(); 16];
        while self.epoll.wait(&mut events, EpollTimeout::ZERO).is_ok_and(|n| n > 0) {
            while self.files.as_ref().is_some_and(|files| files.read_events().is_ok_and(|events| !events.is_empty())) {}
        }
        clear_if_empty::<()>(&self.ready, &Err(io::ErrorKind::WouldBlock.into()));
    }
}

/// A file has another number of names when it is removed or replaced, and moves when it is renamed.
fn add_to(files: &Inotify, path: &Path) {
    let flags = AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DONT_FOLLOW;
    if let Err(errno) = files.add_watch(path, flags) {
        debug!(reason = %errno, path = %path.display(), "A file is not watched");
    }
}
