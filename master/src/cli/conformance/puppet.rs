//! The worker that the kit lets a master start: a process that says what it was born with, connects when it is told to, and leaves everything else to the kit.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use dutch_master_protocol::{env, socket};
use serde::{Deserialize, Serialize};

use super::case::{Verdict, differs};
use super::peer::Peer;

/// Variables that are the master's alone (SPEC 2.1).
const NOT_FOR_WORKERS: [&str; 5] = ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC"];

/// What a worker finds in its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Born {
    pub(super) socket: String,
    pub(super) token: String,
    pub(super) worker_id: String,
    pub(super) slot: String,
    /// Variables that it should not have.
    pub(super) surplus: Vec<String>,
    /// It leads a session of its own.
    pub(super) leads: bool,
}

/// The puppet's side: obeys until the kit hangs up.
pub(super) fn obey(kit: &Path) -> io::Result<()> {
    let own = |name: &str| std::env::var(name).unwrap_or_default();
    let pid = nix::unistd::getpid();
    let born = Born {
        socket: own(env::SOCKET),
        token: own(env::TOKEN),
        worker_id: own(env::WORKER_ID),
        slot: own(env::SLOT),
        surplus: NOT_FOR_WORKERS.iter().filter(|name| std::env::var_os(name).is_some()).map(|name| (*name).to_owned()).collect(),
        leads: nix::unistd::getsid(None) == Ok(pid) && nix::unistd::getpgrp() == pid,
    };
    let mut kit = UnixStream::connect(kit)?;
    writeln!(kit, "{}", serde_json::to_string(&born)?)?;
    let mut byte = [0];
    // Each byte is an order to connect; the connection is the kit's, but the peer is this process.
    while kit.read(&mut byte)? == 1 {
        let master = UnixStream::connect(&born.socket)?;
        socket::send_fd(kit.as_fd(), master.as_fd())?;
    }
    Ok(())
}

/// The kit's side.
#[derive(Debug)]
pub(super) struct Puppet {
    kit: UnixStream,
    pub(super) born: Born,
}

impl Puppet {
    /// Takes over the one that has come.
    pub(super) fn greet(mut kit: UnixStream) -> Verdict<Puppet> {
        kit.set_nonblocking(false)?;
        kit.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut line = Vec::new();
        let mut byte = [0];
        while kit.read(&mut byte)? == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        match serde_json::from_slice(&line) {
            Ok(born) => Ok(Puppet { kit, born }),
            Err(_) => differs("a worker of the kit's own", "another process"),
        }
    }

    /// A connection to the master in the worker's name.
    pub(super) fn connect(&mut self) -> Verdict<Peer> {
        self.kit.write_all(b"c")?;
        let received = socket::receive(self.kit.as_fd(), &mut [0])?;
        let fd: Option<OwnedFd> = received.fds.into_iter().next();
        match fd {
            Some(fd) => Ok(Peer::new(fd.into())?),
            None => differs("a master that can be connected to", "a worker that fails to connect, and ends"),
        }
    }

    /// Readable when the process has ended.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.kit
    }
}
