//! When a sight of a remote object was true, as far as the remote's clock can tell.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// A span of the remote's time, from (included) until (excluded), in which an observation was made.
///
/// A remote that stamps whole seconds and promises no order says only so much. Two sights are ordered
/// only where their intervals do not touch; everything else asks the remote again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

/// How one interval lies to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Wholly before.
    Before,
    /// Wholly after.
    After,
    /// Neither: the order cannot be known.
    Overlapping,
}

impl Interval {
    /// An object inside an event that the remote stamped with the whole second `created`: `[created-1, created+2)`.
    /// The second of slack on both sides is for a stamp that was taken before or after the object was read.
    pub fn of_event(created: DateTime<Utc>) -> Self {
        Self { from: before(created, TimeDelta::seconds(1)), until: after(created, TimeDelta::seconds(2)) }
    }

    /// A reply that carried `date` (whole seconds, the remote's clock) after `elapsed` of our time:
    /// `[date-⌈elapsed⌉-1, date+2)`.
    pub fn of_call(date: DateTime<Utc>, elapsed: TimeDelta) -> Self {
        let second = TimeDelta::seconds(1);
        let whole = TimeDelta::seconds(elapsed.num_seconds());
        let ceiling = if whole < elapsed { whole + second } else { whole };
        let date = date.duration_trunc(second).unwrap_or(date);
        Self { from: before(date, ceiling + second), until: after(date, second * 2) }
    }

    /// An interval read back from where it was stored.
    pub fn stored(from: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        Self { from, until }
    }

    /// The first instant.
    pub fn from(&self) -> DateTime<Utc> {
        self.from
    }

    /// The first instant after it.
    pub fn until(&self) -> DateTime<Utc> {
        self.until
    }

    /// Whether all of it lies after that instant.
    pub fn is_after(&self, instant: DateTime<Utc>) -> bool {
        self.from > instant
    }

    /// How this interval lies to `other`.
    pub fn order(&self, other: &Self) -> Order {
        if self.from >= other.until {
            Order::After
        } else if self.until <= other.from {
            Order::Before
        } else {
            Order::Overlapping
        }
    }
}

/// So much before that time, as far as times reach: a remote says what it likes.
fn before(time: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    time.checked_sub_signed(by).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// So much after it.
fn after(time: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    time.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + n, 0).unwrap()
    }

    #[test]
    fn events_of_neighbouring_seconds_cannot_be_ordered() {
        let first = Interval::of_event(second(0));
        for gap in 0..3 {
            assert_eq!(Interval::of_event(second(gap)).order(&first), Order::Overlapping, "{gap} s apart");
        }
    }

    #[test]
    fn events_three_seconds_apart_are_ordered_both_ways() {
        let (first, second) = (Interval::of_event(second(0)), Interval::of_event(second(3)));
        assert_eq!(second.order(&first), Order::After);
        assert_eq!(first.order(&second), Order::Before);
    }

    #[test]
    fn a_slow_call_may_have_been_answered_long_before_its_date() {
        let slow = Interval::of_call(second(10), TimeDelta::milliseconds(4_200));
        assert_eq!(slow.from(), second(4), "10 s less 5 s of waiting less 1 s");
        assert_eq!(slow.until(), second(12));
        assert_eq!(Interval::of_event(second(5)).order(&slow), Order::Overlapping);
    }

    #[test]
    fn a_call_of_whole_seconds_is_not_rounded_further() {
        assert_eq!(Interval::of_call(second(10), TimeDelta::seconds(4)).from(), second(5));
    }

    #[test]
    fn an_interval_is_after_what_lies_before_its_first_instant() {
        let event = Interval::of_event(second(10));
        assert!(event.is_after(second(8)));
        assert!(!event.is_after(second(9)) && !event.is_after(second(20)));
    }

    #[test]
    fn an_interval_overlaps_itself() {
        let interval = Interval::of_event(second(0));
        assert_eq!(interval.order(&interval), Order::Overlapping);
    }

    #[test]
    fn no_time_is_too_odd_for_an_interval() {
        for time in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            assert!(Interval::of_event(time).from <= Interval::of_event(time).until);
            assert!(Interval::of_call(time, TimeDelta::days(1)).from <= time);
        }
    }
}
