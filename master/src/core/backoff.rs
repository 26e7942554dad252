//! The pool's one backoff: how fast failed starts are repeated (rule 7).

use serde::{Deserialize, Serialize};

use super::time::Time;

const FIRST_DELAY_MS: u64 = 1_000;
const LONGEST_DELAY_MS: u64 = 30_000;

/// How long a worker has to run to show that the trouble is over. Its mere `listening` shows nothing: in a crash loop of several workers there is always one that has just said it.
const LASTS_MS: u64 = 2_000;

/// The first failure costs no delay, the next ones 1 s × 1.5^k up to 30 s, and while it lasts one worker is tried at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(super) struct Backoff {
    pub(super) failures: u32,
    last_failure: Time,
    retry_at: Option<Time>,
    one_at_a_time: bool,
    /// A delay that nobody has been told of.
    unreported_ms: Option<u64>,
    /// Part of a thousand to add to the next delay, drawn by the shell.
    jitter: u16,
}

impl Backoff {
    /// A start failed.
    pub(super) fn failed(&mut self, now: Time) {
        self.failures = self.failures.saturating_add(1);
        self.last_failure = now;
        let Some(repeats) = self.failures.checked_sub(2) else { return };
        let base = (0..repeats).try_fold(FIRST_DELAY_MS, |delay, _| if delay < LONGEST_DELAY_MS { Ok(delay * 3 / 2) } else { Err(delay) });
        let (Ok(base) | Err(base)) = base;
        let base = base.min(LONGEST_DELAY_MS);
        let delay = base + base * u64::from(self.jitter) / 1000;
        self.retry_at = Some(now.after(delay));
        self.one_at_a_time = true;
        self.unreported_ms = Some(delay);
    }

    /// The delay that began since this was last called. Apart from `failed`, because the failure may be the one that ends all trying.
    pub(super) fn take_unreported(&mut self) -> Option<u64> {
        self.unreported_ms.take()
    }

    /// When the trouble is over if nothing more fails, of workers running since these moments: when one that began after the last failure has lasted. `None`: there is no trouble, or no such worker.
    pub(super) fn over_at(&self, running_since: impl Iterator<Item = Time>) -> Option<Time> {
        let first = running_since.filter(|since| *since >= self.last_failure).min()?;
        (self.failures > 0).then(|| first.after(LASTS_MS))
    }

    /// Someone intervened (restart, scale, reload): forget all.
    pub(super) fn clear(&mut self) {
        *self = Backoff { jitter: self.jitter, ..Backoff::default() };
    }

    pub(super) fn set_jitter(&mut self, permille: u16) {
        self.jitter = permille;
    }

    /// How many starts are allowed now, with `starting` under way and workers running since these moments. One is being tried until it has failed or lasted.
    pub(super) fn allows(&self, starting: u32, running_since: impl Iterator<Item = Time>) -> u32 {
        match (self.retry_at, self.one_at_a_time) {
            (Some(_), _) => 0,
            (None, true) => u32::from(starting == 0 && self.over_at(running_since).is_none()),
            (None, false) => u32::MAX,
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.retry_at
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.retry_at = self.retry_at.filter(|at| *at > now);
    }
}
