//! A child of the master: the leader of a session and process group of its own, known by pidfd. Its exit is seen before it is reaped, and only until then can its group be signalled.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::readiness::register;
use crate::core::ExitStatus;

/// A child that has not been reaped.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// The child that was just started: it must be no other's to reap, and the leader of its group.
    pub(super) fn of_child(pid: u32) -> io::Result<Process> {
        let raw = i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
        let pid = rustix::process::Pid::from_raw(raw).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Process { pid: Pid::from_raw(raw), pidfd: register(pidfd, Interest::READABLE)? })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Ready once it has exited.
    pub(super) fn poll_exit(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error here means that the runtime ends; then nobody needs the answer.
        self.pidfd.poll_read_ready(cx).map(drop)
    }

    /// Whether it has exited, asked of the system itself.
    pub(super) fn has_exited(&self) -> bool {
        let status = waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
        status != Ok(WaitStatus::StillAlive)
    }

    /// Signals every process of its group. While it is unreaped, the group's number cannot belong to another.
    pub(super) fn signal_group(&self, signal: Signal) {
        // ESRCH: all of them have gone, which is what was wanted.
        let _ = killpg(self.pid, signal);
    }

    /// Kills what is left of its group and reaps it. It must have exited.
    pub(super) fn reap(self) -> ExitStatus {
        self.signal_group(Signal::SIGKILL);
        loop {
            match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::Exited(_, code)) => return ExitStatus::Code(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => return ExitStatus::Signal(signal as i32),
                // Someone else reaped it.
                Ok(_) | Err(_) => return ExitStatus::Unknown,
            }
        }
    }
}
