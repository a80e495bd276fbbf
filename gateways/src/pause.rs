//! Pausing a direction of a gateway, and resuming it. Edits meanwhile wait and coalesce.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgExecutor, PgPool, PgTransaction};
use tandem_domain::GatewayName;
use tandem_eventlog::zoo::plays;

use crate::link::{FREE, Link};
use crate::{RunError, guard};

/// A direction of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the gateway to the catalog.
    Inbound,
    /// From the catalog to the gateway.
    Outbound,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Direction {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|one| one.as_str() == word).ok_or_else(|| "must be inbound or outbound".to_owned())
    }
}

/// A direction that stands still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct Pause {
    /// Of which gateway.
    pub gateway: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// Why, without customers' data.
    pub reason: String,
    /// `person`, or `guard`: too much changed at once.
    pub paused_by: String,
    /// Since when.
    pub paused_at: DateTime<Utc>,
}

/// What of a gateway stands still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paused {
    pub inbound: bool,
    pub outbound: bool,
}

/// What is paused, of these gateways.
///
/// # Errors
/// The database is unavailable.
pub async fn pauses(pool: &PgPool, gateways: &[&str]) -> Result<Vec<Pause>, sqlx::Error> {
    sqlx::query_as(
        "SELECT gateway, direction, reason, paused_by, paused_at FROM pauses WHERE gateway = ANY($1)
         ORDER BY gateway, direction",
    )
    .bind(gateways)
    .fetch_all(pool)
    .await
}

/// Pauses a direction, or both. What is under way at this moment ends. One that is paused already stays as it is.
///
/// # Errors
/// The database is unavailable.
pub async fn pause(
    pool: &PgPool,
    gateway: &GatewayName,
    direction: Option<Direction>,
    reason: &str,
) -> Result<(), sqlx::Error> {
    store(pool, gateway, direction, reason, "person").await.map(|_| ())
}

/// Says whether it is news.
pub(crate) async fn store(
    database: impl PgExecutor<'_>,
    gateway: &GatewayName,
    direction: Option<Direction>,
    reason: &str,
    paused_by: &str,
) -> Result<bool, sqlx::Error> {
    let stored = sqlx::query(
        "INSERT INTO pauses (gateway, direction, reason, paused_by) SELECT $1, direction, $3, $4
         FROM unnest($2::text[]) AS t (direction) ON CONFLICT DO NOTHING",
    )
    .bind(gateway.as_str())
    .bind(words(direction))
    .bind(reason)
    .bind(paused_by)
    .execute(database)
    .await?;
    Ok(stored.rows_affected() > 0)
}

/// Lets a direction, or both, go on. What has waited follows within a second, some at a time. The guard counts from now on. Returns what was resumed.
///
/// # Errors
/// The database is unavailable.
pub async fn resume(
    pool: &PgPool,
    gateway: &GatewayName,
    direction: Option<Direction>,
) -> Result<Vec<String>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let resumed = resume_in(&mut tx, gateway, direction).await?;
    tx.commit().await?;
    Ok(resumed)
}

/// The same inside the caller's transaction.
pub(crate) async fn resume_in(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    direction: Option<Direction>,
) -> Result<Vec<String>, sqlx::Error> {
    for one in Direction::ALL.into_iter().filter(|one| direction.is_none_or(|asked| asked == *one)) {
        guard::lock(tx, gateway, one).await?;
    }
    let resumed =
        sqlx::query_scalar("DELETE FROM pauses WHERE gateway = $1 AND direction = ANY($2) RETURNING direction")
            .bind(gateway.as_str())
            .bind(words(direction))
            .fetch_all(&mut **tx)
            .await?;
    sqlx::query(
        "INSERT INTO guards (gateway, direction, counted_from)
         SELECT $1, direction, clock_timestamp() FROM unnest($2::text[]) AS t (direction)
         ON CONFLICT (gateway, direction) DO UPDATE SET counted_from = excluded.counted_from",
    )
    .bind(gateway.as_str())
    .bind(&resumed)
    .execute(&mut **tx)
    .await?;
    Ok(resumed)
}

/// How many links one transaction lets go on.
const BATCH: i64 = 500;

