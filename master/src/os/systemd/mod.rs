//! systemd, or whatever else speaks as it does: it has started the master, is told how it goes, lends sockets, and keeps those of the master while nobody else does. Where there is none, nothing of this happens.
//!
//! Own code rather than a crate: those that there are send on a blocking socket, and read the environment whenever they send.

mod handed;
mod notify;
mod telling;

use std::env;
use std::ffi::{OsStr, OsString};
use std::{io, process};

use tracing::warn;

pub(super) use self::handed::{HandedSockets, Handover, kept_name};
use self::notify::Notifier;
pub(super) use self::telling::{Handed as HandedTelling, Telling, Upheld};
use super::orders::in_full;

/// What belongs to this process alone. The notify socket and the watchdog stay in the environment: after an exec the next image is the same process to the service manager.
const ABOUT_SOCKETS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/// What the service manager gave to this process; by default there is none.
#[derive(Debug, Default)]
pub struct ServiceManager {
    pub(super) telling: Telling,
    pub(super) sockets: HandedSockets,
    /// What is given to it to keep, the next master takes back.
    pub(super) is_to_keep: bool,
}

impl ServiceManager {
    /// One that is told how it goes, and neither lends nor keeps sockets: for programs that embed the master, whose descriptors are their own. `notify_socket` and `watchdog_us` are what it said in
    /// `NOTIFY_SOCKET` and, to this process, in `WATCHDOG_USEC`.
    pub fn that_is_told(notify_socket: &OsStr, watchdog_us: Option<u64>) -> ServiceManager {
        ServiceManager { telling: Telling::new(notifier(notify_socket), watchdog_us.filter(|us| *us > 0)), ..ServiceManager::default() }
    }

    /// What the environment and the descriptors from 3 on say. What cannot be used is told, and never stops a start.
    ///
    /// # Safety
    /// No other thread may run, and nothing in this process may use a descriptor without close-on-exec that the environment speaks of: to be called at the beginning of a program.
    #[allow(unsafe_code)]
    pub unsafe fn from_env() -> ServiceManager {
        let ours = |variable| number(variable).is_none_or(|pid| pid == u64::from(process::id()));
        let notifier = env::var_os("NOTIFY_SOCKET").and_then(|name| notifier(&name));
        let watchdog_us = number("WATCHDOG_USEC").filter(|us| *us > 0 && ours("WATCHDOG_PID"));
        let count = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(process::id().into())).unwrap_or(0);
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        // SAFETY: the caller says that these descriptors are nobody else's, and that there is no other thread.
        let (sockets, unfit) = unsafe {
            ABOUT_SOCKETS.iter().for_each(|name| env::remove_var(name));
            HandedSockets::take_over(count, &names)
        };
        for (name, why) in unfit {
            warn!(socket = name, reason = in_full(why), "Socket of the service manager cannot be used");
        }
        ServiceManager { telling: Telling::new(notifier, watchdog_us), sockets, is_to_keep: true }
    }
}

fn notifier(name: &OsStr) -> Option<Notifier> {
    let refused = |error: &io::Error| warn!(socket = %name.display(), reason = %error, "The service manager cannot be told anything");
    if name.is_empty() { None } else { Notifier::to(name).inspect_err(refused).ok() }
}

fn number(variable: &str) -> Option<u64> {
    env::var_os(variable).and_then(|value: OsString| value.to_str()?.parse().ok())
}
