//! Signals to the master become requests. They belong to the program and not to the library, which may be a guest in another program.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::str::FromStr;

use dutch_master::Request;
use dutch_master::core::SizeChange;
use nix::sys::signal::{SigHandler, Signal as Number, signal as set_handler};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Sender;

use super::log::Logger;

/// The signal that opens the log file again; where there is none, it asks for an upgrade.
pub(super) const REOPEN_SIGNAL: &str = "SIGUSR1";

/// What the master listens to.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    more: Signal,
    fewer: Signal,
    restart: Signal,
    restart_name: String,
    /// None when it is the restart signal, or was ignored from the beginning (nohup).
    hang_up: Option<Signal>,
    /// None when it is the restart signal.
    reopen: Option<Signal>,
    /// None but for the first process of a PID namespace, which has to reap orphans.
    child_ended: Option<Signal>,
    had_terminal: bool,
}

impl Signals {
    /// From here on these signals wait to be passed on.
    pub(super) fn listen(restart_name: &str) -> io::Result<Signals> {
        ignore_the_file_size_limit()?;
        let restart = SignalKind::from_raw(Number::from_str(restart_name)? as i32);
        let own_hang_up = restart != SignalKind::hangup() && !hang_ups_are_ignored();
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            more: signal(SignalKind::from_raw(Number::SIGTTIN as i32))?,
            fewer: signal(SignalKind::from_raw(Number::SIGTTOU as i32))?,
            restart: signal(restart)?,
            restart_name: restart_name.into(),
            hang_up: if own_hang_up { Some(signal(SignalKind::hangup())?) } else { None },
            reopen: if restart_name == REOPEN_SIGNAL { None } else { Some(signal(SignalKind::user_defined1())?) },
            child_ended: if std::process::id() == 1 { Some(signal(SignalKind::child())?) } else { None },
            had_terminal: has_terminal(),
        })
    }

    /// Passes on every signal, without end: what concerns the log to the log, all others as requests.
    pub(super) async fn pass_on(mut self, asker: Sender<Request>, log: &Logger) -> Infallible {
        loop {
            let Some(request) = self.next().await.or_else(|| reopen_or_upgrade(log)) else { continue };
            if asker.send(request).await.is_err() {
                // The master ends, and with it this future.
                std::future::pending().await
            }
        }
    }

    /// The next request; `None`: the signal of the log file.
    async fn next(&mut self) -> Option<Request> {
        Some(tokio::select! {
            biased;
            _ = self.terminate.recv() => stop("SIGTERM"),
            _ = self.interrupt.recv() => stop("SIGINT"),
            _ = optional(&mut self.hang_up) => match self.had_terminal && !has_terminal() {
                true => stop("SIGHUP"),
                false => Request::Reload { signal: Some("SIGHUP".into()) },
            },
            _ = optional(&mut self.reopen) => return None,
            _ = optional(&mut self.child_ended) => Request::ReapOrphans,
            _ = self.restart.recv() => Request::Restart { signal: Some(self.restart_name.clone()) },
            _ = self.more.recv() => Request::Scale { change: SizeChange::By(1) },
            _ = self.fewer.recv() => Request::Scale { change: SizeChange::By(-1) },
        })
    }
}

/// A log file that reached its limit is an error of a write, not the end of the master.
#[allow(unsafe_code)]
fn ignore_the_file_size_limit() -> io::Result<()> {
    // SAFETY: no handler of ours is installed, and none of anybody else's is replaced: this is the start of the program.
    unsafe { set_handler(Number::SIGXFSZ, SigHandler::SigIgn) }?;
    Ok(())
}

fn reopen_or_upgrade(log: &Logger) -> Option<Request> {
    if log.has_file() {
        log.reopen();
        return None;
    }
    Some(Request::Upgrade { program: None, signal: Some(REOPEN_SIGNAL.into()) })
}

fn stop(signal: &str) -> Request {
    Request::Stop { signal: Some(signal.into()) }
}

async fn optional(stream: &mut Option<Signal>) {
    match stream {
        Some(stream) => drop(stream.recv().await),
        None => std::future::pending().await,
    }
}

/// A process has a controlling terminal while this file can be opened.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whoever started the master wants it to outlive the terminal.
fn hang_ups_are_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 << (Number::SIGHUP as i32 - 1) != 0)
}
