//! A worker that is about to be killed: how many connections it has accepted, counted when it can accept no more.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGSTOP;

use crate::harness::{PATIENCE, send};

/// Stops a process and counts its connections to this port of its own: each may have a request that nobody answers now.
pub(super) fn accepted_when_stopped(pid: i32, port: u16) -> u64 {
    send(pid, SIGSTOP);
    let until = Instant::now() + PATIENCE;
    while !is_stopped(pid) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    let sockets = sockets(pid);
    fs::read_to_string(format!("/proc/{pid}/net/tcp")).map_or(0, |table| connections(&table, port, &sockets))
}

/// Whether all of its threads stand still, or there is nothing left of it.
fn is_stopped(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok())
        .all(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['R', 'S', 'D'])))
}

fn sockets(pid: i32) -> BTreeSet<String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    targets.filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
}

/// Lines of the kernel's table with this local port and one of these sockets, other than the listener itself.
fn connections(table: &str, port: u16, sockets: &BTreeSet<String>) -> u64 {
    const LISTENING: &str = "0A";
    let port = format!(":{port:04X}");
    let of_ours = |line: &&str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = columns[..] else { return false };
        local.ends_with(&port) && state != LISTENING && sockets.contains(inode)
    };
    u64::try_from(table.lines().filter(of_ours).count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_that_were_accepted_are_counted_and_no_others() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let mut clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).expect("somebody listens")).collect();
        let accepted: Vec<_> = (0..2).map(|_| listener.accept().expect("somebody connects")).collect();
        clients.iter_mut().for_each(|client| client.write_all(b"x").expect("it is open"));
        let us = i32::try_from(std::process::id()).expect("a pid fits");
        let table = fs::read_to_string("/proc/self/net/tcp").expect("the system tells");
        assert_eq!(connections(&table, address.port(), &sockets(us)), 2);
        drop(accepted);
    }
}
