//! The local Stripe's own clock, which a test can move and stop.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Where the clock stands, against the machine's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Added to the machine's time, in milliseconds.
    pub offset_ms: i64,
    /// The instant at which the clock stands still, in milliseconds since 1970.
    pub frozen_ms: Option<i64>,
}

/// One move of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockChange {
    /// Forward by so many milliseconds, or back if negative; a clock that stands still jumps and stands there.
    AdvanceMs(i64),
    /// Runs again, this far from the machine's time.
    OffsetMs(i64),
    /// Stands still now.
    Freeze,
    /// Stands still at this instant, in milliseconds since 1970.
    FreezeAtMs(i64),
    /// Runs on from where it stands.
    Resume,
}

impl Clock {
    /// Now, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.frozen_ms.unwrap_or_else(|| machine_ms().saturating_add(self.offset_ms))
    }

    /// Now, in whole seconds: all that Stripe tells of a time.
    pub(crate) fn now(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }

    pub(crate) fn change(&mut self, change: ClockChange) {
        match change {
            ClockChange::AdvanceMs(by) => match &mut self.frozen_ms {
                Some(at) => *at = at.saturating_add(by),
                None => self.offset_ms = self.offset_ms.saturating_add(by),
            },
            ClockChange::OffsetMs(offset_ms) => *self = Self { offset_ms, frozen_ms: None },
            ClockChange::Freeze => self.frozen_ms = Some(self.now_ms()),
            ClockChange::FreezeAtMs(at) => self.frozen_ms = Some(at),
            ClockChange::Resume => {
                *self = Self { offset_ms: self.now_ms().saturating_sub(machine_ms()), frozen_ms: None };
            }
        }
    }
}

/// The machine's time, in milliseconds since 1970.
pub(crate) fn machine_ms() -> i64 {
    machine_us() / 1000
}

/// The machine's time, in microseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "Stripe has a clock of its own")]
pub(crate) fn machine_us() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
}