/// Lets some of the links go on that met a paused direction before the last resume: nobody waits for any one of them. True if there
/// may be more.
pub(crate) async fn go_on(relaxed: &PgPool, gateway: &GatewayName) -> Result<bool, sqlx::Error> {
    let gone_on = sqlx::query(
        // In the order of the customers, as everywhere: see mark_due. What came since the pause is waited for, or not, as before.
        "UPDATE links SET paused_seq = -1, not_before = clock_timestamp(), attempts = 0,
                bulk = CASE WHEN due_seq > paused_seq THEN bulk ELSE $3 END
         WHERE id = ANY(ARRAY(
             SELECT id FROM links WHERE id = ANY(ARRAY(
                 SELECT id FROM links WHERE gateway = $1 AND paused_seq >= 0
                     AND paused_at <= (SELECT max(counted_from) FROM guards WHERE gateway = $1)
                 ORDER BY paused_at LIMIT $2))
             ORDER BY customer_id FOR NO KEY UPDATE))",
    )
    .bind(gateway.as_str())
    .bind(BATCH)
    .bind(!plays("all-in-one-line"))
    .execute(relaxed)
    .await?;
    Ok(gone_on.rows_affected() > 0)
}

fn words(direction: Option<Direction>) -> Vec<&'static str> {
    direction.map_or_else(|| Direction::ALL.to_vec(), |one| vec![one]).into_iter().map(Direction::as_str).collect()
}

/// Ends a run that met a paused direction. The link stays due, and is not leased again before it is resumed, or marked due anew.
pub(crate) async fn wait(pool: &PgPool, gateway: &GatewayName, link: &Link, on: Direction) -> Result<(), sqlx::Error> {
    sqlx::query(&format!(
        // Locked, so that what is resumed in this instant is not put to sleep for ever.
        "WITH still AS MATERIALIZED (SELECT FROM pauses WHERE gateway = $4 AND direction = $5 FOR SHARE)
         UPDATE links SET paused_seq = CASE WHEN EXISTS (SELECT FROM still) THEN $3 ELSE -1 END,
                          paused_at = clock_timestamp(),
                          {FREE}
         WHERE id = $1 AND lease_token = $2"
    ))
    .bind(link.id)
    .bind(link.token)
    .bind(link.due_seq)
    .bind(gateway.as_str())
    .bind(on.as_str())
    .execute(pool)
    .await?;
    Ok(())
}

impl Link {
    /// Whether that direction goes on.
    pub(crate) fn may(&self, direction: Direction) -> Result<(), RunError> {
        let paused = match direction {
            Direction::Inbound => self.paused.inbound,
            Direction::Outbound => self.paused.outbound,
        };
        if paused { Err(RunError::Paused(direction)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{stripe, tables};

    /// Fails where whoever edits between a resume and what it lets go waits behind all of that.
    #[tokio::test]
    async fn what_a_resume_lets_go_is_in_bulk_but_for_what_came_since() -> anyhow::Result<()> {
        let pool = tables().await?;
        pause(&pool, &stripe(), None, "a test").await?;
        for (remote_id, due_seq) in [("waits", 1), ("edited since", 2)] {
            sqlx::query(
                "INSERT INTO links (gateway, customer_id, remote_id, due_seq, paused_seq, paused_at)
                 VALUES ('stripe', gen_random_uuid(), $1, $2, 1, clock_timestamp())",
            )
            .bind(remote_id)
            .bind(due_seq)
            .execute(&pool)
            .await?;
        }
        assert!(!go_on(&pool, &stripe()).await?, "nobody has resumed it");

        resume(&pool, &stripe(), None).await?;
        assert!(go_on(&pool, &stripe()).await?);

        let left: Vec<(String, bool, i64)> =
            sqlx::query_as("SELECT remote_id, bulk, paused_seq FROM links ORDER BY id").fetch_all(&pool).await?;
        assert_eq!(left, [("waits".to_owned(), true, -1), ("edited since".to_owned(), false, -1)]);
        assert!(!go_on(&pool, &stripe()).await?, "all of it");
        Ok(())
    }
}
