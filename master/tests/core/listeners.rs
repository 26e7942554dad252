//! The listener registry: keys, who holds what, and what is closed when nobody needs it.

use std::net::IpAddr;

use dutch_master::core::listeners::{BACKLOG, LISTENERS_MAX, Registry, Resolution};
use dutch_master_protocol::message::{Address, Kind, Listen, codes};

fn ask(address: Address) -> Listen {
    Listen { address: Some(address), ..Listen::default() }
}

fn tcp(host: &str, port: u16) -> Address {
    Address::tcp(Some(host.parse::<IpAddr>().expect("an address")), port)
}

/// Resolves a request and plays the shell's part.
#[track_caller]
fn take(registry: &mut Registry, worker: u32, request: &Listen) -> String {
    match registry.resolve(worker, request) {
        Resolution::Held(key) => key,
        Resolution::Bind { key, address, .. } => {
            registry.bound(worker, key.clone(), address, request.data.clone());
            key
        }
        Resolution::Refused { code, message } => panic!("{code}: {message}"),
    }
}

#[track_caller]
fn refusal(registry: &mut Registry, request: &Listen) -> &'static str {
    match registry.resolve(1, request) {
        Resolution::Refused { code, .. } => code,
        other @ (Resolution::Held(_) | Resolution::Bind { .. }) => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn the_same_address_is_one_listener_for_all_workers() {
    let mut registry = Registry::default();
    let key = take(&mut registry, 1, &ask(tcp("127.0.0.1", 80)));
    assert_eq!(registry.resolve(2, &ask(tcp("127.0.0.1", 80))), Resolution::Held(key));
    for other in [
        tcp("127.0.0.2", 80),
        tcp("127.0.0.1", 81),
        tcp("::1", 80),
        Address { kind: Kind::Udp, ..tcp("127.0.0.1", 80) },
        Address { ipv6_only: true, ..tcp("::", 80) },
    ] {
        assert!(matches!(registry.resolve(2, &ask(other)), Resolution::Bind { .. }));
    }
}

#[test]
fn a_worker_that_holds_a_key_gets_eaddrinuse_until_it_closes_it() {
    let mut registry = Registry::default();
    let request = ask(tcp("127.0.0.1", 80));
    let key = take(&mut registry, 1, &request);
    assert_eq!(refusal(&mut registry, &request), "EADDRINUSE");
    registry.closed(1, &key);
    assert_eq!(registry.resolve(1, &request), Resolution::Held(key));
}

#[test]
fn the_nth_request_for_port_0_shares_the_nth_random_port() {
    let mut registry = Registry::default();
    let nth = |index| Listen { index: Some(index), ..ask(Address::tcp(None, 0)) };
    let first = take(&mut registry, 1, &nth(0));
    let second = take(&mut registry, 1, &nth(1));
    assert_ne!(first, second);
    assert_eq!(registry.resolve(2, &nth(0)), Resolution::Held(first));
    assert_eq!(registry.resolve(2, &nth(1)), Resolution::Held(second));
}

#[test]
fn a_random_port_that_is_asked_for_by_its_number_is_the_same_listener() {
    let mut registry = Registry::default();
    registry.bound(1, "found".into(), tcp("127.0.0.1", 40_000), None);
    let request = ask(tcp("127.0.0.1", 40_000));
    assert_eq!(refusal(&mut registry, &request), "EADDRINUSE");
    registry.closed(1, "found");
    assert_eq!(registry.resolve(1, &request), Resolution::Held("found".into()));
    assert!(matches!(registry.resolve(1, &ask(tcp("127.0.0.2", 40_000))), Resolution::Bind { .. }));
}

#[test]
fn configured_listeners_for_port_0_are_several_ports() {
    let mut registry = Registry::default();
    let any = tcp("127.0.0.1", 0);
    let keys: Vec<_> = [4001, 4002].map(|port| registry.configured(None, &any, tcp("127.0.0.1", port))).into();
    assert_ne!(keys[0], keys[1]);
    for (index, key) in keys.into_iter().enumerate() {
        let request = Listen { index: u32::try_from(index).ok(), ..ask(any.clone()) };
        assert_eq!(registry.resolve(1, &request), Resolution::Held(key));
    }
}

#[test]
fn a_configured_listener_is_found_by_name_by_address_and_by_its_port_alone() {
    let mut registry = Registry::default();
    let web = registry.configured(Some("web".into()), &tcp("127.0.0.1", 8000), tcp("127.0.0.1", 8000));
    let by_name = Listen { name: Some("web".into()), ..Listen::default() };
    assert_eq!(registry.resolve(1, &by_name), Resolution::Held(web.clone()));
    assert_eq!(registry.resolve(2, &ask(tcp("127.0.0.1", 8000))), Resolution::Held(web.clone()));
    assert_eq!(registry.resolve(3, &ask(Address::tcp(None, 8000))), Resolution::Held(web));
    registry.configured(None, &tcp("127.0.0.2", 8000), tcp("127.0.0.2", 8000));
    assert!(matches!(registry.resolve(4, &ask(Address::tcp(None, 8000))), Resolution::Bind { .. }), "two are configured on that port: neither is meant");
    assert_eq!(refusal(&mut registry, &Listen { name: Some("api".into()), ..Listen::default() }), codes::UNKNOWN_NAME);
}

#[test]
fn the_first_askers_data_is_given_to_all_later_ones() {
    let mut registry = Registry::default();
    let with = |data: &str| Listen { data: Some(data.into()), ..ask(tcp("127.0.0.1", 80)) };
    let key = take(&mut registry, 1, &with("first"));
    take(&mut registry, 2, &with("second"));
    assert_eq!(registry.get(&key).and_then(|entry| entry.data.as_deref()), Some("first"));
    assert_eq!(refusal(&mut registry, &with(&"x".repeat(4_097))), "EMSGSIZE");
    assert_eq!(registry.resolve(3, &with(&"x".repeat(4_096))), Resolution::Held(key));
}

#[test]
fn an_unused_listener_is_closed_after_two_completed_restarts_and_a_configured_one_never() {
    let mut registry = Registry::default();
    registry.configured(Some("web".into()), &tcp("127.0.0.1", 1), tcp("127.0.0.1", 1));
    let request = ask(tcp("127.0.0.1", 80));
    let key = take(&mut registry, 1, &request);
    assert!(registry.restart_completed().is_empty());
    assert!(registry.restart_completed().is_empty(), "worker 1 still holds it");
    registry.worker_gone(1);
    assert_eq!(registry.restart_completed(), [key]);
    assert_eq!(registry.iter().count(), 1);

    take(&mut registry, 2, &request);
    registry.worker_gone(2);
    assert!(registry.restart_completed().is_empty());
    take(&mut registry, 3, &request);
    registry.worker_gone(3);
    assert!(registry.restart_completed().is_empty(), "the request began the count anew");
}

#[test]
fn impossible_requests_are_refused_with_a_reason() {
    let mut registry = Registry::default();
    let unix = |path: &str| ask(Address::unix(path));
    let bad = [
        Listen::default(),
        Listen { name: Some("a".into()), ..ask(tcp("127.0.0.1", 1)) },
        unix("relative"),
        unix(&format!("/{}", "x".repeat(103))),
        unix("/a\0b"),
        ask(Address { host: Some(IpAddr::from([127, 0, 0, 1])), ..Address::unix("/x") }),
        ask(Address { path: Some("/x".into()), ..tcp("127.0.0.1", 1) }),
        ask(Address { port: None, ..tcp("127.0.0.1", 1) }),
        ask(Address { port: Some(1), ..Address::unix("/x") }),
    ];
    for request in bad {
        assert_eq!(refusal(&mut registry, &request), "EINVAL", "{request:?}");
    }
    assert!(matches!(registry.resolve(1, &unix(&format!("/{}", "x".repeat(102)))), Resolution::Bind { .. }));
}

#[test]
fn a_configured_listener_serves_no_other_kind_or_scope() {
    let mut registry = Registry::default();
    registry.configured(Some("web".into()), &tcp("::", 8000), tcp("::", 8000));
    take(&mut registry, 1, &ask(tcp("127.0.0.1", 9000)));
    for other in [Address { kind: Kind::Udp, ..tcp("::", 8000) }, Address { ipv6_only: true, ..tcp("::", 8000) }, Address::tcp(None, 9000)] {
        assert!(matches!(registry.resolve(2, &ask(other.clone())), Resolution::Bind { .. }), "{other:?}");
    }
    assert_eq!(registry.resolve(2, &ask(Address::tcp(None, 8000))), Resolution::Held("web".into()));
}

#[test]
fn an_unknown_name_is_answered_with_the_names_there_are() {
    let mut registry = Registry::default();
    let message = |registry: &mut Registry, name: &str| match registry.resolve(1, &Listen { name: Some(name.into()), ..Listen::default() }) {
        Resolution::Refused { message, .. } => message,
        other @ (Resolution::Held(_) | Resolution::Bind { .. }) => panic!("expected a refusal, got {other:?}"),
    };
    assert_eq!(message(&mut registry, "api"), "no listener is configured by the name \"api\"; there are: none");
    registry.configured(Some("a".into()), &tcp("127.0.0.1", 1), tcp("127.0.0.1", 1));
    registry.configured(Some("b".into()), &tcp("127.0.0.1", 2), tcp("127.0.0.1", 2));
    assert!(message(&mut registry, "api").ends_with("there are: a, b"));
    let (long, shown) = ("n".repeat(10_000), "n".repeat(64));
    assert!(message(&mut registry, &long).contains(&format!("{shown:?};")), "an answer is no longer than a line");
}

#[test]
fn a_key_is_no_name() {
    let mut registry = Registry::default();
    let key = take(&mut registry, 1, &ask(tcp("127.0.0.1", 80)));
    assert_eq!(refusal(&mut registry, &Listen { name: Some(key), ..Listen::default() }), codes::UNKNOWN_NAME);
}

#[test]
fn the_accept_queue_is_the_first_askers_or_the_default() {
    for (asked, given) in [(None, BACKLOG), (Some(0), BACKLOG), (Some(1), 1), (Some(7), 7)] {
        let request = Listen { backlog: asked, ..ask(tcp("127.0.0.1", 80)) };
        assert!(matches!(Registry::default().resolve(1, &request), Resolution::Bind { backlog, .. } if backlog == given));
    }
}

/// Catches: a listener of a dead master that takes the place of one that there is, or that is closed although the configuration has it.
#[test]
fn a_dead_masters_listener_is_taken_over_once_and_is_what_the_configuration_says_now() {
    let (mut dead, mut registry) = (Registry::default(), Registry::default());
    let request = Listen { data: Some("first".into()), ..ask(tcp("127.0.0.1", 80)) };
    let key = take(&mut dead, 1, &request);
    assert!(!registry.inherit(&"tcp:*:1".to_owned(), &dead, true), "there was none");
    assert!(registry.inherit(&key, &dead, true));
    assert!(!registry.inherit(&key, &dead, false), "it is there already");
    let entry = registry.get(&key).expect("it was taken over");
    assert!(entry.configured);
    assert_eq!(entry.data.as_deref(), Some("first"));
    assert!(!dead.get(&key).expect("it stays there").configured);
    registry.forget(&key);
    assert_eq!(registry.get(&key), None);
}

/// Catches: a listener that stays open although nobody accepts there, or is closed under those who do.
#[test]
fn a_listener_that_the_configuration_has_no_more_closes_with_its_last_holder() {
    let mut dead = Registry::default();
    let web = dead.configured(Some("web".into()), &tcp("127.0.0.1", 80), tcp("127.0.0.1", 80));
    for worker in [1, 2] {
        dead.resolve(worker, &Listen { name: Some("web".into()), ..Listen::default() });
    }
    let own = take(&mut dead, 1, &ask(tcp("127.0.0.1", 81)));
    let successor = |configured| {
        let mut registry = Registry::default();
        assert!(registry.inherit(&web, &dead, configured) && registry.inherit(&own, &dead, false));
        registry
    };
    let mut registry = successor(false);
    registry.worker_gone(1);
    assert!(registry.take_withdrawn().is_empty(), "worker 2 serves there");
    // The next master has the same configuration.
    let mut next = Registry::default();
    next.inherit(&web, &registry, false);
    next.worker_gone(2);
    assert_eq!(next.take_withdrawn(), std::slice::from_ref(&web));
    registry.closed(2, &web);
    assert_eq!(registry.take_withdrawn(), std::slice::from_ref(&web));
    assert_eq!(registry.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&own], "what only workers wanted waits for two restarts");

    let mut registry = successor(true);
    [1, 2].into_iter().for_each(|worker| registry.worker_gone(worker));
    assert!(registry.take_withdrawn().is_empty(), "it is configured");
    let mut registry = successor(false);
    take(&mut registry, 3, &ask(tcp("127.0.0.1", 80)));
    [1, 2, 3].into_iter().for_each(|worker| registry.worker_gone(worker));
    assert!(registry.take_withdrawn().is_empty(), "a worker has asked for it by its address: it is the workers' now");
}

