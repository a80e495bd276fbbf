//! How far Stripe's clock is ahead of ours.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

/// What the `Date` of the last replies says about Stripe's clock. Each leaves a range; the truth lies in all of them.
#[derive(Debug, Default)]
pub(crate) struct Offset {
    ranges: Mutex<VecDeque<Range>>,
}

type Range = (TimeDelta, TimeDelta);

const KEPT: usize = 16;

impl Offset {
    /// A reply, dated in whole seconds by Stripe's clock somewhen between `sent` and `received` by ours.
    pub fn note(&self, sent: DateTime<Utc>, received: DateTime<Utc>, date: DateTime<Utc>) {
        let range = (date - received, date + TimeDelta::seconds(1) - sent);
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock of ours that was set back while the call ran: such a range says nothing.
        if range.0 <= range.1 {
            ranges.push_front(range);
            ranges.truncate(KEPT);
        }
    }

    /// The least that the offset may be; zero before the first reply.
    pub fn least(&self) -> TimeDelta {
        self.known().map_or_else(TimeDelta::zero, |(least, _)| least)
    }

    fn known(&self) -> Option<Range> {
        narrowed(&self.ranges.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The offset; zero while it cannot be told from none.
    pub fn now(&self) -> TimeDelta {
        let Some((least, most)) = self.known() else { return TimeDelta::zero() };
        if least <= TimeDelta::zero() && TimeDelta::zero() <= most {
            return TimeDelta::zero();
        }
        least + (most - least) / 2
    }
}

/// What the newest ranges have in common, back to the first that contradicts them: a clock was set in between.
fn narrowed(newest_first: &VecDeque<Range>) -> Option<Range> {
    let mut ranges = newest_first.iter().copied();
    let mut known = ranges.next()?;
    for older in ranges {
        let both = (known.0.max(older.0), known.1.min(older.1));
        if both.0 > both.1 {
            break;
        }
        known = both;
    }
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_700_000_000_000 + n).unwrap()
    }

    /// Replies that took 20 ms each, at these times of ours, from a clock that is `ahead`, all in milliseconds.
    fn told(ahead: i64, at: impl IntoIterator<Item = i64>) -> Offset {
        let offset = Offset::default();
        reply(&offset, ahead, at);
        offset
    }

    fn reply(offset: &Offset, ahead: i64, at: impl IntoIterator<Item = i64>) {
        for at in at {
            let date = (at + 10 + ahead).div_euclid(1000) * 1000;
            offset.note(ms(at), ms(at + 20), ms(date));
        }
    }

    #[test]
    fn clocks_that_agree_within_what_a_date_tells_have_no_offset() {
        assert_eq!(told(0, []).now(), TimeDelta::zero());
        assert_eq!(told(0, (0..16).map(|n| n * 137)).now(), TimeDelta::zero());
        assert_eq!(told(300, [0]).now(), TimeDelta::zero());
    }

    #[test]
    fn many_replies_tell_more_than_one() {
        for ahead in [-5_000, -700, 700, 5_000] {
            let error = told(ahead, (0..16).map(|n| n * 137)).now() - TimeDelta::milliseconds(ahead);
            assert!(error.abs() < TimeDelta::milliseconds(150), "{ahead} ms ahead, off by {error}");
        }
    }

    #[test]
    fn the_least_is_never_more_than_the_offset() {
        for ahead in [-5_000, -700, 0, 300, 5_000] {
            let (one, many) = (told(ahead, [0]).least(), told(ahead, (0..16).map(|n| n * 137)).least());
            assert!(one <= many && many <= TimeDelta::milliseconds(ahead), "{ahead} ms ahead, at least {one}, {many}");
        }
        assert_eq!(told(0, []).least(), TimeDelta::zero());
    }

    #[test]
    fn a_clock_that_was_set_counts_as_it_is_now() {
        let offset = told(0, (0..16).map(|n| n * 137));
        reply(&offset, 60_000, [5_000]);
        assert!((offset.now() - TimeDelta::seconds(60)).abs() <= TimeDelta::seconds(1));
    }
}
