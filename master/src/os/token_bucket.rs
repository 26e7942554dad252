//! How often something may happen: a burst at once, and then one for each interval.

use crate::core::Time;

/// A bucket. It holds `capacity` tokens at first and gets one back for each interval.
#[derive(Debug, Clone)]
pub(super) struct TokenBucket {
    capacity: u64,
    interval_ms: u64,
    /// When it is full again. That moment says how many are left, so that nothing has to be counted while nothing happens.
    full_at: Time,
}

impl TokenBucket {
    pub(super) const fn new(capacity: u64, interval_ms: u64) -> TokenBucket {
        TokenBucket { capacity, interval_ms, full_at: Time(0) }
    }

    /// Takes that many tokens, or none if there are too few.
    pub(super) fn take(&mut self, now: Time, tokens: u64) -> bool {
        let full_at = Time(self.full_at.0.max(now.0)).after(tokens.saturating_mul(self.interval_ms));
        let is_allowed = full_at.since(now) <= self.capacity * self.interval_ms;
        if is_allowed {
            self.full_at = full_at;
        }
        is_allowed
    }

    /// When it is full again.
    pub(super) fn full_at(&self) -> Time {
        self.full_at
    }

    /// As much in it as in one that is full again then.
    pub(super) fn refilled_at(self, full_at: Time) -> TokenBucket {
        TokenBucket { full_at, ..self }
    }

    /// When that many can be taken.
    pub(super) fn available_at(&self, tokens: u64) -> Time {
        let missing_until = self.full_at.after(tokens.saturating_mul(self.interval_ms));
        Time(missing_until.0.saturating_sub(self.capacity * self.interval_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_one_for_each_interval() {
        // (when, how many, whether they are there), one after the other.
        let table = [
            (1_000, 10, true),
            (1_000, 1, false),
            (1_004, 1, false),
            (1_005, 1, true),
            (1_005, 1, false),
            (1_030, 6, false),
            (1_030, 5, true),
            (9_000, 11, false),
            (9_000, 10, true),
            (9_000, 1, false),
            // The clock never goes back, but if it did nothing would be given away.
            (8_000, 1, false),
        ];
        let mut bucket = TokenBucket::new(10, 5);
        for (now, tokens, expected) in table {
            assert_eq!(bucket.take(Time(now), tokens), expected, "{tokens} at {now}: {bucket:?}");
        }
    }

    #[test]
    fn it_says_when_there_will_be_enough() {
        let mut bucket = TokenBucket::new(10, 5);
        assert!(bucket.available_at(10) <= Time(1_000));
        assert!(bucket.take(Time(1_000), 10));
        for tokens in [1, 4, 10] {
            let at = bucket.available_at(tokens);
            assert!(!bucket.clone().take(Time(at.0 - 1), tokens) && bucket.clone().take(at, tokens), "{tokens} at {at:?}");
        }
    }
}
