//! A small master of one worker and one listener that keeps every rule, save the one that its first argument names: what `conformance --master` is tried on.
//!
//! `master-zoo FAULT WORKER [ARGS…]`. One thread for each connection and one lock around everything: it is to be plain, not good.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, exit};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use dutch_master_protocol::codec::{FrameDecoder, Malformed, decode, encode};
use dutch_master_protocol::control::{Accepted, Done, FromControl, Outcome, Phase, PoolStatus, ToControl, WorkerStatus};
use dutch_master_protocol::limits::JSON_MAX;
use dutch_master_protocol::message::{
    Address, Disconnect, DisconnectReason, ErrorMessage, FromMaster, FromWorker, Hello, Kind, Listen, Listener, Role, VERSION, Welcome, codes,
};
use dutch_master_protocol::{env, socket};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

/// What is wrong with this master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Every token is the newest worker's.
    TakesAnyToken,
    /// Its zero bytes bring no descriptor.
    DropsDescriptors,
    /// What it does not know is malformed to it.
    RefusesUnknown,
    /// Malformed input is its end.
    DiesOfGarbage,
    /// It closes without saying why.
    SaysNoWhy,
    /// A drained worker gets no SIGTERM.
    EndsNobody,
}

/// Everything that the threads share.
struct Pool {
    fault: Fault,
    command: Vec<String>,
    path: PathBuf,
    workers: BTreeMap<u32, Worker>,
    generation: u32,
    listener: Option<TcpListener>,
    data: Option<String>,
    /// A client that waits for the end of a restart.
    waiting: Option<UnixStream>,
    is_stopping: bool,
}

struct Worker {
    token: String,
    pid: u32,
    connection: Option<UnixStream>,
    /// Why it has to go once a replacement serves.
    goes: Option<DisconnectReason>,
    is_replaced: bool,
    is_going: bool,
    held: Vec<String>,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

fn locked() -> MutexGuard<'static, Option<Pool>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with<T>(act: impl FnOnce(&mut Pool) -> T) -> T {
    act(locked().as_mut().expect("set at the start"))
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let fault = match words.next().unwrap_or_default().as_str() {
        "good" => Fault::None,
        "takes-any-token" => Fault::TakesAnyToken,
        "drops-descriptors" => Fault::DropsDescriptors,
        "refuses-unknown" => Fault::RefusesUnknown,
        "dies-of-garbage" => Fault::DiesOfGarbage,
        "says-no-why" => Fault::SaysNoWhy,
        "ends-nobody" => Fault::EndsNobody,
        other => return Err(format!("no such fault: {other}").into()),
    };
    let folder = std::env::var_os("XDG_RUNTIME_DIR").ok_or("XDG_RUNTIME_DIR is not set")?;
    let path = PathBuf::from(folder).join("zoo");
    let acceptor = UnixListener::bind(&path)?;
    let listener = Some(TcpListener::bind("127.0.0.1:0")?);
    let command = words.collect();
    let pool = Pool { fault, command, path, workers: BTreeMap::new(), generation: 1, listener, data: None, waiting: None, is_stopping: false };
    *locked() = Some(pool);
    with(Pool::spawn)?;
    for connection in acceptor.incoming() {
        let connection = connection?;
        thread::spawn(move || serve(connection));
    }
    Ok(())
}

