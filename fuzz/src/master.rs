//! A whole master behind its socket, its reconciler included, against peers that do anything: it goes on, answers in well-formed messages alone, and nothing is left behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Once;
use std::time::Instant;

use dutch_master_protocol::codec::{self, FrameDecoder};
use dutch_master_protocol::control::{FromControl, Status, ToControl};
use dutch_master_protocol::message::{FromMaster, FromWorker, Hello, Role, VERSION, codes};
use dutch_master_protocol::{env, socket};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::guard::Guard;
use crate::pool::{HANG, Pool};
use crate::script::{self, By, Step, TOKEN, What};

/// Plays the steps that the input means against a fresh master.
pub fn run(data: &[u8]) {
    prepare();
    let steps = script::read(data);
    let before = open_descriptors();
    let mut stage = Stage { pool: Pool::start(), ids: Vec::new(), peers: BTreeMap::new(), tokens: BTreeMap::new(), said_stop: false };
    stage.next_worker();
    steps.iter().for_each(|step| stage.step(step));
    for (_, peer) in std::mem::take(&mut stage.peers) {
        peer.hear_to_the_end();
    }
    let lives = stage.settle();
    let said_stop = stage.said_stop;
    let ended = stage.pool.end();
    assert!(said_stop || (lives && ended.is_none()), "the master has ended ({ended:?}), and nobody asked it to");
    assert_eq!(open_descriptors(), before, "descriptors are left behind");
}

/// Once for the process: what stays open in it is opened, by a master that nobody speaks to.
#[allow(unsafe_code)]
fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Signals for a worker go to the process that speaks for it, which is this one; and the engine's `main` leaves SIGPIPE as it was.
        for ignored in [Signal::SIGTERM, Signal::SIGPIPE] {
            // SAFETY: no handler runs.
            let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
        }
        let _ = Pool::start().end();
    });
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").into_iter().flatten().count()
}

struct Stage {
    pool: Pool,
    /// The workers, the newest last.
    ids: Vec<u32>,
    peers: BTreeMap<By, Peer>,
    tokens: BTreeMap<u32, Vec<u8>>,
    /// A control client may have asked the master to stop.
    said_stop: bool,
}

impl Stage {
    fn step(&mut self, Step { by, what }: &Step) {
        match what {
            What::Settle => _ = self.settle(),
            What::NextWorker => self.next_worker(),
            What::HangUp => drop(self.peers.remove(by)),
            What::HalfClose => self.with_peer(*by, |peer| peer.stream.shutdown(Shutdown::Write).is_ok()),
            What::SendFd => self.with_peer(*by, |peer| {
                let sent = File::open("/dev/null").and_then(|null| socket::send_fd(peer.stream.as_fd(), null.as_fd()));
                // It arrives with a zero byte.
                peer.guard.allows(&[0]) && sent.is_ok()
            }),
            What::Send(said) => {
                let said = self.with_token(*by, said);
                self.with_peer(*by, |peer| peer.guard.allows(&said) && peer.stream.write_all(&said).is_ok());
            }
        }
    }

    /// A connection is made when it is first needed, and is over when something could not be done on it.
    fn with_peer(&mut self, by: By, act: impl FnOnce(&mut Peer) -> bool) {
        if !self.peers.contains_key(&by) {
            let Some(stream) = self.pool.connect() else { return };
            self.peers.insert(by, Peer { stream, guard: Guard::default() });
        }
        let Some(peer) = self.peers.get_mut(&by) else { return };
        let is_done = act(peer);
        self.said_stop |= peer.guard.said_stop;
        if !is_done {
            self.peers.remove(&by);
        }
    }

    fn with_token(&self, by: By, said: &[u8]) -> Vec<u8> {
        let nth_newest = if by == By::Old { 2 } else { 1 };
        let id = self.ids.len().checked_sub(nth_newest).and_then(|at| self.ids.get(at));
        let mut said = said.to_vec();
        if let Some(token) = id.and_then(|id| self.tokens.get(id))
            && let Some(at) = said.windows(TOKEN.len()).position(|part| part == TOKEN)
        {
            said[at..at + TOKEN.len()].copy_from_slice(token);
        }
        said
    }

    /// A control client of its own is answered, so what was sent before has been handled. `false`: the master has ended.
    fn settle(&mut self) -> bool {
        self.status().is_some()
    }

