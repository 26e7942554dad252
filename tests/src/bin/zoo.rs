//! An HTTP worker over the bare protocol that keeps every rule, save the one that its argument names: what the conformance kit is tried on.
//!
//! `zoo good`, or with one of the faults below. It has a thread for each connection, so that nothing here depends on an SDK that could share a mistake with the kit.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dutch_master_protocol::codec::{FrameDecoder, Malformed, decode, encode};
use dutch_master_protocol::message::{
    AppMessage, Close, Disconnect, DisconnectReason, Drained, ErrorMessage, FromMaster, FromWorker, Hello, Listen, Listening, VERSION, Welcome, codes, features,
};
use dutch_master_protocol::{env, socket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How long idle connections stay open when the worker was told to go.
const IDLE_GRACE: Duration = Duration::from_secs(2);

/// What is wrong with this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It never speaks to its master.
    NeverConnects,
    /// It says a token that is not its own.
    WrongToken,
    /// It reads with a buffer, and without room for descriptors.
    BufferedReads,
    /// It shuts the shared listener down instead of closing its copy.
    ShutsListener,
    /// It ends idle connections as soon as it is told to go.
    ResetsIdle,
    /// It does not hear the order to go.
    IgnoresDisconnect,
    /// It says `disconnect` and exits while requests are in flight.
    ExitsBeforeDraining,
    /// It sends messages without end.
    Floods,
    /// It passes over messages that break the rules.
    IgnoresMalformed,
    /// It takes a descriptor that comes together with another one.
    TakesTwo,
    /// It waits on for a listener that it was refused.
    IgnoresRefusal,
    /// It does not hear SIGTERM.
    IgnoresTerm,
    /// It takes more time when a second order gives more.
    TakesLonger,
    /// It says that it has closed its listener, and goes on accepting.
    KeepsAccepting,
    /// It stops accepting, and never closes its listener.
    KeepsListener,
    /// It takes connections for idle that have not sent a whole request.
    NewIsIdle,
    /// It closes connections at once after their last response.
    NoLinger,
    /// It offers every feature, and has none.
    PromisesFeatures,
}

impl Fault {
    fn named(name: &str) -> Option<Fault> {
        Some(match name {
            "good" => Fault::None,
            "never-connects" => Fault::NeverConnects,
            "wrong-token" => Fault::WrongToken,
            "buffered-reads" => Fault::BufferedReads,
            "shuts-listener" => Fault::ShutsListener,
            "resets-idle" => Fault::ResetsIdle,
            "ignores-disconnect" => Fault::IgnoresDisconnect,
            "exits-before-draining" => Fault::ExitsBeforeDraining,
            "floods" => Fault::Floods,
            "ignores-malformed" => Fault::IgnoresMalformed,
            "takes-two" => Fault::TakesTwo,
            "ignores-refusal" => Fault::IgnoresRefusal,
            "ignores-term" => Fault::IgnoresTerm,
            "takes-longer" => Fault::TakesLonger,
            "keeps-accepting" => Fault::KeepsAccepting,
            "keeps-listener" => Fault::KeepsListener,
            "new-is-idle" => Fault::NewIsIdle,
            "no-linger" => Fault::NoLinger,
            "promises-features" => Fault::PromisesFeatures,
            _ => return None,
        })
    }
}

fn main() -> Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let fault = Fault::named(&name).ok_or("zoo FAULT: which fault?")?;
    if fault == Fault::NeverConnects {
        loop {
            thread::park();
        }
    }
    if fault == Fault::IgnoresTerm {
        // Before there are threads: they inherit it.
        let mut term = SigSet::empty();
        term.add(Signal::SIGTERM);
        term.thread_block()?;
    }
    let mut master = Master::connect(fault)?;
    let welcome = master.hello(fault)?;
    let Some(listener) = master.listener(&welcome)? else {
        master.say(&FromWorker::Disconnect(Drained::default()))?;
        return Ok(());
    };
    let worker = Arc::new(Worker { fault, order: Mutex::new(None), connections: Mutex::default() });
    master.say(&FromWorker::Listening(Listening::default()))?;
    if fault == Fault::Floods {
        flood(&master)?;
    }
    let order = serve(&worker, &mut master, &listener, welcome.orphan_timeout_ms.map(Duration::from_millis))?;
    drain(&worker, &mut master, listener, order)
}

