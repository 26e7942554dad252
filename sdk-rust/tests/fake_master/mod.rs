//! A master made of one thread and the protocol crate, for the tests beside it. Every wait is bounded, so that a broken SDK fails a test instead of hanging it.
#![allow(dead_code)] // each test file uses its own part
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)] // it is part of tests

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dutch_master_protocol::codec::{self, FrameDecoder};
use dutch_master_protocol::message::{Disconnect, DisconnectReason, ErrorMessage, FromMaster, FromWorker, Hello, Listen, Listener, Welcome};
use dutch_master_protocol::socket::{receive, send_fd};
use dutch_master_worker::{Settings, Worker};

/// How long anything may take before a test fails: only ever waited for when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct FakeMaster {
    listener: UnixListener,
    directory: PathBuf,
}

impl FakeMaster {
    pub(crate) fn new() -> FakeMaster {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("dutch-master-fake-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let listener = UnixListener::bind(directory.join("socket")).unwrap();
        FakeMaster { listener, directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("socket")
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::new(self.path(), "token")
    }

    /// Waits for a worker and reads its `hello`.
    pub(crate) fn accept(&self) -> (Peer, Hello) {
        let mut peer = Peer { socket: self.listener.accept().unwrap().0, decoder: FrameDecoder::default() };
        peer.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        match peer.expect() {
            FromWorker::Hello(hello) => (peer, hello),
            other => panic!("{other:?} instead of hello"),
        }
    }

    /// A worker and the master's end of its connection.
    pub(crate) fn connect(&self, welcome: Welcome) -> (Worker, Peer) {
        let settings = self.settings();
        let connecting = std::thread::spawn(move || Worker::connect(settings));
        let (peer, _) = self.accept();
        peer.say(&FromMaster::Welcome(welcome));
        (connecting.join().unwrap().unwrap(), peer)
    }
}

impl Drop for FakeMaster {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn welcome() -> Welcome {
    Welcome { protocol: 1, worker: 7, generation: 3, slot: 1, size: 2, orphan_timeout_ms: Some(60_000), ..Welcome::default() }
}

/// The master's end of one worker's connection.
pub(crate) struct Peer {
    pub(crate) socket: UnixStream,
    decoder: FrameDecoder,
}

impl Peer {
    pub(crate) fn say(&self, message: &FromMaster) {
        self.write(&codec::encode(message).unwrap());
    }

    pub(crate) fn write(&self, bytes: &[u8]) {
        std::io::Write::write_all(&mut &self.socket, bytes).unwrap();
    }

    pub(crate) fn disconnect(&self, reason: DisconnectReason, timeout: Duration) {
        self.say(&FromMaster::Disconnect(Disconnect { reason, timeout_ms: timeout.as_millis() as u64 }));
    }

    pub(crate) fn refuse(&self, seq: Option<u64>, code: &str) {
        self.say(&FromMaster::Error(ErrorMessage { seq, code: code.into(), message: "no".into() }));
    }

    /// Answers a `listen` with `fd`.
    pub(crate) fn hand_over(&self, seq: u64, fd: impl AsFd) {
        self.say(&FromMaster::Listener(Listener { seq, key: format!("key {seq}"), name: None, data: Some("data".into()), address: None, fds: 1 }));
        send_fd(self.socket.as_fd(), fd.as_fd()).unwrap();
    }

    /// The next message. `None`: the worker ended the connection.
    pub(crate) fn next(&mut self) -> Option<FromWorker> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(codec::decode(frame).unwrap());
            }
            match receive(self.socket.as_fd(), &mut buffer).unwrap().bytes {
                0 => return None,
                n => self.decoder.push(&buffer[..n]),
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self) -> FromWorker {
        self.next().expect("the worker ended the connection")
    }

    #[track_caller]
    pub(crate) fn expect_listen(&mut self) -> Listen {
        match self.expect() {
            FromWorker::Listen(listen) => listen,
            other => panic!("{other:?} instead of listen"),
        }
    }
}

/// A listener as a master makes it.
pub(crate) fn tcp() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}
