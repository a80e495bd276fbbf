//! Messages that somebody else has deleted from the stream: noticed by their number, without reading any.

use super::{StreamError, open};
use crate::answer::answer;
use crate::database::{signed, unsigned};
use crate::feed::Feed;
use async_nats::Client;
use async_nats::jetstream::stream::{State, Stream};
use sqlx::{PgExecutor, PgPool};

/// Up to so many deleted messages, each is looked up once the numbers differ; beyond, the difference is told as it is.
const LOOKED_UP: u64 = 100_000;

/// What was found when it was looked at last: the numbers, and how many messages are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    gone: u64,
    counted: u64,
    pub(crate) missing: u64,
}

/// How many messages the stream has no more.
pub(super) fn gone(state: &State) -> u64 {
    state.last_sequence.saturating_sub(state.messages)
}

/// The positions that the stream has no more, so many as that; `None` where they are too many to be told in one answer.
pub(super) async fn deleted(stream: &Stream, gone: u64) -> Result<Option<Vec<u64>>, StreamError> {
    if gone > LOOKED_UP {
        return Ok(None);
    }
    let state = stream.info_builder().with_deleted(true).fetch().await.map_err(StreamError::nats)?.info.state;
    Ok(Some((1..state.first_sequence).chain(state.deleted.unwrap_or_default()).collect()))
}

/// Counts a message that erasing has deleted.
pub(crate) async fn count(database: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE stream_deletions SET count = count + 1").execute(database).await?;
    Ok(())
}

/// How many messages are missing whose persons were not erased: one row and no message is read, unless the numbers differ in another
/// way than when they were looked at last.
pub(crate) async fn missing(
    pool: &PgPool,
    nats: &Client,
    feed: &Feed,
    gone: u64,
    last: Seen,
) -> Result<Seen, StreamError> {
    let counted = sqlx::query_scalar("SELECT count FROM stream_deletions").fetch_one(pool);
    let counted = unsigned(answer(counted).await?);
    if gone <= counted || (gone, counted) == (last.gone, last.counted) {
        let missing = if gone <= counted { 0 } else { last.missing };
        return Ok(Seen { gone, counted, missing });
    }
    let Some(deleted) = deleted(&open(nats, feed).await?, gone).await? else {
        return Ok(Seen { gone, counted, missing: gone - counted });
    };
    let deleted: Vec<i64> = deleted.into_iter().map(signed).collect();
    let unerased = sqlx::query_scalar("SELECT count(*) FROM events WHERE position = ANY($1) AND NOT erased")
        .bind(deleted)
        .fetch_one(pool);
    let missing = unsigned(answer(unerased).await?);
    Ok(Seen { gone, counted, missing })
}

/// Puts the count right after [`missing`]: erasing may have died between deleting and counting, and a stream that was made anew
/// lacks nothing.
pub(crate) async fn correct(pool: &PgPool, Seen { gone, counted, missing }: Seen) -> Result<Seen, sqlx::Error> {
    let right = gone.saturating_sub(missing);
    if right == counted {
        return Ok(Seen { gone, counted, missing });
    }
    let corrected = sqlx::query("UPDATE stream_deletions SET count = $1 WHERE count = $2")
        .bind(signed(right))
        .bind(signed(counted))
        .execute(pool);
    answer(corrected).await?;
    Ok(Seen { gone, counted: right, missing })
}