/// The connection to the master. It reads exactly, with room for descriptors, unless that is its fault.
struct Master {
    socket: Option<UnixStream>,
    decoder: FrameDecoder,
    fds: Vec<OwnedFd>,
    fault: Fault,
    /// The key of the listener that it holds.
    key: Option<String>,
}

enum Heard {
    Message(FromMaster, Option<OwnedFd>),
    /// Nothing that is complete yet.
    More,
}

impl Master {
    fn connect(fault: Fault) -> Result<Master> {
        let socket = UnixStream::connect(std::env::var(env::SOCKET)?)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Master { socket: Some(socket), decoder: FrameDecoder::default(), fds: Vec::new(), fault, key: None })
    }

    fn hello(&mut self, fault: Fault) -> Result<Welcome> {
        let token = std::env::var(env::TOKEN)?;
        let token = if fault == Fault::WrongToken { token.chars().rev().collect() } else { token };
        let promised: &[&str] = if fault == Fault::PromisesFeatures { &[features::RESUME, features::HEARTBEAT, features::MAX_REQUESTS] } else { &[] };
        let features = promised.iter().map(|feature| (*feature).into()).collect();
        self.say(&FromWorker::Hello(Hello { protocol: VERSION, token: Some(token), sdk: Some("zoo".into()), features, ..Hello::default() }))?;
        loop {
            match self.wait()? {
                (FromMaster::Welcome(welcome), _) if welcome.protocol == VERSION => return Ok(welcome),
                (FromMaster::Unknown, _) => {}
                (other, _) => return Err(format!("no welcome: {other:?}").into()),
            }
        }
    }

    /// The first configured listener; none when it was told to go before it came.
    fn listener(&mut self, welcome: &Welcome) -> Result<Option<TcpListener>> {
        let name = welcome.names.first().cloned().ok_or("no listener is configured")?;
        self.say(&FromWorker::Listen(Listen { seq: 1, name: Some(name), ..Listen::default() }))?;
        loop {
            match self.wait()? {
                (FromMaster::Listener(listener), Some(fd)) if listener.seq == 1 => {
                    self.key = Some(listener.key);
                    return Ok(Some(fd.into()));
                }
                (FromMaster::Disconnect(_), _) if self.fault != Fault::IgnoresDisconnect => return Ok(None),
                (FromMaster::Error(error), _) if self.fault != Fault::IgnoresRefusal => return Err(error.message.into()),
                _ => {}
            }
        }
    }

    fn say(&self, message: &FromWorker) -> Result<()> {
        // A master that is gone needs no words.
        let _gone = self.socket.as_ref().map(|mut socket| socket.write_all(&encode(message).unwrap_or_default()));
        Ok(())
    }

    fn wait(&mut self) -> Result<(FromMaster, Option<OwnedFd>)> {
        loop {
            if let Heard::Message(message, fd) = self.hear()? {
                return Ok((message, fd));
            }
        }
    }

    /// Reads once, and takes a message if there is one. After an error the connection is over.
    fn hear(&mut self) -> Result<Heard> {
        let heard = self.read_and_take();
        if heard.is_err() {
            self.hang_up();
        }
        heard
    }

    /// For every copy of the connection.
    fn hang_up(&mut self) {
        let _gone = self.socket.take().map(|socket| socket.shutdown(Shutdown::Both));
    }

    fn read_and_take(&mut self) -> Result<Heard> {
        if let Some(message) = self.take()? {
            return Ok(message);
        }
        self.read()?;
        Ok(self.take()?.unwrap_or(Heard::More))
    }

    fn take(&mut self) -> Result<Option<Heard>> {
        let message = match self.decoder.next_frame() {
            Ok(None) => return Ok(None),
            Ok(Some(frame)) => decode(frame),
            Err(malformed) => Err(malformed),
        };
        if self.fault == Fault::IgnoresMalformed && matches!(message, Err(Malformed::Body { .. } | Malformed::Message(_))) {
            return Ok(Some(Heard::More));
        }
        let message = message.inspect_err(|malformed| {
            let error = ErrorMessage { seq: None, code: malformed.code().into(), message: malformed.to_string() };
            let _gone = self.say(&FromWorker::Error(error));
        })?;
        let fd = match &message {
            FromMaster::Listener(listener) => Some(self.descriptor(listener.fds)?),
            FromMaster::Welcome(_) | FromMaster::Error(_) | FromMaster::Disconnect(_) | FromMaster::ReturnListener(_) | FromMaster::Unknown => None,
        };
        Ok(Some(Heard::Message(message, fd)))
    }

    fn descriptor(&mut self, announced: u8) -> Result<OwnedFd> {
        let byte = loop {
            match self.decoder.next_byte() {
                Some(byte) => break byte,
                None => self.read()?,
            }
        };
        match (announced, byte, self.fds.pop()) {
            (1, 0, Some(fd)) if self.fds.is_empty() || self.fault == Fault::TakesTwo => Ok(fd),
            (announced, byte, fd) => {
                let message = format!("{announced} announced, byte {byte}, {}", if fd.is_some() { "one came" } else { "none came" });
                self.say(&FromWorker::Error(ErrorMessage { seq: None, code: codes::BAD_DESCRIPTORS.into(), message: message.clone() }))?;
                Err(message.into())
            }
        }
    }

    fn read(&mut self) -> Result<()> {
        let socket = self.socket.as_mut().ok_or("no master")?;
        let mut buffer = vec![0; 4_096];
        let bytes = if self.fault == Fault::BufferedReads {
            socket.read(&mut buffer)?
        } else {
            let missing = self.decoder.missing()?;
            let received = socket::receive(socket.as_fd(), &mut buffer[..missing.min(4_096)])?;
            self.fds.extend(received.fds);
            received.bytes
        };
        self.decoder.push(&buffer[..bytes]);
        if bytes == 0 { Err("the master is gone".into()) } else { Ok(()) }
    }
}

