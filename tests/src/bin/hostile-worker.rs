//! A worker that tries everything that a worker should not be able to do, and writes down what came of it: a line for each attempt, with its name and `ok` or the name of the error.
//!
//! `hostile-worker REPORT` tries, and then waits for the order to go. `hostile-worker REPORT storm` stops every process that it may signal, again and again, until it is killed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use dutch_master_protocol::codec::{self, FrameDecoder, encode};
use dutch_master_protocol::env;
use dutch_master_protocol::message::{Address, FromMaster, FromWorker, Hello, Listen, Listening, Role, VERSION};
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, getppid, setuid};

/// A port that only root may bind, unless the system was told otherwise.
const PRIVILEGED_PORT: u16 = 1_023;

/// The name of an error.
type Refusal = String;
type Attempt = fn(&mut Worker) -> Result<(), Refusal>;

const ATTEMPTS: [(&str, Attempt); 19] = [
    ("read-memory-of-master", |worker| opened(worker.of_master("mem"))),
    ("read-environment-of-master", |worker| said(fs::read(worker.of_master("environ")))),
    ("list-descriptors-of-master", |worker| said(fs::read_dir(worker.of_master("fd")))),
    ("take-descriptor-of-master", |worker| said(take_descriptor(worker.master))),
    ("signal-master", |worker| said(kill(worker.master, None).map_err(io::Error::from))),
    ("limit-master", |worker| said(limit_of(worker.master))),
    ("give-orders", |worker| worker.answer_to(&FromWorker::Hello(Hello { protocol: VERSION, role: Role::Control, ..Hello::default() }))),
    ("read-state", |worker| opened(worker.socket.with_extension("state"))),
    ("write-lock", |worker| said(OpenOptions::new().write(true).open(worker.socket.with_extension("lock")))),
    ("list-runtime-directory", |worker| said(fs::read_dir(worker.runtime_dir()))),
    ("make-file-in-runtime-directory", |worker| said(File::create(worker.runtime_dir().join("hostile")))),
    ("remove-control-socket", |worker| said(fs::rename(&worker.socket, worker.runtime_dir().join("removed")))),
    ("bind-privileged-port", |_| said(TcpListener::bind(("127.0.0.1", PRIVILEGED_PORT)))),
    ("ask-for-privileged-port", |worker| worker.ask_for(Address::tcp(None, PRIVILEGED_PORT))),
    ("ask-for-unix-path", |worker| worker.ask_for(Address::unix(worker.runtime_dir().join("asked-for").display().to_string()))),
    ("become-root", |_| said(setuid(Uid::from_raw(0)).map_err(io::Error::from))),
    ("raise-limit", |_| said(raise_limit())),
    ("read-environment-of-sibling", |worker| worker.sibling().and_then(|sibling| said(fs::read(format!("/proc/{sibling}/environ"))))),
    ("signal-sibling", |worker| worker.sibling().and_then(|sibling| said(kill(sibling, None).map_err(io::Error::from)))),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let report = words.next().ok_or("hostile-worker REPORT [storm]")?;
    let mut worker = Worker::new()?;
    worker.hello()?;
    worker.answer(&FromWorker::Listen(Listen { seq: 1, name: Some("web".into()), ..Listen::default() }))?;
    worker.say(&FromWorker::Listening(Listening::default()))?;
    if words.next().as_deref() == Some("storm") {
        File::create(report)?;
        loop {
            let _none = kill(Pid::from_raw(-1), Signal::SIGSTOP);
        }
    }
    let lines = ATTEMPTS.iter().map(|(name, attempt)| format!("{name} {}\n", attempt(&mut worker).err().unwrap_or("ok".into())));
    let text: String = lines.collect();
    fs::write(format!("{report}.new"), text)?;
    fs::rename(format!("{report}.new"), report)?;
    while !matches!(worker.hear()?, FromMaster::Disconnect(_)) {}
    Ok(())
}

struct Worker {
    master: Pid,
    socket: PathBuf,
    connection: UnixStream,
    decoder: FrameDecoder,
}

