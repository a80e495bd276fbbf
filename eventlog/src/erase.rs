//! Erasing what events say about a person, in PostgreSQL and in the stream.

use crate::database::{signed, unsigned};
use crate::feed::Feed;
use crate::recorded::{self, RecordedError};
use crate::stream::missing::count;
use crate::stream::{self, StreamError};
use crate::zoo::plays;
use async_nats::Client;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use backon::{ConstantBuilder, Retryable};
use cqrs_es::persist::EventUpcaster;
use cqrs_es::{Aggregate, DomainEvent};
use sqlx::PgPool;
use std::time::Duration;

/// How often the relay is asked whether the last of the events is published, 10 ms apart.
const TRIES: usize = 500;

/// Why not everything is erased. Erasing again goes on where it ended.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The database is away: nothing is erased.
    #[error("the event log is unavailable")]
    Database(#[from] sqlx::Error),
    /// The rows are blank, but the stream still has messages: erase again later.
    #[error("the stream still holds the messages")]
    Stream(#[from] StreamError),
    /// The rows are blank, but some of the events are not published yet, and would be out of reach: erase again later.
    #[error("some of the events are not published yet")]
    Unpublished,
    /// Nothing is blanked: a newer version of the program wrote one of the events. Erase with that version.
    #[error("an event cannot be read, so that it is not known what to blank")]
    Unreadable(#[from] RecordedError),
    /// Nothing is blanked: the blank event is no JSON.
    #[error("an event cannot be written")]
    Unwritable(#[source] serde_json::Error),
}

/// Blanks every event of an aggregate before that version and deletes their messages; positions and versions stay. Returns how
/// many events are blank.
///
/// The event of that version says that the aggregate is erased: append it first, so that nothing with values can be appended
/// any more by whoever knows it. What was appended after it nevertheless, by a process of an older version, is blanked where
/// it says something about the person. `blank` makes an event into one that says nothing about the person. A stream that is
/// refilled gets the blank events. PostgreSQL's dead rows, its WAL and backups keep the text until they are vacuumed, recycled
/// and expired.
pub async fn erase<A: Aggregate>(
    pool: &PgPool,
    nats: &Client,
    feed: &Feed,
    aggregate_id: &str,
    version: u64,
    upcasters: &[Box<dyn EventUpcaster>],
    blank: impl Fn(A::Event) -> A::Event,
) -> Result<u64, EraseError> {
    let mut again = true;
    let mut erased = 0;
    while again {
        // What was appended while messages were deleted is found the next time.
        again = blank_rows::<A>(pool, aggregate_id, version, upcasters, &blank).await? > 0;
        erased = delete_messages(pool, nats, feed, A::TYPE, aggregate_id).await?;
    }
    Ok(erased)
}

/// The same in PostgreSQL alone, for a stream that is about to be made anew from it. Returns how many events it blanked.
///
/// # Errors
/// As [`erase`]'s, but for those of the stream.
pub async fn erase_rows<A: Aggregate>(
    pool: &PgPool,
    aggregate_id: &str,
    version: u64,
    upcasters: &[Box<dyn EventUpcaster>],
    blank: impl Fn(A::Event) -> A::Event,
) -> Result<u64, EraseError> {
    let mut blanked = 0;
    loop {
        match blank_rows::<A>(pool, aggregate_id, version, upcasters, &blank).await? {
            0 => return Ok(blanked),
            more => blanked += more,
        }
    }
}

/// Blanks the rows that are to be blank and are not yet. Returns how many it found.
async fn blank_rows<A: Aggregate>(
    pool: &PgPool,
    aggregate_id: &str,
    version: u64,
    upcasters: &[Box<dyn EventUpcaster>],
    blank: impl Fn(A::Event) -> A::Event,
) -> Result<u64, EraseError> {
    let mut transaction = pool.begin().await?;
    let mut found = 0;
    for recorded in recorded::unerased(&mut *transaction, A::TYPE, aggregate_id).await? {
        let event = recorded.event::<A>(upcasters)?;
        let blank = blank(event.clone());
        if recorded.version >= version && blank == event {
            continue;
        }
        sqlx::query(
            "UPDATE events SET payload = $1, event_version = $2, erased = true
             WHERE aggregate_type = $3 AND aggregate_id = $4 AND sequence = $5",
        )
        .bind(serde_json::to_value(&blank).map_err(EraseError::Unwritable)?)
        .bind(blank.event_version())
        .bind(A::TYPE)
        .bind(aggregate_id)
        .bind(signed(recorded.version))
        .execute(&mut *transaction)
        .await?;
        found += 1;
    }
    transaction.commit().await?;
    Ok(found)
}

/// Deletes the messages of all blank events. Returns how many there are.
async fn delete_messages(
    pool: &PgPool,
    nats: &Client,
    feed: &Feed,
    aggregate_type: &str,
    aggregate_id: &str,
) -> Result<u64, EraseError> {
    // The relay may have read an event before it was blank: only once it is in the stream can it be deleted there.
    let look = || published(pool, nats, feed, aggregate_type, aggregate_id);
    let patience = ConstantBuilder::default().with_delay(Duration::from_millis(10)).with_max_times(TRIES);
    let (stream, positions) = look.retry(patience).when(|error| matches!(error, EraseError::Unpublished)).await?;
    if plays("purged-instead-of-erased") {
        let subject = format!("{}.{aggregate_type}.{aggregate_id}.>", feed.root);
        stream.purge().filter(subject).await.map_err(StreamError::nats)?;
    }
    for position in &positions {
        delete(pool, &stream, *position).await?;
    }
    Ok(positions.len() as u64)
}

/// The positions of an aggregate's erased events, all of which the stream has.
async fn published(
    pool: &PgPool,
    nats: &Client,
    feed: &Feed,
    aggregate_type: &str,
    aggregate_id: &str,
) -> Result<(Stream, Vec<u64>), EraseError> {
    let positions: Vec<Option<i64>> = sqlx::query_scalar(
        "SELECT position FROM events WHERE aggregate_type = $1 AND aggregate_id = $2 AND erased ORDER BY sequence",
    )
    .bind(aggregate_type)
    .bind(aggregate_id)
    .fetch_all(pool)
    .await?;
    let stream = match stream::open(nats, feed).await {
        // The relay makes it, and fills it.
        Err(StreamError::NotFound(_)) => return Err(EraseError::Unpublished),
        opened => opened?,
    };
    let last = stream.cached_info().state.last_sequence;
    let positions: Option<Vec<u64>> = positions.into_iter().map(|position| position.map(unsigned)).collect();
    match positions {
        Some(positions) if positions.iter().all(|position| *position <= last) => Ok((stream, positions)),
        _ => Err(EraseError::Unpublished),
    }
}

/// Deletes one message and overwrites it: a purge would leave the text in the file.
async fn delete(pool: &PgPool, stream: &Stream, position: u64) -> Result<(), StreamError> {
    match stream.get_raw_message(position).await {
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(()),
        Err(error) => Err(StreamError::nats(error)),
        Ok(_) => {
            stream.delete_message(position).await.map_err(StreamError::nats)?;
            Ok(count(pool).await?)
        }
    }
}
