//! How what is told lies to what was last seen, by the gateway's clock.

use chrono::{DateTime, TimeDelta, Utc};
use tandem_domain::{Interval, Order};
use tandem_eventlog::zoo::plays;

use super::Run;
use crate::RemoteChange;
use crate::link::Base;

/// Orders a change against the base. An event of a time to come orders nothing (Stripe stamps what happens under a test clock with that
/// clock's time), and neither does a base that was taken from one: everything made until then would pass for older.
pub(super) fn order(run: &Run<'_>, change: &RemoteChange, base: &Base) -> Order {
    let event = Interval::of_event(change.created);
    if is_to_come(run, &event) || is_to_come(run, &base.interval) {
        return Order::Overlapping;
    }
    event.order(&base.interval)
}

/// Whether the interval lies ahead of the gateway's clock, as far as that has surely run: nobody can have seen anything in it. Between
/// what has surely passed and what is yet to come lies the error of the offset; what falls there is asked for once too often.
pub(super) fn is_to_come(run: &Run<'_>, interval: &Interval) -> bool {
    interval.is_after(run.now() + run.gateway().least_clock_offset()) && !plays("events-to-come-as-they-come")
}

/// When a change was made there, by our clock: never later than now, whatever the gateway says.
pub(super) fn made_at(run: &Run<'_>, change: &RemoteChange) -> DateTime<Utc> {
    let made = edit_time(change) - run.gateway().clock_offset();
    if plays("events-to-come-as-they-come") { made } else { made.min(run.now()) }
}

/// A stamp of whole seconds says that the edit was made within the second that it begins: its middle is the fairest
/// guess.
fn edit_time(change: &RemoteChange) -> DateTime<Utc> {
    change.created + TimeDelta::milliseconds(500)
}
