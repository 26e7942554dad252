//! What the service manager is told, and when: that all workers listen, that a reload is under way, that the master stops, one line for people, and that the loop still turns.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::super::clock;
use super::super::event_loop::EventLoop;
use super::handed::kept_name;
use super::notify::Notifier;
use crate::core::listeners::Key;
use crate::core::{GenerationId, Phase, Time};

/// Longest reason in the line for people, in characters.
const REASON_MAX: usize = 200;

/// A listener that the service manager is to keep, so that it outlives the death of everything, or need not keep any more.
#[derive(Debug)]
pub(in super::super) enum Upheld {
    Keep(Key, Arc<OwnedFd>),
    /// By the name that it is kept under.
    Forget(String),
}

impl Upheld {
    pub(in super::super) fn no_more(key: &str) -> Upheld {
        Upheld::Forget(kept_name(key))
    }
}

/// What it knows.
#[derive(Debug, Default)]
pub(in super::super) struct Telling {
    notifier: Option<Notifier>,
    /// Half of the time after which it takes silence for death, in milliseconds.
    watchdog_ms: Option<u64>,
    alive_at: Option<Time>,
    shown: Option<Shown>,
    /// The line for people.
    status: String,
    /// All workers have listened.
    pub(in super::super) is_ready: bool,
    has_said_ready: bool,
    is_reloading: bool,
    is_stopping: bool,
    /// Why the last reload was refused.
    refused: Option<String>,
}

/// What the line for people is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    phase: Phase,
    running: u32,
    size: u32,
    generation: GenerationId,
    all: usize,
    given_up: Option<GenerationId>,
    is_refused: bool,
}

/// The same as it is handed over to the program that takes this one's place: what it has been told.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in super::super) struct Handed {
    status: String,
    is_ready: bool,
    has_said_ready: bool,
    is_reloading: bool,
    is_stopping: bool,
    refused: Option<String>,
}

impl Telling {
    pub(in super::super) fn hand_over(&self) -> Handed {
        let Telling { status, is_ready, has_said_ready, is_reloading, is_stopping, refused, .. } = self;
        let (status, refused) = (status.clone(), refused.clone());
        Handed { status, is_ready: *is_ready, has_said_ready: *has_said_ready, is_reloading: *is_reloading, is_stopping: *is_stopping, refused }
    }

    /// Goes on where the program before this one was.
    pub(in super::super) fn handed(self, handed: Handed) -> Telling {
        let Handed { status, is_ready, has_said_ready, is_reloading, is_stopping, refused } = handed;
        Telling { status, is_ready, has_said_ready, is_reloading, is_stopping, refused, ..self }
    }

    pub(super) fn new(notifier: Option<Notifier>, watchdog_us: Option<u64>) -> Telling {
        let watchdog_ms = watchdog_us.filter(|_| notifier.is_some()).map(|us| (us / 2_000).max(1));
        Telling { alive_at: watchdog_ms.map(|_| Time(0)), notifier, watchdog_ms, ..Telling::default() }
    }

    pub(in super::super) fn is_wanted(&self) -> bool {
        self.notifier.is_some()
    }

    /// When something is due to be said.
    pub(in super::super) fn deadline(&self) -> Option<Time> {
        [self.alive_at, self.notifier.as_ref().and_then(Notifier::deadline)].into_iter().flatten().min()
    }

    pub(in super::super) fn expired(&mut self, now: Time) {
        let Some(notifier) = &mut self.notifier else { return };
        notifier.expired(now);
        if self.alive_at.is_some_and(|at| at <= now) {
            notifier.say(now, "WATCHDOG=1".into(), None);
            self.alive_at = self.watchdog_ms.map(|ms| now.after(ms));
        }
    }

    /// From here on until its outcome is known.
    pub(in super::super) fn reload_begins(&mut self) {
        let Some(notifier) = self.notifier.as_mut().filter(|_| !self.is_stopping) else { return };
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000);
        notifier.say(clock::now(), format!("RELOADING=1\nMONOTONIC_USEC={monotonic}"), None);
        (self.is_reloading, self.refused) = (true, None);
    }

    /// It has no way to hear of a reload that failed but the line for people.
    pub(in super::super) fn reload_refused(&mut self, why: &str) {
        self.refused = Some(why.into());
        self.shown = None;
    }
}

