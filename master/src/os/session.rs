//! The processes of a session, as /proc tells, each by pidfd.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getsid};
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

/// Such a process.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
}

impl AsFd for Member {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// The members of the session that this process leads, if it does: whoever asks has to be sure that the leader still lives when this returns.
pub(super) fn members(leader: u32) -> Vec<Member> {
    let pids = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| session_of(*pid) == Some(leader)).filter_map(|pid| open(pid, leader)).collect()
}

/// Opened first and asked again then: what has the number now is what was opened, or that has ended.
fn open(pid: u32, leader: u32) -> Option<Member> {
    let pidfd = pidfd_open(rustix::process::Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
    (session_of(pid) == Some(leader)).then_some(Member { pid, pidfd })
}

pub(super) fn session_of(pid: u32) -> Option<u32> {
    getsid(Some(Pid::from_raw(pid.cast_signed()))).ok().map(|session| session.as_raw().unsigned_abs())
}

/// Signals it, if it has not ended.
pub(super) fn signal(process: &impl AsFd, signal: Signal) {
    if let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) {
        let _ = pidfd_send_signal(process, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_our_own_session_are_found_and_strangers_are_not() {
        let us = std::process::id();
        let session = session_of(us).unwrap();
        assert!(members(session).iter().any(|member| member.pid == us));
        assert!(members(us).iter().all(|member| session == us || member.pid != us));
    }
}
