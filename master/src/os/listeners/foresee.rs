//! What would keep a configured listener from being had, seen without having it.

use std::io;
use std::path::Path;

use dutch_master_protocol::message::Address;
use nix::errno::Errno;

use super::{FIRST_FREE_PORT, ListenError, check_spec, in_words, overlap};
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
    if earlier.iter().any(|spec| exclude(&spec.address, address)) {
        let source = io::Error::from(Errno::EADDRINUSE);
        return Err(ListenError { address: in_words(address), remedy: super::TAKEN_BEFORE.into(), source });
    }
    available(address).map_err(|source| ListenError::of(address, source))
}

/// Whether who has the one cannot have the other as well.
fn exclude(one: &Address, other: &Address) -> bool {
    match (&one.path, &other.path) {
        (None, None) => overlap(one, other),
        (one, other) => one == other,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_exclude_each_other_where_the_system_would_refuse_the_second_one() {
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
            assert_eq!((exclude(&tcp(one), &tcp(other)), exclude(&tcp(other), &tcp(one))), (expected, expected), "{one} {other}");
        }
        assert!(exclude(&Address::unix("/a"), &Address::unix("/a")) && !exclude(&Address::unix("/a"), &Address::unix("/b")));
        assert!(!exclude(&Address::unix("/a"), &tcp(":80")));
    }
}
