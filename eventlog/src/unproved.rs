//! Counting and telling of messages that are not proved to be the relay's.

use crate::feed::Feed;
use crate::mac::Unproved;
use metrics::counter;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A process tells of them once in so long: whoever may publish must not fill the log.
const SELDOM: Duration = Duration::from_secs(60);

static TOLD: Mutex<Option<Instant>> = Mutex::new(None);

/// Counts a message that a reader has refused, and tells of it. `after` is the last position that was read before it.
pub(crate) fn refuse(feed: &Feed, after: u64, reason: Unproved) {
    counter!("tandem_feed_unproved_messages_total", "reason" => reason.label()).increment(1);
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.is_some_and(|told| told.elapsed() < SELDOM) {
        return;
    }
    *told = Some(Instant::now());
    tracing::error!(
        stream = %feed.stream, after, %reason,
        "a message after position {after} is not proved to be the relay's, and was not applied: PostgreSQL is read instead. \
         Somebody else may publish to {}, or an older version did; `tandem stream check` compares", feed.subjects()
    );
}
