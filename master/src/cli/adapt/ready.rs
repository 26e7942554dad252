//! When a program counts as serving: by its word, after a while, or when it has accepted a connection.

use std::fs;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use dutch_master_protocol::message::{Address, Kind};
use nix::unistd::Pid;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::cli::values;

/// Between two looks: short against any program's start, and long enough to cost nothing.
const INTERVAL: Duration = Duration::from_millis(25);

/// How long one connection waits to be accepted before another one is tried.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadyOn {
    /// It has said `READY=1`.
    Notify,
    /// One of its processes has accepted a connection.
    Accept,
    /// So long after its start.
    Delay(Duration),
}

/// `notify`, `accept` or `delay:2s`.
pub(super) fn ready_on(text: &str) -> Result<ReadyOn, String> {
    match text.split_once(':') {
        None if text == "notify" => Ok(ReadyOn::Notify),
        None if text == "accept" => Ok(ReadyOn::Accept),
        Some(("delay", time)) => values::duration(time).map(ReadyOn::Delay),
        _ => Err("one of these is wanted: `notify`, `accept`, `delay:2s`".into()),
    }
}

/// Waits until the program serves, as far as that can be seen from here.
pub(super) async fn serves(on: ReadyOn, program: Pid, address: Option<&Address>) {
    match (on, address) {
        (ReadyOn::Notify, _) => pending().await,
        (ReadyOn::Delay(time), _) => sleep(time).await,
        (ReadyOn::Accept, Some(Address { kind: Kind::Tcp, host: Some(host), port: Some(port), .. })) => accepts(program, reachable(*host, *port)).await,
        // What cannot be looked at is taken on trust.
        (ReadyOn::Accept, _) => {}
    }
}

/// An address of this machine that leads to a listener.
fn reachable(host: IpAddr, port: u16) -> SocketAddr {
    let host = match host {
        IpAddr::V4(any) if any == Ipv4Addr::UNSPECIFIED => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any == Ipv6Addr::UNSPECIFIED => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => host,
    };
    (host, port).into()
}

/// Connects until a connection was accepted by the program. That one can connect proves nothing: the listener is the master's, and other workers accept from it, too.
async fn accepts(program: Pid, address: SocketAddr) {
    loop {
        if let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect(address)).await
            && let Ok(own) = stream.local_addr()
        {
            let accepted = async {
                loop {
                    match accepted_socket(own) {
                        Some(inode) => return holds(program, inode),
                        None => sleep(INTERVAL).await,
                    }
                }
            };
            if timeout(PATIENCE, accepted).await == Ok(true) {
                return;
            }
        }
        sleep(INTERVAL).await;
    }
}

/// The inode of the socket at the other end of a connection of this machine, once somebody has accepted it.
fn accepted_socket(client: SocketAddr) -> Option<u64> {
    // `/proc/net` is the same, and is not there under `ProcSubset=pid`.
    let table = if client.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    let suffix = format!(":{:04X}", client.port());
    fs::read_to_string(table).ok()?.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // The server's side of it is the one whose remote port is the client's.
        let inode = fields.get(9)?.parse().ok()?;
        (fields.get(2)?.ends_with(&suffix) && inode != 0).then_some(inode)
    })
}

/// Whether a process of the program's session holds a socket.
fn holds(program: Pid, inode: u64) -> bool {
    let Ok(session) = nix::unistd::getsid(Some(program)) else { return false };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_it =
        processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| nix::unistd::getsid(Some(Pid::from_raw(*pid))) == Ok(session));
    of_it.flat_map(|pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten()).any(|entry| {
        // Follows the link to the socket itself.
        fs::metadata(entry.path()).is_ok_and(|metadata| metadata.ino() == inode)
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn readiness_has_three_spellings() {
        assert_eq!(ready_on("notify"), Ok(ReadyOn::Notify));
        assert_eq!(ready_on("accept"), Ok(ReadyOn::Accept));
        assert_eq!(ready_on("delay:1m30s"), Ok(ReadyOn::Delay(Duration::from_secs(90))));
        for wrong in ["", "delay", "delay:", "delay:5", "Notify", "accept:1s"] {
            assert!(ready_on(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_connection_is_accepted_when_somebody_has_its_other_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(accepted_socket(client.local_addr().unwrap()), None);
        let accepted = listener.accept().unwrap();
        let inode = accepted_socket(client.local_addr().unwrap()).unwrap();
        assert!(holds(nix::unistd::getpid(), inode));
        drop(accepted);
    }
}