/// What the threads of connections share.
struct Worker {
    fault: Fault,
    order: Mutex<Option<Order>>,
    /// Connections by number: idle ones, and busy ones.
    connections: Mutex<HashMap<u64, bool>>,
}

#[derive(Debug, Clone, Copy)]
struct Order {
    reason: DisconnectReason,
    given: Instant,
    deadline: Instant,
}

impl Order {
    fn new(reason: DisconnectReason, timeout: Duration) -> Order {
        Order { reason, given: Instant::now(), deadline: Instant::now() + timeout }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    fn order(&self) -> Option<Order> {
        *locked(&self.order)
    }

    fn note(&self, order: &Disconnect) {
        let new = Order::new(order.reason, Duration::from_millis(order.timeout_ms));
        let mut order = locked(&self.order);
        let takes_longer = self.fault == Fault::TakesLonger;
        *order = Some(order.map_or(new, |old| Order { deadline: if takes_longer { new.deadline } else { old.deadline.min(new.deadline) }, ..old }));
    }
}

/// Accepts until there is an order, or the orphan timeout has passed.
fn serve(worker: &Arc<Worker>, master: &mut Master, listener: &TcpListener, orphan: Option<Duration>) -> Result<Order> {
    let mut leave_at = None;
    loop {
        if let Some(order) = worker.order() {
            return Ok(order);
        }
        if leave_at.is_some_and(|at| at <= Instant::now()) {
            return Ok(Order::new(DisconnectReason::Other, Duration::from_secs(30)));
        }
        let mut fds = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        fds.extend(master.socket.as_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        poll(&mut fds, PollTimeout::from(20_u8))?;
        let [knocked, spoken] = [0, 1].map(|at| fds.get(at).and_then(PollFd::any).unwrap_or(false));
        if knocked {
            accept(worker, listener);
        }
        if spoken {
            hear(worker, master);
            if master.socket.is_none() {
                leave_at = orphan.map(|orphan| Instant::now() + orphan);
            }
        }
    }
}

/// Everything that the master has said by now.
fn hear(worker: &Worker, master: &mut Master) {
    while let Ok(heard) = master.hear() {
        match heard {
            Heard::More => {}
            Heard::Message(FromMaster::Disconnect(_), _) if worker.fault == Fault::IgnoresDisconnect => {}
            Heard::Message(FromMaster::Disconnect(order), _) => worker.note(&order),
            Heard::Message(FromMaster::Listener(listener), fd) => {
                drop(fd);
                let _gone = master.say(&FromWorker::Close(Close { key: listener.key }));
            }
            Heard::Message(FromMaster::Error(error), _) if error.seq.is_none() => master.hang_up(),
            Heard::Message(..) => {}
        }
        let more = master.socket.as_ref().is_some_and(|socket| {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        });
        if !more {
            return;
        }
    }
}

/// Takes one connection, if another worker was not faster.
fn accept(worker: &Arc<Worker>, listener: &TcpListener) -> bool {
    static ACCEPTED: AtomicU64 = AtomicU64::new(0);
    let Ok((stream, _)) = listener.accept() else { return false };
    let id = ACCEPTED.fetch_add(1, Ordering::Relaxed);
    locked(&worker.connections).insert(id, true);
    let worker = Arc::clone(worker);
    thread::spawn(move || {
        let _client_is_gone = converse(&worker, id, stream);
        locked(&worker.connections).remove(&id);
    });
    true
}

/// Answers requests until one side has enough, then ends the connection in an orderly way.
fn converse(worker: &Worker, id: u64, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    let (mut request, mut idle, mut is_last) = (Vec::new(), false, false);
    while !is_last {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => request.push(byte[0]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        if worker.fault == Fault::ExitsBeforeDraining && worker.order().is_some() {
            return Ok(());
        }
        idle &= request.is_empty();
        locked(&worker.connections).insert(id, !idle);
        let order = worker.order();
        if request.ends_with(b"\r\n\r\n") {
            (is_last, idle) = (order.is_some(), true);
            let connection = if is_last { "close" } else { "keep-alive" };
            stream.write_all(format!("HTTP/1.1 200 OK\r\nConnection: {connection}\r\nContent-Length: 5\r\n\r\nhello").as_bytes())?;
            request.clear();
        }
        match order {
            Some(_) if idle && worker.fault == Fault::ResetsIdle => return Ok(()),
            Some(_) if is_last && worker.fault == Fault::NoLinger => return Ok(()),
            Some(order) if worker.fault == Fault::NewIsIdle && order.given.elapsed() > IDLE_GRACE => break,
            Some(order) if idle && order.given.elapsed() > IDLE_GRACE || Instant::now() + Duration::from_millis(300) > order.deadline => break,
            Some(_) | None => {}
        }
    }
    stream.shutdown(Shutdown::Write)?;
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        match stream.read(&mut [0; 1_024]) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Goes, by the rules of section 12.
fn drain(worker: &Arc<Worker>, master: &mut Master, listener: TcpListener, order: Order) -> Result<()> {
    locked(&worker.order).get_or_insert(order);
    if order.reason == DisconnectReason::Stop {
        while accept(worker, &listener) {}
    }
    if worker.fault == Fault::ShutsListener {
        nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both)?;
    }
    if worker.fault == Fault::KeepsAccepting {
        let worker = Arc::clone(worker);
        thread::spawn(move || {
            loop {
                accept(&worker, &listener);
                thread::sleep(Duration::from_millis(5));
            }
        });
    } else if worker.fault == Fault::KeepsListener {
        std::mem::forget(listener);
    } else {
        drop(listener);
    }
    // Its connections end before it says anything, so that what a client sees does not depend on who is faster.
    while worker.fault == Fault::ExitsBeforeDraining && !locked(&worker.connections).is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    if let Some(key) = master.key.take() {
        master.say(&FromWorker::Close(Close { key }))?;
    }
    if worker.fault == Fault::ExitsBeforeDraining {
        master.say(&FromWorker::Disconnect(Drained::default()))?;
        exit(0);
    }
    while !locked(&worker.connections).is_empty() && worker.order().is_none_or(|order| Instant::now() < order.deadline) {
        let spoken = master.socket.as_ref().is_some_and(|socket| {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(20_u8)).is_ok_and(|ready| ready > 0)
        });
        match spoken {
            true => hear(worker, master),
            false if master.socket.is_none() => thread::sleep(Duration::from_millis(20)),
            false => {}
        }
    }
    master.say(&FromWorker::Disconnect(Drained::default()))?;
    if worker.fault == Fault::Floods {
        // Longer than the kit listens after the last word.
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// As fast as the master reads.
fn flood(master: &Master) -> Result<()> {
    let mut socket = master.socket.as_ref().ok_or("no master")?.try_clone()?;
    let frame = encode(&FromWorker::Message(AppMessage { json: "{}".into() }))?;
    thread::spawn(move || while socket.write_all(&frame).is_ok() {});
    Ok(())
}
