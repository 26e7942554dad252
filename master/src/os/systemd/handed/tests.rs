//! What of the service manager's sockets becomes which listener, and what does not.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

fn handed(name: &str, fd: impl Into<OwnedFd>) -> HandedSockets {
    let fd = fd.into();
    let address = address_of(&fd).unwrap();
    HandedSockets { sockets: vec![Handed { is_lent: !name.starts_with(KEPT), name: name.into(), fd, address }], ..HandedSockets::default() }
}

#[test]
fn a_lent_socket_serves_whoever_wants_its_address_and_for_a_port_of_the_systems_choice_its_name() {
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let asked = |port| Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), port);
    let (one, two) = (listener(), listener());
    let (port, other) = (one.local_addr().unwrap().port(), two.local_addr().unwrap().port());
    let mut sockets = handed("web", one);
    assert!(sockets.take("k", None, &asked(other)).is_none());
    assert!(sockets.take("k", None, &asked(0)).is_none());
    assert!(sockets.take("k", None, &Address::tcp(None, port)).is_none());
    assert_eq!(sockets.take("k", None, &asked(port)).unwrap().address(), &asked(port));
    assert_eq!(handed("web", two).take("k", Some("web"), &asked(0)).unwrap().address(), &asked(other));
}

#[test]
fn every_address_is_every_address_of_both_families_unless_it_is_said_otherwise() {
    let all = TcpListener::bind("[::]:0").unwrap();
    let port = all.local_addr().unwrap().port();
    let mut sockets = handed("unknown", all);
    assert!(sockets.take("k", None, &Address { ipv6_only: true, ..Address::tcp(None, port) }).is_none());
    assert!(sockets.take("k", None, &Address::tcp(None, port)).is_some());
}

#[test]
fn a_kept_socket_at_a_port_of_the_systems_choice_is_known_by_its_key() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let asked = Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), 0);
    let mut sockets = handed(&kept_name("tcp:127.0.0.1:0#0"), listener);
    assert!(sockets.take("tcp:127.0.0.1:0#1", None, &asked).is_none());
    assert!(sockets.take_lent().is_empty());
    assert!(sockets.take("tcp:127.0.0.1:0#0", None, &asked).is_some());
}

#[test]
fn a_kept_socket_that_is_called_otherwise_now_is_known_by_its_address_and_its_old_name_is_outdated() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let asked = Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), listener.local_addr().unwrap().port());
    let mut sockets = handed(&kept_name("web"), listener);
    assert!(sockets.take("site", Some("site"), &asked).is_some());
    assert_eq!((sockets.take_outdated(), sockets.take_outdated()), (vec![kept_name("web")], Vec::new()));
}

#[test]
fn a_kept_socket_that_nobody_asks_for_is_given_up_after_two_restarts() {
    let mut sockets = handed(&kept_name("web"), TcpListener::bind("127.0.0.1:0").unwrap());
    assert_eq!(sockets.restart_completed(), [""; 0]);
    assert_eq!(sockets.restart_completed(), [kept_name("web")]);
}

#[test]
fn addresses_overlap_where_the_system_says_so() {
    let addresses = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"].map(|host| Address::tcp(Some(host.parse().unwrap()), 0));
    let only = Address { ipv6_only: true, ..addresses[4].clone() };
    let all = || addresses.iter().chain([&only]);
    for (one, other) in all().flat_map(|one| all().map(move |other| (one, other))) {
        let bound: Vec<_> = (0..5).map(|_| ListeningSocket::bind(one, 1).unwrap()).collect();
        let others: Vec<_> = bound.iter().map(|bound| Address { port: bound.address().port, ..other.clone() }).collect();
        // At one port somebody else may be in the way, at five nobody.
        let is_free = others.iter().any(|other| ListeningSocket::bind(other, 1).is_ok());
        assert_eq!(overlap(bound[0].address(), &others[0]), !is_free, "{one:?} {other:?}");
        assert_eq!(overlap(&others[0], bound[0].address()), !is_free, "{other:?} {one:?}");
    }
    let unspecified = Address::tcp(None, 1);
    assert!(overlap(&unspecified, &Address::tcp(Some(Ipv4Addr::LOCALHOST.into()), 1)) && !overlap(&unspecified, &Address::tcp(None, 0)));
}

#[test]
fn a_kept_socket_makes_room_for_another_unless_workers_that_live_hold_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let all = Address::tcp(Some(Ipv4Addr::UNSPECIFIED.into()), listener.local_addr().unwrap().port());
    // The service manager's.
    let _copy = listener.try_clone().unwrap();
    let mut sockets = handed(&kept_name("web"), listener);
    assert!(sockets.make_room(&all, &[kept_name("web")]).unwrap_err().contains("workers that live serve 127.0.0.1:"));
    assert!(ListeningSocket::bind(&all, 1).is_err());
    sockets.make_room(&all, &[kept_name("other")]).unwrap();
    ListeningSocket::bind(&all, 1).unwrap();
    assert_eq!(sockets.take_outdated(), [kept_name("web")]);
}

#[test]
fn what_is_configured_by_its_name_for_another_address_is_given_up() {
    let mut sockets = handed("web", TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.reject("admin", &Address::tcp(None, 1));
    assert_eq!(sockets.sockets.len(), 1);
    sockets.reject("web", &Address::tcp(None, 1));
    assert!(sockets.sockets.is_empty());
}

#[test]
fn names_are_fit_for_systemd_and_tell_keys_apart() {
    let long = format!("unix:/{}", "é:".repeat(60));
    for key in ["web", "tcp:*:8000", &long] {
        let name = kept_name(key);
        assert!(name.len() <= 255 && name.bytes().all(|b| b.is_ascii_graphic() && b != b':'), "{name}");
    }
    assert_ne!(kept_name("tcp:*:80"), kept_name("tcp_*_80"));
}

#[test]
fn what_does_not_listen_is_unfit() {
    let (connected, _peer) = UnixStream::pair().unwrap();
    assert!(matches!(address_of(&connected.into()), Err(Unfit::Deaf)));
    assert!(matches!(address_of(&std::fs::File::open("/dev/null").unwrap().into()), Err(Unfit::Refused(Errno::ENOTSOCK))));
    let path = std::env::temp_dir().join(format!("dm-handed-{}.sock", std::process::id()));
    let unix = UnixListener::bind(&path).unwrap();
    assert_eq!(address_of(&unix.into()).unwrap(), Address::unix(path.to_str().unwrap()));
    std::fs::remove_file(path).unwrap();
}
