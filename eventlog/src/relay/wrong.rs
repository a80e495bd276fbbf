//! For the zoo: numbering in ways that looked right.

use super::Relay;
use super::number::number;
use super::publish::send;
use crate::database::unsigned;
use crate::recorded::read_after;
use crate::stream::{self, Verified};
use crate::zoo::plays;
use sqlx::{Connection, PgConnection};

/// What a wrong relay remembers.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The highest ordinal that it has numbered.
    cursor: i64,
}

/// Numbers in the wrong way that this process plays; `None` if it plays none.
pub(super) async fn number_as_played(
    memory: &mut Memory,
    relay: &Relay,
    session: &mut PgConnection,
    limit: u32,
) -> Option<Result<Option<u64>, sqlx::Error>> {
    if plays("reader-above-a-cursor") {
        return Some(memory.above_cursor(session, limit).await);
    }
    if plays("in-the-order-of-transactions") {
        let which = "ORDER BY xmin::text::bigint, ordinal";
        return Some(by(session, which, 0, limit).await.map(|numbered| numbered.map(|(last, _)| last)));
    }
    if plays("published-before-numbered") {
        return Some(publish_first(relay, session, limit).await);
    }
    None
}

impl Memory {
    /// What commits late, with a lower ordinal, is passed over.
    async fn above_cursor(&mut self, session: &mut PgConnection, limit: u32) -> Result<Option<u64>, sqlx::Error> {
        let numbered = by(session, "AND ordinal > $1 ORDER BY ordinal", self.cursor, limit).await?;
        Ok(numbered.map(|(last, highest)| {
            self.cursor = self.cursor.max(highest);
            last
        }))
    }
}

/// Numbers what is chosen so; returns the last position and the highest ordinal.
async fn by(
    session: &mut PgConnection,
    which: &str,
    cursor: i64,
    limit: u32,
) -> Result<Option<(u64, i64)>, sqlx::Error> {
    let row: (Option<i64>, Option<i64>) = sqlx::query_as(&format!(
        "WITH chosen AS (
             SELECT aggregate_type, aggregate_id, sequence, ordinal, xmin FROM events
             WHERE position IS NULL AND $1 >= 0 {which} LIMIT $2
         ), next AS (
             SELECT *, row_number() OVER () AS place FROM chosen
         ), numbered AS (
             UPDATE events SET position = feed.last_position + next.place FROM next, feed
             WHERE (events.aggregate_type, events.aggregate_id, events.sequence)
                 = (next.aggregate_type, next.aggregate_id, next.sequence)
         ), moved AS (
             UPDATE feed SET last_position = last_position + (SELECT count(*) FROM next)
             WHERE EXISTS (SELECT FROM next) RETURNING last_position
         )
         SELECT (SELECT last_position FROM moved), (SELECT max(ordinal) FROM next)"
    ))
    .bind(cursor)
    .bind(i64::from(limit))
    .fetch_one(session)
    .await?;
    Ok(row.0.zip(row.1).map(|(last, highest)| (unsigned(last), highest)))
}

/// The numbers are sent before they are committed: a commit that fails gives them to other events.
async fn publish_first(relay: &Relay, session: &mut PgConnection, limit: u32) -> Result<Option<u64>, sqlx::Error> {
    let Ok(Verified { key, last, .. }) = stream::verify(&relay.pool, &relay.nats, &relay.feed).await else {
        return Ok(None);
    };
    let mut transaction = session.begin().await?;
    let numbered = number(&mut transaction, limit, last).await?.map(|numbered| numbered.last);
    if numbered.is_some() {
        let events = read_after(&mut *transaction, last, limit).await?;
        send(&relay.nats, &relay.feed, &key, &events).await;
    }
    transaction.commit().await?;
    Ok(numbered)
}