/// How a connection has to end.
enum End {
    Gone,
    Refused(&'static str),
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> End {
        End::Refused(malformed.code())
    }
}

/// Whose connection it is.
#[derive(Clone, Copy)]
enum Who {
    Unknown,
    Worker(u32),
    Client,
}

fn serve(connection: UnixStream) {
    let (mut who, fault) = (Who::Unknown, with(|pool| pool.fault));
    let end = hear(&connection, &mut who, fault);
    if let End::Refused(code) = end {
        let is_garbage = [codes::MALFORMED, codes::TOO_LARGE, codes::BAD_DESCRIPTORS].contains(&code);
        if is_garbage && fault == Fault::DiesOfGarbage {
            exit(1);
        }
        if fault != Fault::SaysNoWhy {
            say(&connection, &FromMaster::Error(ErrorMessage { seq: None, code: code.into(), message: "that is against the rules".into() }));
        }
    }
    let _gone = connection.shutdown(std::net::Shutdown::Both);
    if let Who::Worker(id) = who {
        with(|pool| pool.lost(id));
    }
}

fn hear(connection: &UnixStream, who: &mut Who, fault: Fault) -> End {
    let mut decoder = FrameDecoder::default();
    loop {
        let mut buffer = [0; 4_096];
        let received = match socket::receive(connection.as_fd(), &mut buffer) {
            Ok(received) if received.bytes > 0 => received,
            Ok(_) | Err(_) => return End::Gone,
        };
        if !received.fds.is_empty() {
            return End::Refused(codes::BAD_DESCRIPTORS);
        }
        decoder.push(&buffer[..received.bytes]);
        loop {
            let outcome = match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => handle(connection, who, frame, fault),
                Err(malformed) => Err(malformed.into()),
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // what is left is the pool's business
fn handle(connection: &UnixStream, who: &mut Who, frame: &[u8], fault: Fault) -> std::result::Result<(), End> {
    match *who {
        Who::Unknown => match decode(frame)? {
            FromWorker::Hello(hello) => *who = greet(connection, &hello)?,
            FromWorker::Listen(_)
            | FromWorker::Close(_)
            | FromWorker::Listening(_)
            | FromWorker::RequestRestart(_)
            | FromWorker::Leaving(_)
            | FromWorker::Disconnect(_)
            | FromWorker::Heartbeat(_)
            | FromWorker::Message(_)
            | FromWorker::Listener(_)
            | FromWorker::Error(_)
            | FromWorker::Unknown => return Err(End::Refused(codes::UNEXPECTED)),
        },
        Who::Worker(id) => match decode(frame)? {
            FromWorker::Unknown if fault == Fault::RefusesUnknown => return Err(End::Refused(codes::MALFORMED)),
            FromWorker::Hello(_) | FromWorker::Listener(_) => return Err(End::Refused(codes::UNEXPECTED)),
            FromWorker::Message(message) if message.json.len() > JSON_MAX => return Err(End::Refused(codes::TOO_LARGE)),
            message => with(|pool| pool.said(id, connection, message)),
        },
        Who::Client => {
            let request = decode(frame)?;
            with(|pool| pool.asked(connection, &request));
        }
    }
    Ok(())
}

fn greet(connection: &UnixStream, hello: &Hello) -> std::result::Result<Who, End> {
    if hello.protocol < VERSION {
        return Err(End::Refused(codes::BAD_VERSION));
    }
    with(|pool| {
        let welcome = Welcome { protocol: VERSION, generation: pool.generation, size: 1, names: vec!["web".into()], ..Welcome::default() };
        if hello.role == Role::Control {
            say(connection, &FromMaster::Welcome(welcome));
            return Ok(Who::Client);
        }
        let any = pool.fault == Fault::TakesAnyToken;
        let found = pool.workers.iter_mut().rev().find(|(_, worker)| any || hello.token.as_ref() == Some(&worker.token));
        let Some((id, worker)) = found else { return Err(End::Refused(codes::BAD_TOKEN)) };
        if worker.connection.is_some() && !any {
            return Err(End::Refused(codes::LIMIT));
        }
        worker.connection = connection.try_clone().ok();
        say(connection, &FromMaster::Welcome(Welcome { worker: *id, ..welcome }));
        Ok(Who::Worker(*id))
    })
}

fn say(mut connection: &UnixStream, message: &impl Serialize) {
    let _gone = connection.write_all(&encode(message).unwrap_or_default());
}

impl Pool {
    #[allow(unsafe_code)]
    fn spawn(&mut self) -> Result<()> {
        let id = self.workers.keys().next_back().map_or(1, |last| last + 1);
        let token = format!("{:032x}", u128::from(id) << 64 | u128::from(std::process::id()));
        let (program, arguments) = self.command.split_first().ok_or("no worker")?;
        let mut command = Command::new(program);
        command.args(arguments).env(env::SOCKET, &self.path).env(env::TOKEN, &token).env(env::WORKER_ID, id.to_string()).env(env::SLOT, "0");
        command.env_remove("LISTEN_FDS").env_remove("WATCHDOG_USEC").env_remove("NOTIFY_SOCKET");
        // SAFETY: `setsid` is async-signal-safe.
        unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
        let mut child = command.spawn()?;
        let pid = child.id();
        thread::spawn(move || child.wait().map(|_| with(|pool| pool.exited(id))));
        self.workers.insert(id, Worker { token, pid, connection: None, goes: None, is_replaced: false, is_going: false, held: Vec::new() });
        Ok(())
    }

    fn replace(&mut self, id: u32) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| !worker.is_replaced) else { return };
        worker.is_replaced = true;
        if !self.is_stopping {
            let _failed = self.spawn();
        }
    }

    fn end(&self, id: u32) {
        if let Some(worker) = self.workers.get(&id).filter(|_| self.fault != Fault::EndsNobody) {
            let _gone = kill(Pid::from_raw(worker.pid.cast_signed()), Signal::SIGTERM);
        }
    }

    fn said(&mut self, id: u32, connection: &UnixStream, message: FromWorker) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match message {
            FromWorker::Listen(listen) => self.answer(id, connection, &listen),
            FromWorker::Close(close) => worker.held.retain(|key| *key != close.key),
            FromWorker::Listening(_) => self.serves(id),
            FromWorker::RequestRestart(_) => {
                worker.goes = Some(DisconnectReason::Request);
                self.replace(id);
            }
            FromWorker::Leaving(_) => {
                worker.is_going = true;
                self.replace(id);
            }
            FromWorker::Disconnect(_) => {
                worker.is_going = true;
                self.replace(id);
                self.end(id);
            }
            FromWorker::Hello(_) | FromWorker::Heartbeat(_) | FromWorker::Message(_) | FromWorker::Listener(_) | FromWorker::Error(_) | FromWorker::Unknown => {
            }
        }
    }

    fn answer(&mut self, id: u32, connection: &UnixStream, listen: &Listen) {
        let refuse = |code: &str| say(connection, &FromMaster::Error(ErrorMessage { seq: Some(listen.seq), code: code.into(), message: "no".into() }));
        let (Some(worker), Some(shared)) = (self.workers.get_mut(&id), &self.listener) else { return };
        let (key, fd): (String, OwnedFd) = match (&listen.name, &listen.address) {
            (Some(name), None) if name != "web" => return refuse(codes::UNKNOWN_NAME),
            (Some(name), None) if worker.held.contains(name) => return refuse("EADDRINUSE"),
            (Some(name), None) => match shared.try_clone() {
                Ok(socket) => (name.clone(), socket.into()),
                Err(_) => return refuse("EMFILE"),
            },
            (None, Some(Address { kind: Kind::Tcp, .. })) => match TcpListener::bind("127.0.0.1:0") {
                Ok(socket) => ("tcp".into(), socket.into()),
                Err(_) => return refuse("EMFILE"),
            },
            (None, Some(_)) | (Some(_), Some(_)) | (None, None) => return refuse("EINVAL"),
        };
        let address = Some(Address::tcp(Some([127, 0, 0, 1].into()), shared.local_addr().map_or(0, |address| address.port())));
        let data = self.data.get_or_insert_with(|| listen.data.clone().unwrap_or_default()).clone();
        worker.held.push(key.clone());
        say(connection, &FromMaster::Listener(Listener { seq: listen.seq, key, name: listen.name.clone(), data: Some(data), address, fds: 1 }));
        if self.fault == Fault::DropsDescriptors {
            let _gone = (&mut &*connection).write_all(&[0]);
        } else {
            let _gone = socket::send_fd(connection.as_fd(), fd.as_fd());
        }
    }

    /// A worker serves: older ones may go.
    fn serves(&mut self, id: u32) {
        for (_, older) in self.workers.iter_mut().filter(|(other, worker)| **other < id && worker.goes.is_some()) {
            match (&older.connection, older.goes.take()) {
                (Some(connection), Some(reason)) => say(connection, &FromMaster::Disconnect(Disconnect { reason, timeout_ms: 27_000 })),
                (None, Some(_)) => {
                    let _gone = kill(Pid::from_raw(older.pid.cast_signed()), Signal::SIGTERM);
                }
                (_, None) => {}
            }
            older.is_going = true;
        }
        if let Some(client) = self.waiting.take() {
            say(&client, &ToControl::Done(Done { outcome: Outcome::Done, by: None, message: None }));
        }
    }

    /// A connection ended: after a second its worker counts as lost.
    fn lost(&mut self, id: u32) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.connection = None;
            thread::spawn(move || {
                thread::sleep(Duration::from_secs(1));
                with(|pool| {
                    if let Some(worker) = pool.workers.get_mut(&id).filter(|worker| worker.connection.is_none() && !worker.is_going) {
                        worker.goes = Some(DisconnectReason::Request);
                        pool.replace(id);
                    }
                });
            });
        }
    }

    fn exited(&mut self, id: u32) {
        self.replace(id);
        self.workers.remove(&id);
        if self.is_stopping {
            let _gone = fs::remove_file(&self.path);
            exit(0);
        }
    }

    fn asked(&mut self, client: &UnixStream, request: &FromControl) {
        match request {
            FromControl::Status(_) => {
                let status = PoolStatus {
                    name: "zoo".into(),
                    pid: std::process::id(),
                    version: "0".into(),
                    phase: Phase::Serving,
                    size: 1,
                    running: 1,
                    generation: self.generation,
                    committed: None,
                    mixed: false,
                    given_up: None,
                    restarts: 0,
                    command: self.command.clone(),
                    dir: "/".into(),
                    uptime_ms: 0,
                };
                say(client, &ToControl::Pool(status));
                for (id, worker) in &self.workers {
                    let state = "running".into();
                    say(
                        client,
                        &ToControl::Worker(WorkerStatus {
                            id: *id,
                            slot: 0,
                            generation: 1,
                            state,
                            pid: Some(worker.pid),
                            age_ms: 0,
                            sdk: None,
                            restarts: None,
                        }),
                    );
                }
                say(client, &ToControl::Done(Done { outcome: Outcome::Done, by: None, message: None }));
            }
            FromControl::Restart(_) => {
                self.generation += 1;
                say(client, &ToControl::Accepted(Accepted { generation: Some(self.generation), size: None }));
                self.waiting = client.try_clone().ok();
                let all: Vec<u32> = self.workers.keys().copied().collect();
                for id in all {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.goes = Some(DisconnectReason::Restart);
                    }
                    self.replace(id);
                }
            }
            FromControl::Stop(_) => {
                say(client, &ToControl::Accepted(Accepted { generation: None, size: None }));
                (self.is_stopping, self.listener) = (true, None);
                for connection in self.workers.values().filter_map(|worker| worker.connection.as_ref()) {
                    say(connection, &FromMaster::Disconnect(Disconnect { reason: DisconnectReason::Stop, timeout_ms: 27_000 }));
                }
            }
            FromControl::Hello(_)
            | FromControl::Reload(_)
            | FromControl::Scale(_)
            | FromControl::Subscribe(_)
            | FromControl::Metrics(_)
            | FromControl::Upgrade(_)
            | FromControl::Unknown => {
                say(client, &ToControl::Error(ErrorMessage { seq: None, code: codes::UNSUPPORTED.into(), message: "not here".into() }));
            }
        }
    }
}
