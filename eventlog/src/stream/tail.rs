//! What a stream still tells that a restored database no longer knows.

use super::{StreamError, open};
use crate::cloudevent;
use crate::database::FeedRow;
use crate::feed::Feed;
use crate::recorded::{Recorded, RecordedError};
use async_nats::Client;
use async_nats::jetstream::stream::RawMessageErrorKind;
use sqlx::PgPool;

/// What [`tail`] found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tail {
    /// The events, in their order.
    pub events: Vec<Recorded>,
    /// How many messages more are on such a subject, but the database's key does not prove that the relay made them.
    pub unproved: u64,
}

/// Reads the events of one type beyond the database's last position from the stream: after a backup was restored, those that
/// happened since it was made. Empty if there is no stream. One call to NATS for each event found.
///
/// # Errors
/// The database or NATS is unavailable, or a message of the relay's own cannot be read.
pub async fn tail(
    pool: &PgPool,
    nats: &Client,
    feed: &Feed,
    aggregate_type: &str,
    event_type: &str,
) -> Result<Tail, StreamError> {
    let stream = match open(nats, feed).await {
        Err(StreamError::NotFound(_)) => return Ok(Tail::default()),
        opened => opened?,
    };
    let FeedRow { last, key, .. } = FeedRow::read(pool).await?;
    let subject = feed.subject(aggregate_type, "*", event_type);
    let (mut found, mut next) = (Tail::default(), last + 1);
    loop {
        let message = match stream.get_first_raw_message_by_subject(&subject, next).await {
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(found),
            message => message.map_err(StreamError::nats)?,
        };
        next = message.sequence + 1;
        match key.check(&message) {
            Err(_) => found.unproved += 1,
            Ok(()) => {
                let event: Result<Recorded, RecordedError> = cloudevent::parse(&message.headers, &message.payload);
                found.events.push(event.map_err(StreamError::nats)?);
            }
        }
    }
}
