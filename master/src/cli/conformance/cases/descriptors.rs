//! Taking listeners (SPEC 4, 6.11, 11).

use std::fs;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use dutch_master_protocol::message::{FromMaster, FromWorker, Listener};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;

use crate::cli::conformance::case::{Case, Fault, Verdict, differs, must, untested};
use crate::cli::conformance::manner::{plain, unknown_event};
use crate::cli::conformance::peer::Heard;
use crate::cli::conformance::steps::{answered, said};
use crate::cli::conformance::trial::Trial;

/// How often it is looked what a worker holds: nothing tells when it lets go.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Long enough for a worker to have read the frame and to wait for the descriptor.
const LATER: Duration = Duration::from_millis(200);

pub(super) const CASES: &[Case] = &[
    must("4.2.1/glued", "finds a descriptor that waits together with its frame and the next ones", glued),
    must("4.2.1/later", "waits for a descriptor that comes later than its frame", later),
    must("4.2.3", "sets close-on-exec on the descriptors that it gets", close_on_exec),
    must("4.4/byte", "ends the connection when a descriptor's byte is not zero", |trial| bad(trial, Bad::Byte)),
    must("4.4/none", "ends the connection when the zero byte brings no descriptor", |trial| bad(trial, Bad::NoDescriptor)),
    must("4.4/two", "ends the connection when the zero byte brings two descriptors", |trial| bad(trial, Bad::TwoDescriptors)),
    must("4.4/count", "ends the connection when `fds` is out of range", |trial| bad(trial, Bad::Count)),
    must("6.11/uninvited", "closes a listener that it did not ask for, and says `close`", uninvited),
    must("11/non-blocking", "leaves its listener non-blocking", non_blocking),
];

fn glued(trial: &mut Trial<'_>) -> Verdict {
    trial.welcome()?;
    let listen = trial.asks()?;
    let nth = trial.make(&listen)?;
    let message = FromMaster::Listener(trial.given()[nth].message.clone());
    // Stopped, it finds everything at once.
    trial.process()?.signal(Signal::SIGSTOP);
    trial.send(&unknown_event())?;
    trial.say(&message)?;
    trial.send_fd(nth)?;
    trial.send(&unknown_event())?;
    trial.process()?.signal(Signal::SIGCONT);
    trial.listening()?;
    works(trial)
}

fn later(trial: &mut Trial<'_>) -> Verdict {
    trial.welcome()?;
    let listen = trial.asks()?;
    let nth = trial.make(&listen)?;
    let message = FromMaster::Listener(trial.given()[nth].message.clone());
    trial.say(&message)?;
    thread::sleep(LATER);
    trial.send_fd(nth)?;
    trial.listening()?;
    works(trial)
}

/// The listener is in use, as far as that can be seen.
fn works(trial: &mut Trial<'_>) -> Verdict {
    match trial.tested.path {
        Some(_) => answered(trial.client()?.get()).map(drop),
        None => Ok(()),
    }
}

fn close_on_exec(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let holders = holders(trial, 0)?;
    if holders.is_empty() {
        return untested("the worker does not hold its listener in the process that connected");
    }
    match holders.iter().find(|flags| *flags & OFlag::O_CLOEXEC.bits() == 0) {
        None => Ok(()),
        Some(_) => differs("close-on-exec", "a listener that the worker's children inherit"),
    }
}

/// The flags of the descriptors by which the process that connected holds a listener.
fn holders(trial: &mut Trial<'_>, nth: usize) -> Verdict<Vec<i32>> {
    let Some(given) = trial.given().get(nth) else { return untested("the worker asks for no listener") };
    let own = fs::read_link(format!("/proc/self/fd/{}", given.fd().as_raw_fd()));
    let (Ok(own), Some(pid)) = (own, trial.peer().and_then(|peer| peer.pid())) else { return untested("this system does not tell what a process holds") };
    let Ok(held) = fs::read_dir(format!("/proc/{pid}/fd")) else { return untested("this system does not tell what a process holds") };
    let same = held.flatten().filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == own));
    let flags = same.filter_map(|entry| {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", entry.file_name().to_string_lossy())).ok()?;
        i32::from_str_radix(info.lines().find_map(|line| line.strip_prefix("flags:"))?.trim(), 8).ok()
    });
    Ok(flags.collect())
}

enum Bad {
    Byte,
    NoDescriptor,
    TwoDescriptors,
    Count,
}

fn bad(trial: &mut Trial<'_>, what: Bad) -> Verdict {
    trial.welcome()?;
    let listen = trial.asks()?;
    let nth = trial.make(&listen)?;
    let mut message = trial.given()[nth].message.clone();
    if matches!(what, Bad::Count) {
        message.fds = 17;
    }
    trial.say(&FromMaster::Listener(message))?;
    match what {
        Bad::Byte => trial.send(&[1])?,
        Bad::NoDescriptor => trial.send(&[0])?,
        Bad::TwoDescriptors => trial.send_fd_twice(nth)?,
        Bad::Count => (0..17).try_for_each(|_| trial.send_fd(nth))?,
    }
    loop {
        match trial.hear()? {
            Heard::End => return lets_go(trial, nth),
            Heard::Message(FromWorker::Error(_) | FromWorker::Leaving(_) | FromWorker::Disconnect(_)) => {}
            other => return differs("the end of the connection", said(&other)),
        }
    }
}

/// It closes what it got of a listener, or has ended; where the system does not tell, nothing can be said.
pub(super) fn lets_go(trial: &mut Trial<'_>, nth: usize) -> Verdict {
    let until = Instant::now() + trial.patience();
    loop {
        match holders(trial, nth) {
            Err(Fault::Untested(_)) => return Ok(()),
            Err(fault) => return Err(fault),
            Ok(held) if held.is_empty() => return Ok(()),
            Ok(_) if Instant::now() > until => return differs("a listener whose descriptors are closed", "a worker that keeps one"),
            Ok(_) => thread::sleep(LOOK_AGAIN),
        }
    }
}

fn uninvited(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let listen = dutch_master_protocol::message::Listen { seq: 4_000_000, name: Some("uninvited".into()), ..Default::default() };
    let nth = trial.make(&listen)?;
    let message: Listener = trial.given()[nth].message.clone();
    let key = message.key.clone();
    trial.send(&plain(&FromMaster::Listener(message)).concat())?;
    trial.send_fd(nth)?;
    let until = Instant::now() + trial.patience();
    while !trial.closed.contains(&key) {
        match trial.connected()?.hear(until.saturating_duration_since(Instant::now()))? {
            Heard::Message(FromWorker::Close(close)) => trial.closed.push(close.key),
            Heard::Message(_) => {}
            other => return differs("`close` with its key", said(&other)),
        }
    }
    match holders(trial, nth)?.len() {
        0 => Ok(()),
        _ => differs("a descriptor that is closed", "one that stays open"),
    }
}

fn non_blocking(trial: &mut Trial<'_>) -> Verdict {
    trial.running()?;
    let Some(given) = trial.given().first() else { return untested("the worker asks for no listener") };
    let flags = fcntl(given.fd(), FcntlArg::F_GETFL).map_err(std::io::Error::from)?;
    if OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK) { Ok(()) } else { differs("a non-blocking listener", "a blocking one, for every worker") }
}
