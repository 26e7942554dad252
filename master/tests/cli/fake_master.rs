//! A master that follows a script, for what a real one would do only in rare moments.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use dutch_master_protocol::codec::{self, FrameDecoder};
use dutch_master_protocol::control::{FromControl, ToControl};
use dutch_master_protocol::message::{Role, Welcome};

use crate::process::{Folder, HANG};

/// Takes one connection.
pub(crate) struct FakeMaster {
    pub(crate) socket: PathBuf,
    script: JoinHandle<()>,
}

impl FakeMaster {
    /// Runs `script` once a client said hello and was welcomed.
    pub(crate) fn new(folder: &Folder, script: impl FnOnce(&mut Peer) + Send + 'static) -> FakeMaster {
        FakeMaster::without_welcome(folder, |peer| {
            match peer.hear() {
                Some(FromControl::Hello(hello)) => assert_eq!((hello.protocol, hello.role, hello.token), (1, Role::Control, None)),
                other => panic!("no hello: {other:?}"),
            }
            peer.say(&ToControl::Welcome(Welcome { protocol: 1, ..Welcome::default() }));
            script(peer);
        })
    }

    pub(crate) fn without_welcome(folder: &Folder, script: impl FnOnce(&mut Peer) + Send + 'static) -> FakeMaster {
        let socket = folder.path().join("fake.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let script = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(HANG)).unwrap();
            script(&mut Peer { stream, decoder: FrameDecoder::default() });
        });
        FakeMaster { socket, script }
    }

    /// Fails the test when the script failed.
    #[track_caller]
    pub(crate) fn check(self) {
        self.script.join().expect("the client did what the script expected");
    }
}

/// The client at the other end.
pub(crate) struct Peer {
    stream: UnixStream,
    decoder: FrameDecoder,
}

impl Peer {
    pub(crate) fn say(&mut self, message: &ToControl) {
        self.say_bytes(&codec::encode(message).unwrap());
    }

    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next message; `None`: the client has gone.
    pub(crate) fn hear(&mut self) -> Option<FromControl> {
        loop {
            if let Some(body) = self.decoder.next_frame().unwrap() {
                return Some(codec::decode(body).unwrap());
            }
            let mut buffer = [0; 1024];
            match self.stream.read(&mut buffer).unwrap() {
                0 => return None,
                n => self.decoder.push(&buffer[..n]),
            }
        }
    }
}
