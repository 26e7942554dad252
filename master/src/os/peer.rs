//! Who is at the other end of a connection, as the kernel tells it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Pid, Uid, geteuid, getsid};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::process::{began_at, is_running};
use super::session::session_of;

/// The process that connected.
#[derive(Debug)]
pub(super) struct Peer {
    uid: Uid,
    pid: Pid,
    pidfd: Option<OwnedFd>,
}

impl Peer {
    /// The peer of a connected socket.
    pub(super) fn of(socket: impl AsFd) -> io::Result<Peer> {
        let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
        // Linux 6.5 and newer; where it is missing, `is_in_session` finds the process by its number.
        let pidfd = getsockopt(&socket, sockopt::PeerPidfd).ok();
        Ok(Peer { uid: Uid::from_raw(credentials.uid()), pid: Pid::from_raw(credentials.pid()), pidfd })
    }

    pub(super) fn uid(&self) -> Uid {
        self.uid
    }

    /// Whether it may give orders: root, or the master's own user.
    pub(super) fn may_command(&self) -> bool {
        self.uid.is_root() || self.uid == geteuid()
    }

    /// Whether it may speak to this master at all: those, and the user that workers run as, if that is another.
    pub(super) fn may_speak(&self, workers: Option<Uid>) -> bool {
        self.may_command() || Some(self.uid) == workers
    }

    /// Makes sure that it can be signalled if it belongs to the session of `leader`, an unreaped child: a number that is in that session cannot meanwhile belong to a stranger.
    pub(super) fn identify(&mut self, leader: u32) {
        if self.pidfd.is_some() {
            return;
        }
        let Some(pid) = rustix::process::Pid::from_raw(self.pid.as_raw()) else { return };
        self.pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
        if getsid(Some(self.pid)).map(|session| session.as_raw().unsigned_abs()) != Ok(leader) {
            self.pidfd = None;
        }
    }

    /// The leader of the session that it belongs to, and when that began. None when it is ours, or the peer cannot be told from another that has its number by now.
    pub(super) fn session_leader(&self) -> Option<(u32, u64)> {
        let pid = self.pid.as_raw().unsigned_abs();
        let leader = session_of(pid)?;
        let began = began_at(leader)?;
        // The peer holds its connection open while it lives, so a number that still is in that session is its own.
        let is_alive = self.pidfd.as_ref().is_none_or(is_running);
        (is_alive && session_of(pid) == Some(leader) && session_of(0) != Some(leader)).then_some((leader, began))
    }

    /// Sends it SIGTERM. `false`: it is not known or has gone.
    pub(super) fn terminate(&self) -> bool {
        self.pidfd.as_ref().is_some_and(|pidfd| pidfd_send_signal(pidfd, Signal::TERM).is_ok())
    }
}