impl Worker {
    fn new() -> io::Result<Worker> {
        let socket = PathBuf::from(std::env::var_os(env::SOCKET).ok_or(io::ErrorKind::NotFound)?);
        Ok(Worker { master: getppid(), connection: UnixStream::connect(&socket)?, socket, decoder: FrameDecoder::default() })
    }

    fn hello(&mut self) -> Result<(), Refusal> {
        let token = std::env::var(env::TOKEN).ok();
        self.answer(&FromWorker::Hello(Hello { protocol: VERSION, token, sdk: Some("hostile".into()), ..Hello::default() }))
    }

    fn of_master(&self, what: &str) -> PathBuf {
        format!("/proc/{}/{what}", self.master).into()
    }

    fn runtime_dir(&self) -> &Path {
        self.socket.parent().unwrap_or(Path::new("/"))
    }

    /// Another worker of the same master.
    fn sibling(&self) -> Result<Pid, Refusal> {
        let children = said_with(fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.master)))?;
        let mut pids = children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid != std::process::id());
        pids.next().map(|pid: u32| Pid::from_raw(pid.cast_signed())).ok_or_else(|| "no sibling".into())
    }

    fn ask_for(&mut self, address: Address) -> Result<(), Refusal> {
        self.answer(&FromWorker::Listen(Listen { seq: 2, address: Some(address), ..Listen::default() }))
    }

    /// What the master says to this on a connection of its own.
    fn answer_to(&self, message: &FromWorker) -> Result<(), Refusal> {
        Worker { connection: said_with(UnixStream::connect(&self.socket))?, decoder: FrameDecoder::default(), socket: self.socket.clone(), ..*self }
            .answer(message)
    }

    fn answer(&mut self, message: &FromWorker) -> Result<(), Refusal> {
        said(self.say(message))?;
        match said_with(self.hear())? {
            FromMaster::Error(error) => Err(error.code),
            FromMaster::Welcome(_) | FromMaster::Listener(_) | FromMaster::Disconnect(_) | FromMaster::ReturnListener(_) | FromMaster::Unknown => Ok(()),
        }
    }

    fn say(&mut self, message: &FromWorker) -> io::Result<()> {
        self.connection.write_all(&encode(message).map_err(io::Error::other)?)
    }

    fn hear(&mut self) -> io::Result<FromMaster> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
                let message = codec::decode(frame).map_err(io::Error::other)?;
                if matches!(message, FromMaster::Listener(_)) {
                    // A plain read takes the byte, and the system closes the descriptor that came with it.
                    while self.decoder.next_byte().is_none() {
                        self.read()?;
                    }
                }
                return Ok(message);
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4_096];
        match self.connection.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => {
                self.decoder.push(&buffer[..bytes]);
                Ok(())
            }
        }
    }
}

fn opened(path: PathBuf) -> Result<(), Refusal> {
    said(File::open(path))
}

fn said<T>(outcome: io::Result<T>) -> Result<(), Refusal> {
    said_with(outcome).map(drop)
}

fn said_with<T>(outcome: io::Result<T>) -> Result<T, Refusal> {
    outcome.map_err(|error| error.raw_os_error().map_or_else(|| error.to_string(), |errno| format!("{:?}", Errno::from_raw(errno))))
}

#[allow(unsafe_code)]
fn take_descriptor(of: Pid) -> io::Result<OwnedFd> {
    // SAFETY: system calls with plain numbers; what they return is nobody else's.
    unsafe {
        let pidfd = OwnedFd::from_raw_fd(Errno::result(libc::syscall(libc::SYS_pidfd_open, of.as_raw(), 0))? as i32);
        let taken = libc::syscall(libc::SYS_pidfd_getfd, std::os::fd::AsRawFd::as_raw_fd(&pidfd), 0, 0);
        Ok(OwnedFd::from_raw_fd(Errno::result(taken)? as i32))
    }
}

#[allow(unsafe_code)]
fn limit_of(process: Pid) -> io::Result<()> {
    // SAFETY: nothing is written where a pointer is null.
    let outcome = unsafe { libc::prlimit(process.as_raw(), libc::RLIMIT_NOFILE, std::ptr::null(), std::ptr::null_mut()) };
    Ok(Errno::result(outcome).map(drop)?)
}

fn raise_limit() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard.saturating_add(1))?)
}