    fn next_worker(&mut self) {
        let workers = self.status().unwrap_or_default();
        let Some((id, pid)) = workers.into_iter().max().filter(|(id, _)| self.ids.last() < Some(id)) else { return };
        self.tokens.extend(pid.and_then(token_of).map(|token| (id, token)));
        self.ids.push(id);
        if let Some(peer) = self.peers.remove(&By::Worker) {
            self.peers.insert(By::Old, peer);
        }
    }

    /// Id and process of each worker.
    fn status(&self) -> Option<Vec<(u32, Option<u32>)>> {
        let mut stream = self.pool.connect()?;
        let hello = codec::encode(&FromWorker::Hello(Hello { protocol: VERSION, role: Role::Control, ..Hello::default() }));
        let status = codec::encode(&FromControl::Status(Status {}));
        stream.write_all(&[hello.ok()?, status.ok()?].concat()).ok()?;
        let (mut decoder, mut workers) = (FrameDecoder::default(), Vec::new());
        loop {
            while let Some(body) = decoder.next_frame().expect("well-formed frames") {
                match codec::decode::<ToControl>(body).expect("well-formed messages") {
                    ToControl::Worker(worker) => workers.push((worker.id, worker.pid)),
                    ToControl::Done(_) => return Some(workers),
                    ToControl::Error(error) if error.code == codes::STOPPING => return Some(workers),
                    ToControl::Error(error) => panic!("no status but {error:?}"),
                    ToControl::Welcome(_) | ToControl::Pool(_) | ToControl::Listener(_) => {}
                    other @ (ToControl::Accepted(_) | ToControl::Progress(_) | ToControl::MetricsText(_) | ToControl::Unknown) => {
                        panic!("no answer to `status`: {other:?}")
                    }
                }
            }
            decoder.push(&read(&stream)?);
        }
    }
}

/// What one read brings; `None`: the master has ended the connection.
fn read(stream: &UnixStream) -> Option<Vec<u8>> {
    let mut buffer = [0; 16 * 1024];
    match socket::receive(stream.as_fd(), &mut buffer) {
        Ok(received) => Some(buffer[..received.bytes].to_vec()).filter(|bytes| !bytes.is_empty()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("the master is silent: {error}"),
    }
}

struct Peer {
    stream: UnixStream,
    guard: Guard,
}

impl Peer {
    /// Says nothing more, and hears what there is: frames and zero bytes with descriptors. A connection that is closed from here is ended by the master, too.
    fn hear_to_the_end(self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut decoder = FrameDecoder::default();
        while let Some(body) = self.next(&mut decoder, |decoder| decoder.next_frame().expect("well-formed frames").map(<[u8]>::to_vec)) {
            if announces_fd(&body) {
                let Some(byte) = self.next(&mut decoder, FrameDecoder::next_byte) else { return };
                assert_eq!(byte, 0, "behind the frame is the byte of a descriptor");
            }
        }
        assert!(decoder.is_empty(), "a frame was cut");
    }

    /// The next of what is decoded; `None`: the master has ended the connection.
    fn next<T>(&self, decoder: &mut FrameDecoder, take: impl Fn(&mut FrameDecoder) -> Option<T>) -> Option<T> {
        loop {
            if let Some(next) = take(decoder) {
                return Some(next);
            }
            decoder.push(&read(&self.stream)?);
        }
    }
}

fn announces_fd(body: &[u8]) -> bool {
    match codec::decode::<FromMaster>(body) {
        Ok(FromMaster::Unknown) | Err(_) => {
            let message = codec::decode::<ToControl>(body);
            assert!(message.as_ref().is_ok_and(|message| *message != ToControl::Unknown), "said by a master: {message:?}");
            false
        }
        Ok(FromMaster::Listener(listener)) => listener.fds == 1,
        Ok(_) => false,
    }
}

/// The kernel shows a new program's environment a moment after exec.
fn token_of(pid: u32) -> Option<Vec<u8>> {
    let until = Instant::now() + HANG;
    let variable = format!("{}=", env::TOKEN).into_bytes();
    while Instant::now() < until {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        if let Some(token) = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(&variable[..])) {
            return Some(token.to_vec()).filter(|token| token.len() == TOKEN.len());
        }
        std::thread::yield_now();
    }
    None
}
