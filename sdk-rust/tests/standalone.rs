//! Without a master: the program binds for itself, and everything else does nothing.

use std::net::{Ipv6Addr, TcpStream};
use std::os::unix::net::UnixStream;

use dutch_master_worker::{Kind, ListenError, ListenRequest, Worker};

#[test]
fn every_lifecycle_call_is_a_harmless_no_op() {
    let worker = Worker::standalone();
    worker.listening(None);
    worker.request_restart(None);
    worker.leave(None);
    worker.close("key");
    worker.message("{}").unwrap();
    worker.drained();
    worker.on_event(|event| panic!("{event:?}"));
    assert_eq!((worker.order(), worker.id(), worker.generation(), worker.slot(), worker.pool_size()), (None, 0, 0, 0, 1));
    assert!(worker.is_standalone() && worker.welcome().is_none());
}

#[test]
fn a_tcp_address_is_bound_and_its_real_port_known() {
    let listener = Worker::standalone().listen_blocking("127.0.0.1:0").unwrap();
    let port = listener.address().unwrap().port.unwrap();
    assert_eq!(listener.key(), format!("127.0.0.1:{port}"));
    let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    listener.into_std_tcp().unwrap().accept().unwrap();
}

#[test]
fn a_port_alone_takes_ipv4_and_ipv6() {
    let listener = Worker::standalone().listen_blocking(0).unwrap();
    let port = listener.address().unwrap().port.unwrap();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    if listener.address().unwrap().host == Some(Ipv6Addr::UNSPECIFIED.into()) {
        TcpStream::connect(("::1", port)).unwrap();
    }
}

#[test]
fn a_unix_path_is_bound_and_a_stale_one_replaced() {
    let path = std::env::temp_dir().join(format!("dutch-master-standalone-{}", std::process::id()));
    let request = || ListenRequest::from(format!("unix:{}", path.display()));
    let worker = Worker::standalone();
    let first = worker.listen_blocking(request()).unwrap();
    assert_eq!(first.kind().unwrap(), Kind::Unix);
    let taken = worker.listen_blocking(request()).unwrap_err();
    assert_eq!(taken.code(), "EADDRINUSE", "somebody listens there");
    drop(first);
    let again = worker.listen_blocking(request()).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    again.into_std_unix().unwrap().accept().unwrap();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let worker = Worker::standalone();
    let first = worker.listen_blocking("127.0.0.1:0").unwrap();
    let error = worker.listen_blocking(first.key()).unwrap_err();
    assert_eq!(error.code(), "EADDRINUSE");
}

#[test]
fn a_configured_listener_needs_a_master() {
    assert!(matches!(Worker::standalone().listen_blocking("name:web"), Err(ListenError::NoMaster { name }) if name == "web"));
}
