//! The program that knows only systemd's conventions: started with its listeners from descriptor 3 on, known by pidfd.

use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use dutch_master_protocol::env;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_raw, fork, getpid};
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::cli::print::note;

/// The first descriptor of a program's listeners, as systemd has it.
const FIRST: RawFd = 3;

/// What shells return for a command that cannot be run.
const CANNOT_RUN: i32 = 127;

/// What systemd calls a descriptor that has no name.
const NO_NAME: &str = "unknown";

/// What a program gets: a listener, and its name if it has one.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) name: Option<String>,
    pub(super) fd: OwnedFd,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Code(u8),
    Signal(Signal),
}

#[derive(Debug)]
pub(super) struct Program {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
}

impl Program {
    /// Starts it. This process must have no other thread.
    #[allow(unsafe_code)]
    pub(super) fn start(words: &[String], given: &[Given], notify: &Path) -> io::Result<Program> {
        let words: Vec<String> = words.iter().map(|word| filled_in(word, given)).collect();
        // SAFETY: there is one thread, so the child finds no lock held that nobody will release.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => {
                let pid = rustix::process::Pid::from_raw(child.as_raw()).ok_or(io::ErrorKind::InvalidData)?;
                let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
                // SAFETY: an `OwnedFd` is always the same open descriptor until it is dropped, and it is dropped only after `AsyncFd` has deregistered it.
                Ok(Program { pid: child, pidfd: unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE)? } })
            }
            ForkResult::Child => {
                let error = become_program(&words, given, notify);
                note(&format!("dutch-master adapt: cannot run {}: {error}", words.first().map_or("", String::as_str)));
                // SAFETY: ends this process without running what its parent has registered for its own end.
                unsafe { libc::_exit(CANNOT_RUN) }
            }
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn signal(&self, signal: Signal) {
        // It is not reaped before `ended`, so the number is its own.
        let _gone = kill(self.pid, signal);
    }

    /// Waits for its end and reaps it.
    pub(super) async fn ended(&self) -> Ended {
        loop {
            // An error here means that the runtime ends.
            let _ready = self.pidfd.readable().await;
            match waitpid(self.pid, None) {
                Ok(WaitStatus::Exited(_, code)) => return Ended::Code(u8::try_from(code).unwrap_or(u8::MAX)),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Ended::Signal(signal),
                Err(nix::errno::Errno::EINTR) | Ok(_) => {}
                Err(_) => return Ended::Code(u8::MAX),
            }
        }
    }
}

/// In the child: only returns if it fails.
fn become_program(words: &[String], given: &[Given], notify: &Path) -> io::Error {
    let Some((program, arguments)) = words.split_first() else { return io::ErrorKind::InvalidInput.into() };
    if let Err(error) = place(given) {
        return error;
    }
    let names: Vec<&str> = given.iter().map(|given| given.name.as_deref().unwrap_or(NO_NAME)).collect();
    let mut command = Command::new(program);
    env::ALL.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.args(arguments).env("LISTEN_PID", getpid().to_string()).env("LISTEN_FDS", given.len().to_string());
    command.env("LISTEN_FDNAMES", OsString::from(names.join(":"))).env("NOTIFY_SOCKET", notify);
    command.exec()
}

/// Puts the listeners where they belong, without close-on-exec. What is there now is closed: it is this child's copy.
#[allow(unsafe_code)]
fn place(given: &[Given]) -> io::Result<()> {
    let behind = FIRST + RawFd::try_from(given.len()).unwrap_or(RawFd::MAX);
    // Out of the way first, so that none is overwritten before it has moved.
    let moved: Result<Vec<RawFd>, _> = given.iter().map(|given| fcntl(&given.fd, FcntlArg::F_DUPFD_CLOEXEC(behind))).collect();
    for (at, raw) in (FIRST..).zip(moved?) {
        // SAFETY: `raw` was just made and is open. What `at` was is used no more: this process only has exec left to do.
        let placed = unsafe { dup2_raw(BorrowedFd::borrow_raw(raw), at)? };
        // It is the program's to close.
        let _at = placed.into_raw_fd();
    }
    Ok(())
}

/// `{fd}` is the first listener's descriptor, `{fd:NAME}` that of a name.
fn filled_in(word: &str, given: &[Given]) -> String {
    let named = (FIRST..).zip(given).filter_map(|(fd, given)| Some((fd, given.name.as_ref()?)));
    let named = named.fold(word.to_owned(), |word, (fd, name)| word.replace(&format!("{{fd:{name}}}"), &fd.to_string()));
    named.replace("{fd}", &FIRST.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_filled_into_arguments() {
        let given = [Some("web"), None, Some("admin")].map(|name| Given { name: name.map(String::from), fd: std::fs::File::open("/dev/null").unwrap().into() });
        for (word, expected) in [
            ("{fd}", "3"),
            ("--bind=fd://{fd:admin}", "--bind=fd://5"),
            ("{fd:web}{fd:none}", "3{fd:none}"),
            ("plain", "plain"),
            ("{fd:unknown}", "{fd:unknown}"),
        ] {
            assert_eq!(filled_in(word, &given), expected);
        }
    }
}
