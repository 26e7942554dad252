//! A service manager as systemd is one, as far as a master can see: it listens to what it is told, keeps descriptors, and hands them over at the next start.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use dutch_master_protocol::socket::receive;
use tempfile::TempDir;

use super::{PATIENCE, binary};

/// Descriptors arrive at 3 and 4 by way of the standard ones; systemd says whose they are.
const HAND_OVER: &str = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$@\"";

/// How many it can hand over in this way.
const SOCKETS_MAX: usize = 2;

/// It lives as long as a test holds it.
#[derive(Debug, Clone)]
pub struct Manager {
    shared: Arc<Shared>,
    folder: Arc<TempDir>,
    lent: Vec<(String, Arc<OwnedFd>)>,
    watchdog_us: Option<u64>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// All assignments so far.
    said: Vec<String>,
    /// Where the next wait begins.
    next: usize,
    store: Vec<(String, OwnedFd)>,
}

impl Default for Manager {
    fn default() -> Manager {
        Manager::new()
    }
}

impl Manager {
    /// One that has nothing to hand over yet.
    ///
    /// # Panics
    /// When the system gives no socket.
    #[must_use]
    pub fn new() -> Manager {
        let folder = tempfile::Builder::new().prefix("dm").tempdir_in("/tmp").expect("a temporary folder can be made");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket can be bound");
        let shared = Arc::new(Shared::default());
        let listening = Arc::clone(&shared);
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(received) = receive(socket.as_fd(), &mut buffer) {
                listening.hear(&String::from_utf8_lossy(&buffer[..received.bytes]), received.fds);
            }
        });
        Manager { shared, folder: Arc::new(folder), lent: Vec::new(), watchdog_us: None }
    }

    /// With a socket unit's descriptor, which it hands over at every start.
    #[must_use]
    pub fn lending(mut self, name: &str, fd: impl Into<OwnedFd>) -> Manager {
        self.lent.push((name.into(), Arc::new(fd.into())));
        self
    }

    /// With `WatchdogSec=`, in microseconds.
    #[must_use]
    pub fn watching(mut self, watchdog_us: u64) -> Manager {
        self.watchdog_us = Some(watchdog_us);
        self
    }

    /// Waits for the next assignment that begins so, and goes on behind it.
    ///
    /// # Panics
    /// When it does not come; all that was said is in the message.
    #[track_caller]
    #[must_use]
    pub fn await_said(&self, beginning: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut state = self.state();
        loop {
            if let Some(at) = state.said[state.next..].iter().position(|said| said.starts_with(beginning)) {
                state.next += at + 1;
                return state.said[state.next - 1].clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the master does not say {beginning}: {:#?}", state.said);
            (state, _) = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Everything that was said so far.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.state().said.clone()
    }

    /// Names of what it keeps.
    #[must_use]
    pub fn kept(&self) -> Vec<String> {
        self.state().store.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The command that is the master under this manager.
    ///
    /// # Panics
    /// When there is more to hand over than there is room for.
    pub(super) fn command(&self) -> Command {
        let state = self.state();
        let kept = state.store.iter().map(|(name, fd)| (name, fd.as_fd()));
        let all: Vec<_> = self.lent.iter().map(|(name, fd)| (name, fd.as_fd())).chain(kept).collect();
        assert!(all.len() <= SOCKETS_MAX, "too many to hand over: {all:?}");
        let mut command = Command::new("sh");
        command.args(["-c", HAND_OVER, "sh"]).arg(binary("dutch-master")).env("NOTIFY_SOCKET", self.socket()).env("FDSTORE", "64");
        let mut copies = all.iter().map(|(_, fd)| Stdio::from(fd.try_clone_to_owned().expect("a descriptor can be copied")));
        command.stdin(copies.next().unwrap_or_else(|| nothing().into())).stdout(copies.next().unwrap_or_else(|| nothing().into()));
        command.env("LISTEN_FDS", all.len().to_string()).env("LISTEN_FDNAMES", all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(":"));
        if let Some(watchdog_us) = self.watchdog_us {
            command.env("WATCHDOG_USEC", watchdog_us.to_string());
        }
        command
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn hear(&self, text: &str, fds: Vec<OwnedFd>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
        if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
            state.store.retain(|(kept, _)| *kept != name);
        }
        let is_new = |fd: &OwnedFd, state: &State| state.store.iter().all(|(_, kept)| inode(kept) != inode(fd));
        for fd in fds {
            // systemd keeps one of the same.
            if text.lines().any(|line| line == "FDSTORE=1") && is_new(&fd, &state) {
                state.store.push((name.clone(), fd));
            }
        }
        state.said.extend(text.lines().map(String::from));
        drop(state);
        self.changed.notify_all();
    }
}

fn inode(fd: &OwnedFd) -> Option<u64> {
    nix::sys::stat::fstat(fd).map(|stat| stat.st_ino).ok()
}

fn nothing() -> File {
    File::options().read(true).write(true).open("/dev/null").expect("the system has /dev/null")
}
