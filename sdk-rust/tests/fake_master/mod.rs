//! A master made of one thread and the protocol crate, for the tests beside it. Every wait is bounded, so that a broken SDK fails a test instead of hanging it.
#![allow(dead_code)] // each test file uses its own part
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)] // it is part of tests

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dutch_master_protocol::codec::{self, FrameDecoder};
use dutch_master_protocol::message::{Disconnect, DisconnectReason, ErrorMessage, FromMaster, FromWorker, Hello, Listen, Listener, Resume, Welcome};
use dutch_master_protocol::socket::{receive, send_fd};
use dutch_master_worker::{Settings, Worker};
use nix::poll::{PollFd, PollFlags, poll};

/// How long anything may take before a test fails: only ever waited for when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct FakeMaster {
    /// None while it is dead.
    listener: Option<UnixListener>,
    directory: PathBuf,
}

impl FakeMaster {
    pub(crate) fn new() -> FakeMaster {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("dutch-master-fake-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let listener = UnixListener::bind(directory.join("socket")).unwrap();
        FakeMaster { listener: Some(listener), directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("socket")
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::new(self.path(), "token")
    }

    /// Waits for a worker and reads its `hello`.
    pub(crate) fn accept(&self) -> (Peer, Hello) {
        let listener = self.listener.as_ref().unwrap();
        let patience = u16::try_from(PATIENCE.as_millis()).unwrap();
        assert_eq!(poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], patience), Ok(1), "a worker connects");
        let mut peer = Peer { socket: listener.accept().unwrap().0, decoder: FrameDecoder::default(), fds: VecDeque::new() };
        peer.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        match peer.expect() {
            FromWorker::Hello(hello) => (peer, hello),
            other => panic!("{other:?} instead of hello"),
        }
    }

    /// Ends without a word, and leaves the socket's file behind.
    pub(crate) fn die(&mut self, peer: Peer) {
        self.listener = None;
        drop(peer);
    }

    /// Another one takes its place.
    pub(crate) fn succeed(&mut self) {
        let next = self.directory.join("next");
        self.listener = Some(UnixListener::bind(&next).unwrap());
        std::fs::rename(next, self.path()).unwrap();
    }

    /// Waits for a worker that comes back, and takes it.
    #[track_caller]
    pub(crate) fn take_back(&self, welcome: Welcome) -> (Peer, Resume) {
        let (peer, hello) = self.accept();
        peer.say(&FromMaster::Welcome(welcome));
        (peer, hello.resume.expect("the worker comes back"))
    }

    /// A worker and the master's end of its connection.
    pub(crate) fn connect(&self, welcome: Welcome) -> (Worker, Peer) {
        self.connect_as(self.settings(), welcome)
    }

    pub(crate) fn connect_as(&self, settings: Settings, welcome: Welcome) -> (Worker, Peer) {
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
    fds: VecDeque<OwnedFd>,
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

    /// The frame in front of a descriptor.
    pub(crate) fn announce(&self, seq: u64) {
        self.say(&FromMaster::Listener(Listener { seq, key: format!("key {seq}"), name: None, data: Some("data".into()), address: None, fds: 1 }));
    }

    /// Answers a `listen` with `fd`.
    pub(crate) fn hand_over(&self, seq: u64, fd: impl AsFd) {
        self.announce(seq);
        send_fd(self.socket.as_fd(), fd.as_fd()).unwrap();
    }

    /// The next message. `None`: the worker ended the connection.
    pub(crate) fn next(&mut self) -> Option<FromWorker> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(codec::decode(frame).unwrap());
            }
            if !self.read() {
                return None;
            }
        }
    }

    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let received = receive(self.socket.as_fd(), &mut buffer).unwrap();
        self.decoder.push(&buffer[..received.bytes]);
        self.fds.extend(received.fds);
        received.bytes > 0
    }

    /// A listener that the worker gives back.
    #[track_caller]
    pub(crate) fn expect_listener(&mut self) -> (Listener, OwnedFd) {
        let FromWorker::Listener(listener) = self.expect() else { panic!("no listener") };
        let byte = loop {
            if let Some(byte) = self.decoder.next_byte() {
                break byte;
            }
            assert!(self.read(), "the worker ended the connection");
        };
        assert_eq!((byte, self.fds.len()), (0, 1));
        (listener, self.fds.pop_front().unwrap())
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
