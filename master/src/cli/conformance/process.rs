//! A worker's process: known by pidfd, killed with its whole group when its case is over.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

use super::peer::readable;

/// The groups that live, for whoever interrupts the kit.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pidfd: OwnedFd,
    group: Pid,
    status: Option<ExitStatus>,
}

impl Process {
    pub(super) fn start(mut command: Command) -> io::Result<Process> {
        let mut groups = groups();
        let mut child = command.spawn()?;
        let raw = i32::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let pidfd = rustix::process::Pid::from_raw(raw).ok_or(rustix::io::Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        match pidfd {
            Ok(pidfd) => {
                groups.insert(raw);
                Ok(Process { child, pidfd, group: Pid::from_raw(raw), status: None })
            }
            Err(errno) => {
                // A child that cannot be watched is not left behind.
                let _ = child.kill();
                let _ = child.wait();
                Err(errno.into())
            }
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.group.as_raw()
    }

    pub(super) fn signal(&self, signal: Signal) {
        // ESRCH: it has gone, which later steps will notice.
        let _ = killpg(self.group, signal);
    }

    /// Its exit, if it comes in time.
    pub(super) fn exit(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() && readable(self.pidfd.as_fd(), Instant::now() + patience)? {
            // What is left of its group would keep the kit waiting for its output. While it is unreaped, the number is no other's.
            self.signal(Signal::SIGKILL);
            let mut groups = groups();
            self.status = Some(self.child.wait()?);
            groups.remove(&self.pid());
        }
        Ok(self.status)
    }

    /// Ends it and its group by force.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.exit(Duration::from_secs(5));
    }

    /// For waiting on it and something else at once.
    pub(super) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.signal(Signal::SIGKILL);
            let mut groups = groups();
            let _ = self.child.wait();
            groups.remove(&self.pid());
        }
    }
}

/// Kills every worker that is being tried, and lets none start any more: the caller ends the kit.
pub(super) fn kill_all() {
    let groups = groups();
    for group in groups.iter() {
        let _ = killpg(Pid::from_raw(*group), Signal::SIGKILL);
    }
    // Held for good: a case that goes on would start the next one.
    std::mem::forget(groups);
}

fn groups() -> std::sync::MutexGuard<'static, BTreeSet<i32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}
