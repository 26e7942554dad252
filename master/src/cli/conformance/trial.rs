//! One case's world: a fresh worker, the socket at which it finds its master, and what the kit says and hears in the master's place.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dutch_master::{Options, trial};
use dutch_master_protocol::message::FromWorker;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::case::{Fault, Verdict, differs, untested};
use super::given::Given;
use super::http::Client;
use super::manner::{self, Manner};
use super::peer::{Heard, Peer};
use super::process::Process;
use super::steps::{WORKER, answered};

/// The worker under test, and what is known of it.
#[derive(Debug)]
pub(super) struct Tested {
    pub(super) options: Options,
    /// The path of a request that it answers; `None`: it speaks no HTTP.
    pub(super) path: Option<String>,
    /// How long the kit waits for what has no time limit of its own.
    pub(super) patience: Duration,
}

#[derive(Debug)]
pub(super) struct Trial<'a> {
    pub(super) tested: &'a Tested,
    pub(super) number: usize,
    pub(super) folder: PathBuf,
    token: String,
    acceptor: Option<UnixListener>,
    process: Option<Process>,
    pub(super) peer: Option<Peer>,
    pub(super) given: Vec<Given>,
    /// Keys that the worker said it closed.
    pub(super) closed: Vec<String>,
    pub(super) manner: Manner,
    pub(super) is_running: bool,
    pub(super) is_drained: bool,
}

impl<'a> Trial<'a> {
    pub(super) fn new(tested: &'a Tested) -> io::Result<Trial<'a>> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // The system's temporary folder may have a long name, and the path of a socket is short.
        let folder = PathBuf::from(format!("/tmp/dm-kit-{}-{}", std::process::id(), number));
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let acceptor = Some(UnixListener::bind(folder.join("master"))?);
        let token = trial::token()?;
        Ok(Trial {
            tested,
            number,
            folder,
            token,
            acceptor,
            process: None,
            peer: None,
            given: Vec::new(),
            closed: Vec::new(),
            manner: manner::plain,
            is_running: false,
            is_drained: false,
        })
    }

    pub(super) fn patience(&self) -> Duration {
        self.tested.patience
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Starts the worker, unless it is started.
    pub(super) fn start(&mut self) -> Verdict {
        self.start_with(|_| {})
    }

    pub(super) fn start_with(&mut self, change: impl FnOnce(&mut Command)) -> Verdict {
        if self.process.is_none() {
            let told = trial::Told { socket: &self.folder.join("master"), token: &self.token, id: WORKER };
            let mut command = trial::command(&self.tested.options, told).map_err(|error| Fault::Kit(io::Error::other(error)))?;
            let log = File::create(self.folder.join("log"))?;
            command.stdout(log.try_clone()?).stderr(Stdio::from(log));
            change(&mut command);
            self.process = Some(Process::start(command)?);
        }
        Ok(())
    }

    /// The last lines that the worker wrote.
    pub(super) fn log(&self) -> Vec<String> {
        last_lines(&self.folder)
    }

    pub(super) fn process(&mut self) -> Verdict<&mut Process> {
        self.start()?;
        self.process.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())
    }

    /// Waits for the worker's connection.
    pub(super) fn connected(&mut self) -> Verdict<&mut Peer> {
        if self.peer.is_none() {
            let patience = self.patience();
            self.start()?;
            let (Some(acceptor), Some(process)) = (&self.acceptor, &mut self.process) else { return differs("a connection", "none") };
            wait_for_either(acceptor, process, patience)?;
            acceptor.set_nonblocking(true)?;
            match acceptor.accept() {
                Ok((socket, _)) => self.peer = Some(Peer::new(socket)?),
                Err(_) => {
                    let ended = process.exit(Duration::ZERO)?;
                    return differs(
                        "a connection to the master",
                        ended.map_or(format!("none within {} s", patience.as_secs()), |status| format!("its end ({status})")),
                    );
                }
            }
        }
        self.peer.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected).into())
    }

    /// Whether it connects another time, within so long.
    pub(super) fn connects_again(&mut self, within: Duration) -> Verdict<bool> {
        let (Some(acceptor), Some(process)) = (&self.acceptor, &mut self.process) else { return Ok(false) };
        wait_for_either(acceptor, process, within)?;
        let accepted = acceptor.accept();
        let again = accepted.is_ok();
        if let Ok((socket, _)) = accepted {
            self.peer = Some(Peer::new(socket)?);
        }
        Ok(again)
    }

    /// The next message that a case may have to look at: signs of life, an application's own messages and what no version knows are passed over.
    pub(super) fn hear(&mut self) -> Verdict<Heard> {
        let patience = self.patience();
        self.hear_within(patience)
    }

    pub(super) fn hear_within(&mut self, patience: Duration) -> Verdict<Heard> {
        let (until, is_running) = (Instant::now() + patience, self.is_running);
        loop {
            match self.connected()?.hear(until.saturating_duration_since(Instant::now()))? {
                Heard::Message(FromWorker::Heartbeat(_) | FromWorker::Message(_) | FromWorker::Unknown) => {}
                Heard::Message(FromWorker::RequestRestart(_)) if is_running => {}
                Heard::Message(FromWorker::Close(close)) => self.closed.push(close.key),
                heard => return Ok(heard),
            }
        }
    }

    /// The master goes: its connection, and for good its socket.
    pub(super) fn leave(&mut self) -> Verdict {
        self.acceptor = None;
        let _ = fs::remove_file(self.folder.join("master"));
        self.peer = None;
        Ok(())
    }

    /// The connection ends, but one can connect again.
    pub(super) fn hang_up(&mut self) {
        self.peer = None;
    }

    pub(super) fn peer(&mut self) -> Option<&mut Peer> {
        self.peer.as_mut()
    }

    /// A client of the worker's first listener that takes connections.
    pub(super) fn client(&self) -> Verdict<Client> {
        let Some(path) = &self.tested.path else { return untested("the worker speaks no HTTP (--no-http)") };
        let Some(given) = self.given.iter().find(|given| given.is_stream()) else { return untested("the worker asks for no listener") };
        match given.connect(self.patience()) {
            Ok(stream) => Ok(Client::new(stream, path, self.patience())?),
            Err(error) => differs("a listener that takes connections", format!("{error}")),
        }
    }

    /// A client whose connection has served a request and stays open.
    pub(super) fn kept_alive(&self) -> Verdict<Client> {
        let mut client = self.client()?;
        let response = answered(client.get())?;
        if response { untested("the worker does not keep connections alive") } else { Ok(client) }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        self.process = None;
        let _ = fs::remove_dir_all::<&Path>(&self.folder);
    }
}

/// The last lines of a log in this folder.
pub(super) fn last_lines(folder: &Path) -> Vec<String> {
    let text = fs::read(folder.join("log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(5)).map(|line| line.chars().filter(|c| !c.is_control()).take(200).collect()).collect()
}

/// Waits until somebody connects or the process ends.
fn wait_for_either(acceptor: &UnixListener, process: &Process, patience: Duration) -> io::Result<()> {
    let mut fds = [PollFd::new(acceptor.as_fd(), PollFlags::POLLIN), PollFd::new(process.pidfd().as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)).map(drop).map_err(io::Error::from)
}
