//! What would keep a configured listener from being had, seen without having it.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use dutch_master_protocol::message::Address;
use nix::errno::Errno;

use super::{FIRST_FREE_PORT, ListenError, check_spec, in_words};
use crate::options::ListenSpec;
use crate::os::listening_socket::bind_ip;
use crate::os::socket_file::SocketFile;

/// One outcome for each.
pub(in crate::os) fn all(specs: &[ListenSpec]) -> impl Iterator<Item = Result<(), ListenError>> {
    specs.iter().enumerate().map(|(before, spec)| {
        check_spec(spec, before)?;
        address(&spec.address, &specs[..before])
    })
}

/// Whether this address could be had after those, as far as this process alone is concerned.
pub(in crate::os) fn address(address: &Address, earlier: &[ListenSpec]) -> Result<(), ListenError> {
    if earlier.iter().any(|spec| overlap(&spec.address, address)) {
        let source = io::Error::from(Errno::EADDRINUSE);
        return Err(ListenError { address: in_words(address), remedy: super::TAKEN_BEFORE.into(), source });
    }
    available(address).map_err(|source| ListenError::of(address, source))
}

/// Whether one could be had there, as far as it does not matter what others have. For that an address of this machine is bound for an instant, at any free port unless it is the port itself that may
/// be forbidden; nothing ever listens at it.
fn available(address: &Address) -> io::Result<()> {
    if let Some(path) = &address.path {
        return SocketFile::check(Path::new(path));
    }
    match bind_ip(&Address { port: address.port.filter(|port| *port < FIRST_FREE_PORT), ..address.clone() }) {
        Err(errno) if errno != Errno::EADDRINUSE => Err(errno.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether who has the one cannot have the other as well.
fn overlap(one: &Address, other: &Address) -> bool {
    let hosts = |a: Option<IpAddr>, b: Option<IpAddr>| match (a, b) {
        (None, _) | (_, None) => true,
        (Some(a), Some(b)) => a == b || is_all(a, b) || is_all(b, a),
    };
    match (&one.path, &other.path) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one.kind == other.kind && one.port == other.port && one.port != Some(0) && hosts(one.host, other.host),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether it stands for every address, the other one among them; IPv6 does so for IPv4 as well.
fn is_all(host: IpAddr, other: IpAddr) -> bool {
    host.is_unspecified() && (host.is_ipv6() || other.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_where_the_system_would_refuse_the_second_one() {
        let tcp = |text: &str| {
            let (host, port) = text.rsplit_once(':').unwrap();
            Address::tcp((!host.is_empty()).then(|| host.trim_matches(['[', ']']).parse().unwrap()), port.parse().unwrap())
        };
        for (one, other, expected) in [
            (":80", ":80", true),
            (":80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            (":0", ":0", false),
        ] {
            assert_eq!((overlap(&tcp(one), &tcp(other)), overlap(&tcp(other), &tcp(one))), (expected, expected), "{one} {other}");
        }
        assert!(overlap(&Address::unix("/a"), &Address::unix("/a")) && !overlap(&Address::unix("/a"), &Address::unix("/b")));
        assert!(!overlap(&Address::unix("/a"), &tcp(":80")));
    }
}
