//! Workers of an earlier master that hold addresses which the next one wants, and cannot be had from them: what was written down of them cannot be read, or has these addresses otherwise.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dutch_master_protocol::env;
use dutch_master_protocol::message::Address;
use nix::errno::Errno;

use super::super::port_holder;
use super::super::session::session_of;
use super::super::state::StateError;
use super::{ANOTHER_ADDRESS, ListenError};

/// How many of them are named: enough to end those of an ordinary pool by one command.
const NAMED_MAX: usize = 32;

impl ListenError {
    /// The same, with what to do where it is such workers that have `address`. They were given `control_socket`; `is_known`: something is written down of them.
    pub(in super::super) fn with_those_left_behind(self, address: &Address, control_socket: &Path, is_known: Result<bool, &StateError>) -> ListenError {
        // Where it is known what is in the way, the error says so already.
        let is_explained = is_known.is_ok() && !self.remedy.ends_with(ANOTHER_ADDRESS);
        if is_explained || self.source.raw_os_error() != Some(Errno::EADDRINUSE as i32) {
            return self;
        }
        let workers: BTreeSet<u32> = port_holder::pids(address).filter_map(|pid| worker(pid, control_socket)).collect();
        if workers.is_empty() {
            return self;
        }
        let (why, instead) = match is_known {
            Err(unread @ StateError::Version { .. }) => (format!("cannot be taken over, because {unread}"), "start the version that wrote it, or "),
            Err(unread) => (format!("cannot be taken over, because {unread}"), ""),
            Ok(false) => ("cannot be taken over, because what was written down of them is gone".into(), ""),
            Ok(true) => ("know it by another name or in another form".into(), "start with the listeners as they were, or "),
        };
        let pids = workers.iter().take(NAMED_MAX).map(u32::to_string).collect::<Vec<_>>().join(" ");
        let remedy = format!("; workers of an earlier master have it and {why}; {instead}let them finish by `kill {pids}`, then start again");
        ListenError { remedy, ..self }
    }
}

/// The worker that a process belongs to, where the master at this socket has started it: the leader of its session, or it itself. It can be seen of the same processes as whether they hold an address.
fn worker(pid: u32, control_socket: &Path) -> Option<u32> {
    let variable = [env::SOCKET.as_bytes(), b"=", control_socket.as_os_str().as_bytes()].concat();
    let was_given = |pid: &u32| std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == variable));
    // A program that is adapted is not told of the master, and who adapts it leads its session.
    session_of(pid).into_iter().chain([pid]).find(was_given)
}