/// Catches: a worker that is refused what it does not hold, or asked to give back what it has closed.
#[test]
fn what_a_worker_says_that_it_holds_is_what_it_holds() {
    let mut registry = Registry::default();
    let (first, second) = (ask(tcp("127.0.0.1", 80)), ask(tcp("127.0.0.1", 81)));
    let keys = [&first, &second].map(|request| take(&mut registry, 1, request));
    take(&mut registry, 2, &first);
    let holders = |registry: &Registry| keys.clone().map(|key| registry.holders(&key).collect::<Vec<_>>());
    assert_eq!(holders(&registry), [vec![1, 2], vec![1]]);
    registry.holds(2, &keys[1..]);
    assert_eq!(holders(&registry), [vec![1], vec![1, 2]]);
    registry.holds(1, &[]);
    assert_eq!(holders(&registry), [vec![], vec![2]]);
    assert_eq!(registry.holders("tcp:*:1").count(), 0);
}

#[test]
fn there_is_a_limit_to_the_number_of_listeners() {
    let mut registry = Registry::default();
    for port in 0..LISTENERS_MAX as u16 {
        take(&mut registry, 1, &ask(tcp("127.0.0.1", port + 1)));
    }
    assert_eq!(refusal(&mut registry, &ask(tcp("127.0.0.1", 9_999))), "EMFILE");
}
