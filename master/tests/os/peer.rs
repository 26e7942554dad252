//! The other end of a connection to the master, byte by byte.

use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use dutch_master_protocol::codec::{self, FrameDecoder};
use dutch_master_protocol::message::{ErrorMessage, FromMaster, FromWorker, Hello, Listening, Role, VERSION, Welcome};
use dutch_master_protocol::{env, socket};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::harness::{HANG, Master, variable};

pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    decoder: FrameDecoder,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Peer {
    pub(crate) fn connect(socket: &Path) -> Peer {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        stream.set_write_timeout(Some(HANG)).unwrap();
        Peer { stream, decoder: FrameDecoder::default(), fds: Vec::new() }
    }

    /// Speaks for the worker with this pid: connects and is welcomed.
    #[track_caller]
    pub(crate) fn of_worker(master: &Master, pid: u32) -> (Peer, Welcome) {
        let mut peer = Peer::connect(&master.socket);
        peer.say(&FromWorker::Hello(Hello { protocol: VERSION, token: variable(pid, env::TOKEN), sdk: Some("test".into()), ..Hello::default() }));
        match peer.hear() {
            Some(FromMaster::Welcome(welcome)) => (peer, welcome),
            other => panic!("no welcome but {other:?}"),
        }
    }

    /// As [`of_worker`](Self::of_worker), and says that it serves.
    #[track_caller]
    pub(crate) fn of_serving_worker(master: &Master, pid: u32) -> Peer {
        let (mut peer, _) = Peer::of_worker(master, pid);
        peer.say(&FromWorker::Listening(Listening::default()));
        peer
    }

    /// Speaks for the next worker that is started.
    #[track_caller]
    pub(crate) fn of_next_worker(master: &mut Master) -> (Peer, Welcome) {
        let pid = master.next_worker();
        Peer::of_worker(master, pid)
    }

    /// Speaks for the next worker that is started, which serves.
    #[track_caller]
    pub(crate) fn of_next_serving_worker(master: &mut Master) -> Peer {
        let pid = master.next_worker();
        Peer::of_serving_worker(master, pid)
    }

    /// A control client that was welcomed.
    #[track_caller]
    pub(crate) fn client(master: &Master) -> Peer {
        let mut peer = Peer::connect(&master.socket);
        peer.say(&FromWorker::Hello(Hello { protocol: VERSION, role: Role::Control, ..Hello::default() }));
        assert!(matches!(peer.hear(), Some(FromMaster::Welcome(_))));
        peer
    }

    pub(crate) fn say(&mut self, message: &impl Serialize) {
        self.stream.write_all(&codec::encode(message).unwrap()).unwrap();
    }

    /// The next message; `None`: the master has closed the connection.
    #[track_caller]
    pub(crate) fn hear<M: DeserializeOwned>(&mut self) -> Option<M> {
        loop {
            if let Some(body) = self.decoder.next_frame().unwrap() {
                return Some(codec::decode(body).unwrap());
            }
            let mut buffer = [0; 4_096];
            match socket::receive(self.stream.as_fd(), &mut buffer) {
                Ok(received) if received.bytes > 0 => {
                    self.fds.extend(received.fds);
                    self.decoder.push(&buffer[..received.bytes]);
                }
                Ok(_) => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The zero byte behind a frame that announced a descriptor, and the descriptor.
    #[track_caller]
    pub(crate) fn take_fd(&mut self) -> OwnedFd {
        while self.fds.is_empty() {
            let mut buffer = [0; 1];
            let received = socket::receive(self.stream.as_fd(), &mut buffer).unwrap();
            assert_eq!(received.bytes, 1);
            self.fds.extend(received.fds);
            self.decoder.push(&buffer);
        }
        assert_eq!(self.decoder.next_byte(), Some(0));
        self.fds.remove(0)
    }

    /// The code of the error that ends the connection. Nothing comes after it.
    #[track_caller]
    pub(crate) fn last_words(&mut self) -> String {
        match self.hear() {
            Some(FromMaster::Error(ErrorMessage { seq: None, code, .. })) => {
                assert!(self.hear::<FromMaster>().is_none(), "the connection has ended");
                code
            }
            other => panic!("no error but {other:?}"),
        }
    }
}
