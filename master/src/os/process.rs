//! A process and everything that it started in its group, known by pidfd. A child's exit is seen before it is reaped, and only until then can its group be signalled by number. One that was
//! adopted from a dead master is no child: its exit is seen all the same, but not how it ended, and nothing is ever signalled by a number that could belong to another by now.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::readiness::register;
use super::session;
use crate::core::ExitStatus;

/// A child that has not been reaped, or an adopted process whose exit has not been handled.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    is_child: bool,
}

impl Process {
    /// The child that was just started: it must be no other's to reap, and the leader of its group.
    pub(super) fn of_child(pid: u32) -> io::Result<Process> {
        Process::open(pid, true)
    }

    /// The process of this number that began then: the leader of its session. None if it has ended, unless it is a child, whose end is still to be seen: this process may have been another program when it started it.
    pub(super) fn adopt(pid: u32, began: u64) -> Option<Process> {
        let mut process = Process::open(pid, false).ok()?;
        process.is_child = waitid(Id::PIDFd(process.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) != Err(Errno::ECHILD);
        // Asked once it is open: what has this number now is what was opened, or that has ended.
        (began_at(pid) == Some(began) && (process.is_child || !process.has_exited())).then_some(process)
    }

    fn open(pid: u32, is_child: bool) -> io::Result<Process> {
        let raw = i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
        let pid = rustix::process::Pid::from_raw(raw).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Process { pid: Pid::from_raw(raw), pidfd: register(pidfd, Interest::READABLE)?, is_child })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// When it began.
    pub(super) fn began(&self) -> Option<u64> {
        began_at(self.pid())
    }

    /// Ready once it has exited.
    pub(super) fn poll_exit(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error here means that the runtime ends; then nobody needs the answer.
        self.pidfd.poll_read_ready(cx).map(drop)
    }

    /// Whether it has exited, asked of the system itself.
    pub(super) fn has_exited(&self) -> bool {
        if self.is_child {
            let status = waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
            return status != Ok(WaitStatus::StillAlive);
        }
        !is_running(self.pidfd.get_ref())
    }

    /// Signals every process of its group.
    pub(super) fn signal_group(&self, signal: Signal) {
        if self.is_child {
            // While it is unreaped, the group's number cannot belong to another. ESRCH: all of them have gone, which is what was wanted.
            let _ = killpg(self.pid, signal);
        } else if !signal_group_of(self.pidfd.get_ref(), signal) {
            // Kernels before 6.9. Of one that has ended by itself what it left behind cannot be told from strangers.
            for member in session::members(self.pid()).into_iter().filter(|_| !self.has_exited()) {
                session::signal(&member, signal);
            }
            session::signal(self.pidfd.get_ref(), signal);
        }
    }

    /// The processes of its session, itself included, each opened while it is certain to belong there.
    pub(super) fn members(&self) -> Vec<session::Member> {
        let members = session::members(self.pid());
        if self.has_exited() { Vec::new() } else { members }
    }

    /// Kills what is left of its group and reaps it. It must have exited.
    pub(super) fn reap(self) -> ExitStatus {
        self.signal_group(Signal::SIGKILL);
        if !self.is_child {
            return ExitStatus::Unknown;
        }
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

/// Signals the whole group of a process. `false`: this kernel cannot do it.
#[allow(unsafe_code)]
fn signal_group_of(pidfd: &OwnedFd, signal: Signal) -> bool {
    /// `PIDFD_SIGNAL_PROCESS_GROUP`, since Linux 6.9.
    const PROCESS_GROUP: libc::c_uint = 1 << 2;
    // SAFETY: plain integers, and a null pointer where the kernel takes one for "as `kill` does".
    let outcome =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal as libc::c_int, std::ptr::null::<libc::siginfo_t>(), PROCESS_GROUP) };
    outcome == 0 || Errno::last() != Errno::EINVAL
}

/// Whether a process has not exited.
pub(super) fn is_running(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready == 0)
}

/// Whether the process that began then and had this number has not exited.
pub(super) fn lives(pid: u32, began: u64) -> bool {
    let pidfd = rustix::process::Pid::from_raw(pid.cast_signed()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    pidfd.is_some_and(|pidfd| began_at(pid) == Some(began) && is_running(&pidfd))
}

/// When the process that has this number began, in the kernel's ticks since boot.
pub(super) fn began_at(pid: u32) -> Option<u64> {
    /// Where it is behind the name, which is in parentheses and may have anything in it.
    const FIELD: usize = 19;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(FIELD)?.parse().ok()
}