impl EventLoop {
    /// Tells what is new.
    pub(in super::super) fn tell_manager(&mut self) {
        if !self.telling.is_wanted() {
            return;
        }
        let now = clock::now();
        let (phase, is_evaluating) = (self.pool.phase(), self.evaluation.deadline().is_some());
        let shown = Shown {
            phase,
            running: self.pool.running(),
            size: self.pool.size(),
            generation: self.pool.generation(),
            all: self.pool.workers().count(),
            given_up: self.pool.given_up().map(|(generation, _)| generation),
            is_refused: self.telling.refused.is_some(),
        };
        let is_news = self.telling.shown != Some(shown);
        let status = is_news.then(|| self.in_one_line(&shown)).filter(|status| *status != self.telling.status);
        let upheld = self.listeners.take_upheld();
        let telling = &mut self.telling;
        let Some(notifier) = &mut telling.notifier else { return };
        for upheld in upheld {
            match upheld {
                Upheld::Keep(key, fd) => notifier.say(now, format!("FDSTORE=1\nFDNAME={}\nFDPOLL=0", kept_name(&key)), Some(fd)),
                Upheld::Forget(name) => notifier.say(now, format!("FDSTOREREMOVE=1\nFDNAME={name}"), None),
            }
        }
        let mut lines = String::new();
        if phase == Phase::Stopping {
            if !std::mem::replace(&mut telling.is_stopping, true) {
                lines.push_str("STOPPING=1\n");
            }
        } else if telling.is_ready && !telling.has_said_ready || telling.is_reloading && phase != Phase::Restarting && !is_evaluating {
            (telling.has_said_ready, telling.is_reloading) = (telling.is_ready, false);
            // A reload that ends before the first start has is no readiness.
            if telling.is_ready {
                lines.push_str("READY=1\n");
            }
        }
        if let Some(status) = status {
            // Writing to a string cannot fail.
            let _ = write!(lines, "STATUS={status}");
            telling.status = status;
        }
        telling.shown = Some(shown);
        if !lines.is_empty() {
            notifier.say(now, lines, None);
        }
    }

    /// For `systemctl status`.
    fn in_one_line(&self, shown: &Shown) -> String {
        let Shown { phase, running, size, generation, all, .. } = *shown;
        let count = format!("{running} of {size} workers serve, generation {generation}");
        match (phase, self.pool.given_up(), &self.telling.refused) {
            (Phase::Starting, ..) => format!("Starting: {count}"),
            (Phase::Restarting, ..) => format!("Restarting: {count}"),
            (Phase::Stopping, ..) => format!("Stopping: {all} workers still finish their requests"),
            (Phase::Serving, Some((failed, why)), _) => {
                format!("Restart given up: generation {failed} does not come up ({}); {count}", short(&self.in_words(why)))
            }
            (Phase::Serving, None, Some(why)) => format!("Reload refused, nothing changed ({}); {count}", short(why)),
            (Phase::Serving, None, None) => count,
        }
    }
}

/// What may be of any length and have several lines, as a part of one.
fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_never_breaks_the_line() {
        assert_eq!(short("a\nREADY=1"), "a READY=1");
        assert_eq!(short(&"ä".repeat(REASON_MAX + 1)).chars().count(), REASON_MAX);
    }

    #[test]
    fn the_watchdog_is_told_at_half_of_its_time_and_only_where_it_is_asked_for_and_can_hear() {
        let deaf = Telling::new(None, Some(10_000_000));
        assert_eq!(deaf.deadline(), None);
        let notifier = || Notifier::to(std::ffi::OsStr::new("/nowhere/notify")).ok();
        assert_eq!(Telling::new(notifier(), None).deadline(), None);
        let mut asked = Telling::new(notifier(), Some(10_000_000));
        asked.expired(Time(70));
        assert_eq!(asked.deadline(), Some(Time(5_070)));
    }
}
