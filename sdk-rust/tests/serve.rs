//! Serving: HTTP/2, upgrades, Unix sockets, several servers, and a system short of descriptors.
#![allow(clippy::unwrap_used)] // also in what is not itself a test

mod fake_master;
mod rig;

use std::convert::Infallible;
use std::future::IntoFuture;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use dutch_master_protocol::message::{DisconnectReason, Drained, FromWorker};
use dutch_master_worker::{Worker, axum::serve, http};
use fake_master::{FakeMaster, PATIENCE, Peer, tcp, welcome};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rig::{Client, Rig, runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LONG: Duration = Duration::from_secs(60);

fn app() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

/// Answers what the workers ask for with `listener`.
#[track_caller]
fn hand_over(peer: &mut Peer, listener: impl std::os::fd::AsFd) {
    let seq = peer.expect_listen().seq;
    peer.hand_over(seq, listener);
}

#[test]
fn http2_is_told_to_go_away_and_finishes_its_requests() {
    let mut rig = Rig::start(LONG);
    let address = rig.address;
    let (requested, responded) = std::sync::mpsc::channel();
    let client = std::thread::spawn(move || {
        runtime().block_on(async {
            let stream = TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap());
            let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            let connection = tokio::spawn(connection);
            let request = Request::get(format!("http://{address}/gated")).body(Empty::<Bytes>::new()).unwrap();
            let response = send.send_request(request).await.unwrap();
            assert_eq!(response.headers().get(CONNECTION), None);
            requested.send(response.into_body().collect().await.unwrap().to_bytes()).unwrap();
            connection.await.unwrap().expect("the connection ends cleanly, by the server's will");
        });
    });
    rig.entered.recv_timeout(PATIENCE).unwrap();
    rig.order(DisconnectReason::Restart, LONG);
    rig.gate.add_permits(1);
    assert_eq!(responded.recv_timeout(PATIENCE).unwrap(), "through");
    client.join().unwrap();
    rig.expect_drained();
}

#[test]
fn an_idle_http2_connection_goes_away_at_once() {
    let mut rig = Rig::start(LONG);
    let address = rig.address;
    let (greeted, greeting) = std::sync::mpsc::channel();
    let client = std::thread::spawn(move || {
        runtime().block_on(async {
            let stream = TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap());
            let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            let connection = tokio::spawn(connection);
            let request = Request::get(format!("http://{address}/")).body(Empty::<Bytes>::new()).unwrap();
            send.send_request(request).await.unwrap();
            greeted.send(()).unwrap();
            connection.await.unwrap().expect("the connection ends cleanly, by the server's will");
        });
    });
    greeting.recv_timeout(PATIENCE).unwrap();
    rig.order(DisconnectReason::Restart, LONG);
    client.join().unwrap();
    rig.expect_drained();
}

/// Answers a request, or turns the connection into one that echoes if that is asked for.
async fn echo(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    if !request.headers().contains_key(UPGRADE) {
        return Ok(Response::new(Empty::new()));
    }
    let upgrading = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrading.await.unwrap());
        let mut byte = [0];
        while stream.read(&mut byte).await.is_ok_and(|n| n > 0) {
            stream.write_all(&byte).await.unwrap();
        }
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header(CONNECTION, "upgrade").header(UPGRADE, "echo");
    Ok(response.body(Empty::new()).unwrap())
}

#[test]
fn an_upgraded_connection_lives_until_the_deadline() {
    let master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let bound = tcp();
    let address = bound.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = worker.listen(address).await.unwrap();
            http::serve(&worker, listener, service_fn(echo)).await
        })
    });
    hand_over(&mut peer, &bound);
    peer.expect();
    let upgrade = |client: &mut Client| {
        client.send("GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
        let response = client.response();
        assert!(response.starts_with("http/1.1 101") && response.contains("connection: upgrade"), "{response}");
    };
    let (mut early, mut late) = (Client::connect(address), Client::connect(address));
    upgrade(&mut early);
    late.get("/");
    peer.disconnect(DisconnectReason::Restart, Duration::from_millis(1_500));
    assert!(matches!(peer.expect(), FromWorker::Close(_)));
    upgrade(&mut late);
    for client in [&mut early, &mut late] {
        client.send("!");
        let mut echo = [0];
        client.0.read_exact(&mut echo).unwrap();
        assert_eq!(echo, *b"!");
    }
    drop(early);
    assert_eq!(peer.expect(), FromWorker::Disconnect(Drained { cut: Some(1) }));
    server.join().unwrap().unwrap();
}

