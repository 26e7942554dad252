//! The time that the core is told.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::core::Time;

/// Now, by the boot-time clock.
pub(super) fn now() -> Time {
    // The clock exists on every Linux since 2.6.39, so this cannot fail.
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    Time(u64::try_from(since_boot.as_millis()).unwrap_or(u64::MAX))
}
