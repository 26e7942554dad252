//! `dutch-master adapt`: a worker that speaks the protocol for a program which knows only systemd's conventions.

mod greeting;
mod link;
mod notify;
mod program;
mod ready;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dutch_master_protocol::env;
use dutch_master_protocol::message::{Address, AppMessage, Close, Drained, ErrorMessage, FromMaster, FromWorker, Leaving, Listening};
use nix::sys::signal::{SigHandler, Signal, killpg, raise, signal};
use nix::unistd::{Pid, getpgrp, getpid, setpgid};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use self::link::{Link, LinkError};
use self::notify::{Notify, Said};
use self::program::{Ended, Program};
use self::ready::{ReadyOn, ready_on};
use super::exit;
use super::print::note;
use super::resident;
use super::suggest::suggest;
use super::values;

/// How long the master may take for `welcome`, and for a listener (SPEC 9).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The time to drain without a master (SPEC 9).
const ORPHAN_DRAIN: Duration = Duration::from_secs(30);

/// Signals that are the program's, whoever sends them to us.
const PASSED_ON: [Signal; 6] = [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH];

const EXAMPLES: &str = "\
The program gets the configured listeners as descriptors 3, 4… and in LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID, as systemd gives them, and a NOTIFY_SOCKET of its own. In its arguments, {fd} is the first one's number and {fd:NAME} that of a name.

Examples:
  dutch-master start -l 8000 --adapt -- uvicorn --fd {fd} app:app
  dutch-master start -l 8000 --adapt=notify -- gunicorn app:app
  dutch-master start -l 8000 -- dutch-master adapt --stop-signal QUIT -- ./service

Exit status: that of the program; 1 if there is no master or it gives no listener.";

#[derive(Debug, Args)]
#[command(override_usage = "dutch-master adapt [OPTIONS] -- PROGRAM [ARGS…]", after_help = EXAMPLES)]
pub(super) struct Adapt {
    /// When the program counts as serving: it says READY=1, has accepted a connection, or so long after its start.
    #[arg(long, value_name = "notify|accept|delay:TIME", default_value = "accept", value_parser = suggest(&["notify", "accept"], ready_on), hide_possible_values = true)]
    ready_on: ReadyOn,
    /// The signal that asks the program to finish and end.
    #[arg(long, value_name = "SIGNAL", default_value = "TERM", value_parser = suggest(&["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH"], values::signal), hide_possible_values = true)]
    stop_signal: Signal,
    /// The program and its arguments.
    #[arg(value_name = "PROGRAM", num_args = 1.., required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<String>,
}

/// The value of `start --adapt`, checked; it is read again by the worker.
pub(super) fn when(text: &str) -> Result<String, String> {
    ready_on(text).map(|_| text.to_owned())
}

/// Why no program runs.
#[derive(Debug, thiserror::Error)]
enum AdaptError {
    #[error("there is no master ({} is not set); `dutch-master start --adapt -- PROGRAM` starts one", env::SOCKET)]
    NoMaster,
    #[error("the master has no listener for it; `dutch-master start --listen ADDRESS` configures one")]
    NoListener,
    #[error("the master did not answer in time")]
    Timeout,
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the master gives no listener: {} ({})", .0.message, .0.code)]
    Refused(ErrorMessage),
    #[error("cannot run it")]
    System(#[from] std::io::Error),
}

/// Runs the program as a worker; the exit code is the program's.
pub(super) async fn run(command: Adapt) -> u8 {
    match start(&command).await {
        Ok(None) => exit::DONE,
        Ok(Some(mut worker)) => {
            // There is one of this process for each worker.
            resident::give_back_what_is_not_needed();
            match worker.until_the_end().await {
                Ended::Code(code) => code,
                Ended::Signal(signal) => {
                    drop(worker);
                    die_of(signal)
                }
            }
        }
        Err(error) => {
            note(&format!("dutch-master adapt: {}", dutch_master::Chain(&error)));
            exit::FAILED
        }
    }
}

/// As the program did, so that the master sees it.
#[allow(unsafe_code)]
fn die_of(of: Signal) -> u8 {
    // SAFETY: the default action runs no handler.
    let _ = unsafe { signal(of, SigHandler::SigDfl) };
    let _ = raise(of);
    // One that does not end a process by default.
    u8::try_from(128 + of as i32).unwrap_or(exit::FAILED)
}

/// A program that runs as a worker.
#[derive(Debug)]
struct Worker {
    link: Link,
    program: Program,
    notify: Notify,
    ready_on: ReadyOn,
    stop_signal: Signal,
    address: Option<Address>,
    keys: Vec<String>,
    orphan_timeout: Option<Duration>,
    signals: mpsc::Receiver<Signal>,
    is_ready: bool,
    /// It was asked to end; by then it is killed.
    ends_by: Option<Instant>,
    /// Without a master: when it is asked to end.
    leaves_at: Option<Instant>,
}

/// Up to the program's start; none when the order to go came before.
async fn start(command: &Adapt) -> Result<Option<Worker>, AdaptError> {
    let (Some(path), Ok(token)) = (std::env::var_os(env::SOCKET), std::env::var(env::TOKEN)) else { return Err(AdaptError::NoMaster) };
    if getpgrp() != getpid() {
        // Run by hand: what is killed in the end is the program alone.
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(std::io::Error::from)?;
    }
    let signals = passed_on()?;
    let mut link = Link::connect(&PathBuf::from(path)).await?;
    let answers = timeout(ANSWER_TIMEOUT, async {
        let welcome = greeting::hello(&mut link, token).await?;
        let listeners = greeting::listeners(&mut link, &welcome.names).await?;
        Ok::<_, AdaptError>((welcome, listeners))
    });
    let (welcome, listeners) = answers.await.map_err(|_| AdaptError::Timeout)??;
    let Some(listeners) = listeners else {
        link.say(&FromWorker::Disconnect(Drained::default())).await;
        return Ok(None);
    };
    let (given, told): (Vec<_>, Vec<_>) = listeners.into_iter().unzip();
    let notify = Notify::bind()?;
    let program = Program::start(&command.program, &given, &notify.path())?;
    let keys = told.iter().map(|(key, _)| key.clone()).collect();
    let address = told.into_iter().find_map(|(_, address)| address);
    let orphan_timeout = welcome.orphan_timeout_ms.map(Duration::from_millis);
    let (ready_on, stop_signal) = (command.ready_on, command.stop_signal);
    Ok(Some(Worker { link, program, notify, ready_on, stop_signal, address, keys, orphan_timeout, signals, is_ready: false, ends_by: None, leaves_at: None }))
}

/// The signals that this process gets from now on.
fn passed_on() -> std::io::Result<mpsc::Receiver<Signal>> {
    let (send, receive) = mpsc::channel(16);
    for signal in PASSED_ON.into_iter().chain([Signal::SIGTERM]) {
        let mut arrivals = unix::signal(SignalKind::from_raw(signal as i32))?;
        let send = send.clone();
        tokio::spawn(async move {
            while arrivals.recv().await.is_some() {
                // Full: as the kernel merges signals that wait.
                let _ = send.try_send(signal);
            }
        });
    }
    Ok(receive)
}

impl Worker {
    async fn until_the_end(&mut self) -> Ended {
        let (ready_on, pid, address) = (self.ready_on, self.program.pid(), self.address.clone());
        let mut serves = std::pin::pin!(ready::serves(ready_on, pid, address.as_ref()));
        loop {
            let kill_at = self.ends_by.unwrap_or_else(Instant::now);
            let leave_at = self.leaves_at.unwrap_or_else(Instant::now);
            tokio::select! {
                ended = self.program.ended() => return self.ended(ended).await,
                heard = self.link.hear() => self.heard(heard).await,
                said = self.notify.hear() => self.said(said).await,
                () = &mut serves, if !self.is_ready => self.ready().await,
                Some(signal) = self.signals.recv() => self.signalled(signal).await,
                () = sleep_until(kill_at), if self.ends_by.is_some() => kill_group(),
                () = sleep_until(leave_at), if self.leaves_at.is_some() => self.stop(ORPHAN_DRAIN),
            }
        }
    }

