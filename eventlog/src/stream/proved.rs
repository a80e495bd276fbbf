//! What a stream proves to have happened, whether or not a restored database still knows it.

use super::{StreamError, missing, open};
use crate::cloudevent;
use crate::database::FeedRow;
use crate::feed::Feed;
use crate::recorded::{Recorded, RecordedError};
use async_nats::Client;
use async_nats::jetstream::stream::RawMessageErrorKind;
use sqlx::PgPool;

/// What [`proved`] found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Proved {
    /// The events, in their order.
    pub events: Vec<Recorded>,
    /// The subjects of messages that the database's key does not prove to be the relay's.
    pub unproved: Vec<String>,
    /// How many messages beyond the database's last position are gone: what they proved, nobody knows. Of very many, how many are
    /// gone in all.
    pub lost: u64,
}

/// Reads all events of one type that the stream has, wherever the database is: one that was restored, and written to since, has
/// events of its own at the positions of those that it lost. Empty if there is no stream. One call to NATS for each event found.
///
/// # Errors
/// The database or NATS is unavailable, or a message of the relay's own cannot be read.
pub async fn proved(
    pool: &PgPool,
    nats: &Client,
    feed: &Feed,
    aggregate_type: &str,
    event_type: &str,
) -> Result<Proved, StreamError> {
    let stream = match open(nats, feed).await {
        Err(StreamError::NotFound(_)) => return Ok(Proved::default()),
        opened => opened?,
    };
    let FeedRow { last, key, .. } = FeedRow::read(pool).await?;
    let gone = missing::gone(&stream.cached_info().state);
    let lost = match missing::deleted(&stream, gone).await? {
        Some(deleted) => deleted.into_iter().filter(|position| *position > last).count() as u64,
        None => gone,
    };
    let subject = feed.subject(aggregate_type, "*", event_type);
    let (mut found, mut next) = (Proved { lost, ..Proved::default() }, 1);
    loop {
        let message = match stream.get_first_raw_message_by_subject(&subject, next).await {
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(found),
            message => message.map_err(StreamError::nats)?,
        };
        next = message.sequence + 1;
        match key.check(&message) {
            Err(_) => found.unproved.push(message.subject.to_string()),
            Ok(()) => {
                let event: Result<Recorded, RecordedError> = cloudevent::parse(&message.headers, &message.payload);
                found.events.push(event.map_err(StreamError::nats)?);
            }
        }
    }
}
