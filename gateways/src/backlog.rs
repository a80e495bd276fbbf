//! How much is due where that is too much to be counted each time somebody asks: one process counts it, some links at a time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool};
use tandem_domain::GatewayName;
use tokio::time::Instant;

use crate::linked;

/// How many links one statement counts.
const PART: i64 = 2000;

/// From one count of a small backlog to the next. Of a larger one the counting takes a twentieth of the time.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// Counts the links of a gateway, and those that are due, and returns when it is worth counting them again. What moves meanwhile may be counted
/// twice, or not.
pub(crate) async fn count(pool: &PgPool, gateway: &GatewayName) -> Result<Duration, sqlx::Error> {
    let began = Instant::now();
    for bulk in [false, true] {
        let (due, since) = walk(pool, gateway, bulk).await?;
        sqlx::query(
            "INSERT INTO backlogs (gateway, bulk, due, due_since) VALUES ($1, $2, $3, $4)
             ON CONFLICT (gateway, bulk) DO UPDATE
                 SET due = excluded.due, due_since = excluded.due_since, counted_at = excluded.counted_at,
                     drained = CASE WHEN excluded.due > 0 THEN (backlogs.due - excluded.due)
                                        / greatest(1, extract(epoch FROM excluded.counted_at - backlogs.counted_at)) END",
        )
        .bind(gateway.as_str())
        .bind(bulk)
        .bind(due)
        .bind(since)
        .execute(pool)
        .await?;
    }
    linked::count(pool, gateway).await?;
    Ok(INTERVAL.max(20 * began.elapsed()))
}

/// What one statement counted.
#[derive(FromRow)]
struct Part {
    due: i64,
    since: Option<DateTime<Utc>>,
    /// Where the next part begins.
    not_before: Option<DateTime<Utc>>,
    id: Option<i64>,
}

async fn walk(pool: &PgPool, gateway: &GatewayName, bulk: bool) -> Result<(i64, Option<DateTime<Utc>>), sqlx::Error> {
    let (mut due, mut since) = (0, None::<DateTime<Utc>>);
    let (mut not_before, mut id) = (None, None);
    loop {
        let part: Part = sqlx::query_as(
            "WITH part AS (
                 SELECT not_before, id, due_since FROM links
                 WHERE gateway = $1 AND bulk = $2 AND due_seq > done_seq AND due_seq > paused_seq
                   AND (not_before, id) > (COALESCE($3, '-infinity'), COALESCE($4, 0))
                 ORDER BY not_before, id LIMIT $5)
             SELECT (SELECT count(*) FROM part) AS due, (SELECT min(due_since) FROM part) AS since, last.not_before, last.id
             FROM (VALUES (true)) AS one LEFT JOIN (SELECT not_before, id FROM part ORDER BY not_before DESC, id DESC LIMIT 1) AS last
                 ON true",
        )
        .bind(gateway.as_str())
        .bind(bulk)
        .bind(not_before)
        .bind(id)
        .bind(PART)
        .fetch_one(pool)
        .await?;
        due += part.due;
        since = since.into_iter().chain(part.since).min();
        if part.due < PART {
            return Ok((due, since));
        }
        (not_before, id) = (part.not_before, part.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{stripe, tables};
    use crate::status::status;

    #[tokio::test]
    async fn how_long_a_backlog_takes_is_told_by_how_fast_it_shrinks() -> anyhow::Result<()> {
        let pool = tables().await?;
        let due = "INSERT INTO links (gateway, customer_id, due_seq, bulk)
                       SELECT 'stripe', gen_random_uuid(), 1, true FROM generate_series(1, 10)";
        sqlx::query(due).execute(&pool).await?;
        count(&pool, &stripe()).await?;
        let left = async || Ok::<_, sqlx::Error>(status(&pool, &["stripe"]).await?[0].bulk_seconds_left);
        assert_eq!(left().await?, None, "nobody has seen it shrink");

        sqlx::query("UPDATE links SET done_seq = 1 WHERE id <= 4").execute(&pool).await?;
        sqlx::query("UPDATE backlogs SET counted_at = counted_at - interval '8 s'").execute(&pool).await?;
        count(&pool, &stripe()).await?;

        // Four in some more than eight seconds: at least twelve for the other six.
        assert!(left().await?.is_some_and(|left| left >= 11.9), "{:?}", left().await?);
        Ok(())
    }
}