    async fn ready(&mut self) {
        self.is_ready = true;
        self.link.say(&FromWorker::Listening(Listening { address: self.address.clone() })).await;
    }

    /// Asks the program to end within so long, and again when the time becomes shorter.
    fn stop(&mut self, within: Duration) {
        let until = Instant::now() + within;
        self.leaves_at = None;
        if self.ends_by.is_none() {
            self.program.signal(self.stop_signal);
        }
        self.ends_by = Some(self.ends_by.map_or(until, |before| before.min(until)));
    }

    async fn heard(&mut self, heard: Result<(FromMaster, Option<std::os::fd::OwnedFd>), LinkError>) {
        match heard {
            Ok((FromMaster::Disconnect(order), _)) => self.stop(Duration::from_millis(order.timeout_ms)),
            Ok((FromMaster::Listener(listener), _)) => self.link.say(&FromWorker::Close(Close { key: listener.key })).await,
            Ok((FromMaster::Welcome(_) | FromMaster::Error(_) | FromMaster::ReturnListener(_) | FromMaster::Unknown, _)) => {}
            Err(error) => {
                if self.ends_by.is_none() {
                    note(&format!("dutch-master adapt: {}; the program serves on", dutch_master::Chain(&error)));
                    self.leaves_at = self.orphan_timeout.map(|timeout| Instant::now() + timeout);
                }
            }
        }
    }

    async fn said(&mut self, said: Vec<Said>) {
        for said in said {
            match said {
                Said::Ready if self.ready_on == ReadyOn::Notify && !self.is_ready => self.ready().await,
                Said::Ready => {}
                Said::Stopping if self.ends_by.is_none() && self.is_ready => self.leaving("the program is stopping").await,
                Said::Stopping => {}
                Said::Status(status) => {
                    let json = serde_json::json!({ "status": status }).to_string();
                    self.link.say(&FromWorker::Message(AppMessage { json })).await;
                }
            }
        }
    }

    async fn leaving(&mut self, reason: &str) {
        self.link.say(&FromWorker::Leaving(Leaving { reason: Some(reason.into()) })).await;
    }

    async fn signalled(&mut self, signal: Signal) {
        match (signal, self.ends_by) {
            // After an order it means: now (SPEC 5.2).
            (Signal::SIGTERM, Some(_)) => self.ends_by = Some(Instant::now()),
            (Signal::SIGTERM, None) => {
                self.leaving("SIGTERM").await;
                self.stop(ORPHAN_DRAIN);
            }
            (other, _) => self.program.signal(other),
        }
    }

    /// The program has ended: with it, the worker.
    async fn ended(&mut self, ended: Ended) -> Ended {
        if self.link.is_open() && self.ends_by.is_some() {
            for key in std::mem::take(&mut self.keys) {
                self.link.say(&FromWorker::Close(Close { key })).await;
            }
            self.link.say(&FromWorker::Disconnect(Drained::default())).await;
        }
        ended
    }
}

/// Everything that is left of the program, and this process with it: the master sees that it took force.
fn kill_group() {
    let _ = killpg(getpgrp(), Signal::SIGKILL);
}
