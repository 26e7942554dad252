//! A server under test on a thread of its own, the fake master that it obeys, and clients that see every byte.
#![allow(dead_code)] // each test file uses its own part
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)] // it is part of tests

use std::future::IntoFuture;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use dutch_master_protocol::message::{Close, DisconnectReason, Drained, FromWorker, Listening, Resume};
use dutch_master_worker::{Event, Worker};
use tokio::sync::Semaphore;

use crate::fake_master::{FakeMaster, PATIENCE, Peer, tcp, welcome};

pub(crate) struct Rig {
    pub(crate) worker: Worker,
    pub(crate) peer: Peer,
    /// The master's copy of the listener.
    pub(crate) bound: TcpListener,
    pub(crate) address: SocketAddr,
    /// Tells when a request to `/gated` or `/block` is in its handler.
    pub(crate) entered: mpsc::Receiver<()>,
    /// Lets `/gated` go on.
    pub(crate) gate: Arc<Semaphore>,
    /// Lets `/block` go on.
    pub(crate) unblock: mpsc::Sender<()>,
    server: JoinHandle<io::Result<()>>,
    pub(crate) master: FakeMaster,
}

impl Rig {
    /// A server that has said `listening`.
    pub(crate) fn start(idle_grace: Duration) -> Rig {
        let master = FakeMaster::new();
        let (worker, mut peer) = master.connect(welcome());
        let bound = tcp();
        let address = bound.local_addr().unwrap();
        let (enter, entered) = mpsc::channel();
        let (unblock, blocked) = mpsc::channel();
        let gate = Arc::new(Semaphore::new(0));
        let router = router(enter, Arc::clone(&gate), blocked);
        let server = std::thread::spawn({
            let worker = worker.clone();
            move || {
                runtime().block_on(async {
                    let listener = worker.listen(address).await.unwrap();
                    dutch_master_worker::axum::serve(&worker, listener, router).idle_grace(idle_grace).into_future().await
                })
            }
        });
        let asked = peer.expect_listen();
        peer.hand_over(asked.seq, &bound);
        assert!(matches!(peer.expect(), FromWorker::Listening(Listening { .. })));
        Rig { worker, peer, bound, address, entered, gate, unblock, server, master }
    }

    /// Orders the worker to go, and waits until it accepts no more.
    pub(crate) fn order(&mut self, reason: DisconnectReason, timeout: Duration) {
        self.peer.disconnect(reason, timeout);
        self.expect_close();
    }

    /// Orders the worker to go while its runtime is held up, and waits until the order has reached it.
    pub(crate) fn order_while_blocked(&mut self, reason: DisconnectReason, timeout: Duration) {
        let (tell, told) = mpsc::channel();
        self.worker.on_event(move |event| drop(tell.send(event)));
        self.peer.disconnect(reason, timeout);
        // Events are told after everybody who waits for the order has been woken.
        assert!(matches!(told.recv_timeout(PATIENCE), Ok(Event::Order(_))));
    }

    /// The master dies, and another one takes the worker back.
    #[track_caller]
    pub(crate) fn next_master(mut self, check: impl FnOnce(Resume)) -> Rig {
        self.master.die(self.peer);
        self.master.succeed();
        let (peer, resume) = self.master.take_back(welcome());
        check(resume);
        Rig { peer, ..self }
    }

    pub(crate) fn expect_close(&mut self) {
        assert_eq!(self.peer.expect(), FromWorker::Close(Close { key: "key 1".into() }));
    }

    /// Waits until the worker says that it is drained and the server has returned.
    pub(crate) fn expect_drained(self) {
        self.expect_drained_but_for(None);
    }

    /// The same, where so many connections were cut.
    pub(crate) fn expect_drained_but_for(mut self, cut: Option<u32>) {
        assert_eq!(self.peer.expect(), FromWorker::Disconnect(Drained { cut }));
        self.server.join().unwrap().unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A client whose connection the server has accepted, although it knows nothing of it yet.
    pub(crate) fn accepted_client(&self) -> Client {
        let client = self.client();
        // The queue is served in order: once a later connection has its answer, this one has been accepted.
        assert!(self.client().get("/").contains("200 ok"));
        client
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn router(enter: mpsc::Sender<()>, gate: Arc<Semaphore>, blocked: mpsc::Receiver<()>) -> Router {
    let (entering, blocked) = (enter.clone(), Arc::new(Mutex::new(blocked)));
    let gated = move || async move {
        enter.send(()).unwrap();
        gate.acquire().await.unwrap().forget();
        "through"
    };
    // Holds up the whole runtime, so that nothing is accepted meanwhile.
    let block = move || async move {
        entering.send(()).unwrap();
        blocked.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        "unblocked"
    };
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/who", get(|ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.to_string() }))
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/early", post(|| async { "I have read enough" }))
        .route("/gated", get(gated))
        .route("/block", get(block))
}

/// An HTTP client of bare bytes, which never retries.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        self.response()
    }

    /// One response, head and body.
    #[track_caller]
    pub(crate) fn response(&mut self) -> String {
        let mut text = String::new();
        let mut byte = [0];
        while !text.ends_with("\r\n\r\n") {
            self.0.read_exact(&mut byte).expect("a response");
            text.push(byte[0].into());
        }
        text.make_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        text + &String::from_utf8(body).unwrap()
    }

    /// The server ends the connection, cleanly.
    #[track_caller]
    pub(crate) fn expect_eof(&mut self) {
        match self.0.read(&mut [0]) {
            Ok(0) => {}
            other => panic!("{other:?} instead of the end of the connection"),
        }
    }

    /// Sends although the server has ended the connection. Were it closed already, the first write would be met by a reset, and the second one fail.
    #[track_caller]
    pub(crate) fn expect_linger(&mut self) {
        for _ in 0..2 {
            self.0.write_all(b"GET / HTTP/1.1\r\n").expect("the server still reads");
        }
    }
}
