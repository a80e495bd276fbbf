//! Erasing what events say about a person, in PostgreSQL and in the stream.

use crate::database::unsigned;
use crate::feed::Feed;
use crate::stream::{self, StreamError};
use crate::zoo::plays;
use async_nats::Client;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use backon::{ConstantBuilder, Retryable};
use cqrs_es::Aggregate;
use serde_json::Value;
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
}

/// Blanks every event of an aggregate and deletes their messages; positions and versions stay. Returns how many events
/// there are.
///
/// `blank` makes an event's payload, given its type, into one that says nothing about the person and can still be read.
/// Append what remains to be said (`erased`) afterwards. A stream that is refilled gets the blank events. PostgreSQL's
/// dead rows, its WAL and backups keep the text until they are vacuumed, recycled and expired.
pub async fn erase<A: Aggregate>(
    pool: &PgPool,
    nats: &Client,
    feed: &Feed,
    aggregate_id: &str,
    blank: impl Fn(&str, Value) -> Value,
) -> Result<u64, EraseError> {
    let aggregate_type = A::TYPE;
    let mut transaction = pool.begin().await?;
    let rows: Vec<(i64, String, Value)> = sqlx::query_as(
        "SELECT sequence, event_type, payload FROM events
         WHERE aggregate_type = $1 AND aggregate_id = $2 AND NOT erased ORDER BY sequence FOR UPDATE",
    )
    .bind(aggregate_type)
    .bind(aggregate_id)
    .fetch_all(&mut *transaction)
    .await?;
    for (sequence, event_type, payload) in rows {
        sqlx::query(
            "UPDATE events SET payload = $1, erased = true
             WHERE aggregate_type = $2 AND aggregate_id = $3 AND sequence = $4",
        )
        .bind(blank(&event_type, payload))
        .bind(aggregate_type)
        .bind(aggregate_id)
        .bind(sequence)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;

    // The relay may have read an event before it was blank: only once it is in the stream can it be deleted there.
    let look = || published(pool, nats, feed, aggregate_type, aggregate_id);
    let patience = ConstantBuilder::default().with_delay(Duration::from_millis(10)).with_max_times(TRIES);
    let (stream, positions) = look.retry(patience).when(|error| matches!(error, EraseError::Unpublished)).await?;
    if plays("purged-instead-of-erased") {
        let subject = format!("{}.{aggregate_type}.{aggregate_id}.>", feed.root);
        stream.purge().filter(subject).await.map_err(StreamError::nats)?;
    }
    for position in &positions {
        delete(&stream, *position).await?;
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
async fn delete(stream: &Stream, position: u64) -> Result<(), StreamError> {
    match stream.get_raw_message(position).await {
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(()),
        Err(error) => Err(StreamError::nats(error)),
        Ok(_) => stream.delete_message(position).await.map(drop).map_err(StreamError::nats),
    }
}
