//! The worker of SPEC.md section 0, cut out of the document and played against by a small master.

#![allow(clippy::unwrap_used)] // a test may panic

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use dutch_master_protocol::codec::{self, FrameDecoder};
use dutch_master_protocol::message::{Address, Disconnect, DisconnectReason, FromMaster, FromWorker, Hello, Listener, Welcome};
use dutch_master_protocol::{env, socket};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const TOKEN: &str = "000102030405060708090a0b0c0d0e0f";

/// A bound on hangs, far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn snippet() -> String {
    let rest = include_str!("../SPEC.md").split_once("```python\n").unwrap().1;
    rest.split_once("```").unwrap().0.to_owned()
}

/// A worker process with its connection to us.
struct Worker {
    child: Child,
    directory: PathBuf,
    connection: Option<UnixStream>,
    decoder: FrameDecoder,
}

impl Worker {
    /// Starts it and takes its connection; `None`, said visibly, without Python.
    fn start() -> Option<Worker> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if Command::new("python3").args(["-c", "import socket; socket.recv_fds"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            let directory = std::env::temp_dir().join(format!("dm-spec-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
            std::fs::create_dir(&directory).unwrap();
            let (program, path) = (directory.join("worker.py"), directory.join("master"));
            std::fs::write(&program, snippet()).unwrap();
            let listener = UnixListener::bind(&path).unwrap();
            let child = Command::new("python3")
                .arg(&program)
                .env(env::SOCKET, &path)
                .env(env::TOKEN, TOKEN)
                .env(env::WORKER_ID, "3")
                .env(env::SLOT, "0")
                .spawn()
                .unwrap();
            let mut worker = Worker { child, directory, connection: None, decoder: FrameDecoder::default() };
            let (sender, accepted) = mpsc::channel();
            thread::spawn(move || sender.send(listener.accept().map(|(connection, _)| connection)));
            worker.connection = Some(accepted.recv_timeout(PATIENCE).expect("the worker connects").unwrap());
            worker.connection().set_read_timeout(Some(PATIENCE)).unwrap();
            return Some(worker);
        }
        // Past the capture of output, so that it is seen when the test passes.
        io::stderr().write_all(b"SKIPPED: no python3 of version 3.9 or newer, so the worker of SPEC.md was not run\n").unwrap();
        None
    }

    fn connection(&mut self) -> &mut UnixStream {
        self.connection.as_mut().unwrap()
    }

    /// The next message, or `None` at the end of the connection.
    fn hear(&mut self) -> Option<FromWorker> {
        loop {
            if let Some(body) = self.decoder.next_frame().unwrap() {
                return Some(codec::decode(body).unwrap());
            }
            let mut bytes = vec![0; self.decoder.missing().unwrap()];
            match self.connection().read(&mut bytes).expect("the worker says something in time") {
                0 => return None,
                n => self.decoder.push(&bytes[..n]),
            }
        }
    }

    fn say(&mut self, message: &FromMaster) {
        self.connection().write_all(&codec::encode(message).unwrap()).unwrap();
    }

    fn hello(&mut self) {
        match self.hear() {
            Some(FromWorker::Hello(Hello { protocol: 1, token: Some(token), .. })) => assert_eq!(token, TOKEN),
            other => panic!("expected hello, got {other:?}"),
        }
    }

    fn welcome(names: &[&str]) -> FromMaster {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        FromMaster::Welcome(Welcome { protocol: 1, worker: 3, generation: 1, size: 2, names, orphan_timeout_ms: Some(100), ..Welcome::default() })
    }

    /// Answers a `listen` for `web`, in pieces of one byte, and waits for `listening`.
    fn give(&mut self, listener: &TcpListener) {
        let seq = match self.hear() {
            Some(FromWorker::Listen(listen)) if listen.name.as_deref() == Some("web") => listen.seq,
            other => panic!("expected listen, got {other:?}"),
        };
        let message = FromMaster::Listener(Listener { seq, key: "web".into(), name: Some("web".into()), data: None, address: None, fds: 1 });
        for byte in codec::encode(&message).unwrap() {
            self.connection().write_all(&[byte]).unwrap();
        }
        socket::send_fd(self.connection().as_fd(), listener.as_fd()).unwrap();
        assert!(matches!(self.hear(), Some(FromWorker::Listening(_))));
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn exit(&mut self) -> ExitStatus {
        let (sender, exited) = mpsc::channel();
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        thread::spawn(move || {
            if exited.recv_timeout(PATIENCE).is_err() {
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        let status = self.child.wait().unwrap();
        sender.send(()).unwrap();
        status
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A keep-alive client that never retries.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(listener: &TcpListener) -> Client {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    /// The head and the body of the next response.
    fn response(&mut self) -> (String, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).expect("no reset"), 0, "the connection ended without a response");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    fn kept_alive(&mut self) {
        assert!(self.response().0.contains("Connection: keep-alive"));
    }

    /// The last response of a connection that then ends in an orderly way.
    fn last(mut self) -> String {
        let (head, body) = self.response();
        assert!(head.contains("Connection: close"), "{head}");
        assert_eq!(self.0.read(&mut [0]).expect("no reset"), 0);
        body
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

#[test]
fn the_worker_serves_and_drains_without_a_failed_request() {
    let Some(mut worker) = Worker::start() else { return };
    let listener = listener();
    worker.hello();
    let mut glued = b"\x00\x00\x00\x10\x82\xa5event\xa5dance\xa1x\xc0".to_vec();
    glued.extend(codec::encode(&Worker::welcome(&["web", "admin"])).unwrap());
    worker.connection().write_all(&glued).unwrap();
    worker.give(&listener);

    let (mut without_request, mut posting, mut idle) = (Client::connect(&listener), Client::connect(&listener), Client::connect(&listener));
    posting.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhalf ");
    // Connections are accepted in order: when the last one is answered, the others are in the worker's hands.
    idle.send(GET);
    idle.kept_alive();
    worker.say(&FromMaster::Disconnect(Disconnect { reason: DisconnectReason::Restart, timeout_ms: 60_000 }));
    match worker.hear() {
        Some(FromWorker::Close(close)) => assert_eq!(close.key, "web"),
        other => panic!("expected close, got {other:?}"),
    }

    posting.send("a body");
    assert_eq!(posting.last(), "half a body");
    without_request.send(GET);
    assert_eq!(without_request.last(), "hello\n");
    // Last, so that a worker which ends idle connections at once has had time to do it.
    idle.send(GET);
    assert_eq!(idle.last(), "hello\n");
    assert_eq!(worker.hear(), Some(FromWorker::Disconnect(Default::default())));
    assert_eq!(worker.hear(), None);
    assert!(worker.exit().success());

    let _queued = Client::connect(&listener);
    listener.set_nonblocking(false).unwrap();
    listener.accept().expect("the listener lives on");
}

#[test]
fn at_a_stop_the_worker_accepts_what_is_queued() {
    let Some(mut worker) = Worker::start() else { return };
    let listener = listener();
    worker.hello();
    worker.say(&Worker::welcome(&["web"]));
    worker.give(&listener);
    // Stopped, it finds all connections and the order at once.
    worker.signal(Signal::SIGSTOP);
    let mut queued: Vec<_> = (0..20).map(|_| Client::connect(&listener)).collect();
    worker.say(&FromMaster::Disconnect(Disconnect { reason: DisconnectReason::Stop, timeout_ms: 60_000 }));
    worker.signal(Signal::SIGCONT);
    assert!(matches!(worker.hear(), Some(FromWorker::Close(_))));
    queued.iter_mut().for_each(|client| client.send(GET));
    queued.into_iter().for_each(|client| assert_eq!(client.last(), "hello\n"));
    assert_eq!(worker.hear(), Some(FromWorker::Disconnect(Default::default())));
    assert!(worker.exit().success());
}

#[test]
fn a_worker_that_is_told_to_go_while_starting_goes() {
    let Some(mut worker) = Worker::start() else { return };
    worker.hello();
    worker.say(&Worker::welcome(&[]));
    match worker.hear() {
        Some(FromWorker::Listen(listen)) => assert_eq!(listen.address, Some(Address::tcp(Some([127, 0, 0, 1].into()), 8000))),
        other => panic!("expected listen, got {other:?}"),
    }
    worker.say(&FromMaster::Disconnect(Disconnect { reason: DisconnectReason::Restart, timeout_ms: 1_000 }));
    assert_eq!(worker.hear(), Some(FromWorker::Disconnect(Default::default())));
    assert!(worker.exit().success());
}

#[test]
fn without_a_master_the_worker_serves_on_and_leaves_after_the_orphan_timeout() {
    let Some(mut worker) = Worker::start() else { return };
    let listener = listener();
    worker.hello();
    worker.say(&Worker::welcome(&["web"]));
    worker.give(&listener);
    let mut client = Client::connect(&listener);
    client.send(GET);
    client.kept_alive();
    worker.connection = None;
    client.send(GET);
    client.response();
    drop(client);
    assert!(worker.exit().success());
}