#[test]
fn a_unix_listener_serves_and_drains() {
    let master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let path = master.path().with_file_name("web");
    let bound = UnixListener::bind(&path).unwrap();
    bound.set_nonblocking(true).unwrap();
    let request = format!("unix:{}", path.display());
    let server = std::thread::spawn(move || runtime().block_on(async { serve(&worker, worker.listen(request).await.unwrap(), app()).await }));
    hand_over(&mut peer, &bound);
    peer.expect();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.ends_with("hello"));
    peer.disconnect(DisconnectReason::Restart, LONG);
    assert!(matches!(peer.expect(), FromWorker::Close(_)));
    assert_eq!(peer.expect(), FromWorker::Disconnect(Drained::default()));
    server.join().unwrap().unwrap();
}

#[test]
fn a_worker_with_two_servers_is_drained_when_both_are() {
    let master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let bound = [tcp(), tcp()];
    let addresses = bound.each_ref().map(|bound| bound.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        runtime().block_on(async {
            let listeners = [worker.listen(addresses[0]).await.unwrap(), worker.listen(addresses[1]).await.unwrap()];
            let [first, second] = listeners.map(|listener| serve(&worker, listener, app()).idle_grace(LONG).into_future());
            let (first, second) = tokio::join!(first, second);
            first.and(second)
        })
    });
    bound.iter().for_each(|bound| hand_over(&mut peer, bound));
    let mut client = Client::connect(addresses[1]);
    client.get("/");
    peer.disconnect(DisconnectReason::Restart, LONG);
    let mut closed = 0;
    while closed < 2 {
        let said = peer.expect();
        assert_ne!(said, FromWorker::Disconnect(Drained::default()), "drained while a connection is open");
        closed += usize::from(matches!(said, FromWorker::Close(_)));
    }
    client.get("/");
    client.expect_eof();
    drop(client);
    assert_eq!(peer.expect(), FromWorker::Disconnect(Drained::default()));
    server.join().unwrap().unwrap();
}

#[test]
fn a_listener_of_the_wrong_kind_is_an_error() {
    let master = FakeMaster::new();
    let (worker, mut peer) = master.connect(welcome());
    let server = std::thread::spawn(move || runtime().block_on(async { serve(&worker, worker.listen(80).await.unwrap(), app()).await }));
    hand_over(&mut peer, std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    assert_eq!(server.join().unwrap().unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_standalone_server_serves_on() {
    let worker = Worker::standalone();
    let listener = worker.listen_blocking("127.0.0.1:0").unwrap();
    let address = listener.key().parse().unwrap();
    let stop = Arc::new(tokio::sync::Notify::new());
    let stopped = Arc::clone(&stop);
    let server = std::thread::spawn(move || {
        runtime().block_on(async {
            tokio::select! {
                result = serve(&worker, listener, app()).into_future() => panic!("{result:?}"),
                () = stopped.notified() => {}
            }
        })
    });
    assert!(!Client::connect(address).get("/").contains("connection"));
    stop.notify_one();
    server.join().unwrap();
}

#[test]
fn a_listener_that_was_shut_down_and_listens_again_is_served_and_the_order_to_go_is_heard() {
    let mut rig = Rig::start(Duration::ZERO);
    let mut before = rig.client();
    assert!(before.get("/").contains("hello"));
    let listener = socket2::SockRef::from(&rig.bound);
    listener.shutdown(std::net::Shutdown::Both).unwrap();
    // The runtime looks at everything at once: with the answer it has learnt of the shutdown, too.
    assert!(before.get("/").contains("hello"));
    // The system may have kept the port bound.
    let _ = listener.bind(&rig.address.into());
    listener.listen(16).unwrap();
    for _ in 0..3 {
        assert!(rig.client().get("/").contains("hello"));
    }
    rig.order(DisconnectReason::Restart, LONG);
    rig.expect_drained();
}
