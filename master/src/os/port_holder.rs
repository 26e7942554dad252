//! Who holds an address that is in use, as far as /proc tells: a start that fails should name the program that has to be stopped.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::RawFd;
use std::path::Path;

use dutch_master_protocol::message::{Address, Kind};

use super::socket_file::successor;

/// A process that holds `address`, as `name (pid 4242)`. Without privileges only processes of the same user can be seen.
pub(super) fn find(address: &Address) -> Option<String> {
    let pid = pids(address).next()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", name.trim()))
}

/// Every process that holds `address` and can be seen.
pub(super) fn pids(address: &Address) -> impl Iterator<Item = u32> {
    let sockets = sockets(address);
    // Without a socket there is nothing to look for.
    let processes = (!sockets.is_empty()).then(|| fs::read_dir("/proc").into_iter().flatten()).into_iter().flatten();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(move |pid| !descriptors(*pid, &sockets).is_empty())
}

/// The sockets that are bound to an address, as `/proc/PID/fd` names them.
pub(super) fn sockets(address: &Address) -> BTreeSet<String> {
    let inodes = match (address.kind, &address.path, address.port) {
        (Kind::Unix, Some(path), _) => unix_sockets(path),
        (Kind::Tcp, _, Some(port)) => internet_sockets(&["tcp", "tcp6"], port, Some("0A")),
        (Kind::Udp, _, Some(port)) => internet_sockets(&["udp", "udp6"], port, None),
        (Kind::Unix | Kind::Tcp | Kind::Udp, _, _) => Vec::new(),
    };
    inodes.iter().map(|inode| format!("socket:[{inode}]")).collect()
}

/// Under which numbers a process has one of these sockets.
pub(super) fn descriptors(pid: u32, sockets: &BTreeSet<String>) -> Vec<RawFd> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    let has_one = |path: &Path| fs::read_link(path).is_ok_and(|link| link.to_str().is_some_and(|link| sockets.contains(link)));
    entries.filter(|entry| has_one(&entry.path())).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Inodes of the sockets on this port, from the tables that are there under `ProcSubset=pid` as well; of TCP only those in the state that the kernel writes as `0A`: listening.
fn internet_sockets(tables: &[&str], port: u16, state: Option<&str>) -> Vec<String> {
    let port = format!(":{port:04X}");
    let tables: String = tables.iter().map(|table| fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default()).collect();
    let columns = tables.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    columns
        .filter(|row| row.get(1).is_some_and(|local| local.ends_with(&port)))
        .filter(|row| state.is_none_or(|state| row.get(3) == Some(&state)))
        .filter_map(|row| row.get(9).map(|inode| (*inode).to_owned()))
        .collect()
}

fn unix_sockets(path: &str) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/net/unix").unwrap_or_default();
    let columns = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // One that took the place of a left-over file was bound under another name.
    let before = successor(Path::new(path));
    columns
        .filter(|row| row.get(7).is_some_and(|name| *name == path || Path::new(name) == before))
        .filter_map(|row| row.get(6).map(|inode| (*inode).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_process_that_holds_a_port_is_named() {
        let us = format!("(pid {})", std::process::id());
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        assert!(find(&Address::tcp(None, port)).unwrap().ends_with(&us));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        assert!(find(&Address { kind: Kind::Udp, ..Address::tcp(None, port) }).unwrap().ends_with(&us));
    }
}
