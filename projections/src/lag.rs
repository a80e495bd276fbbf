//! How far everything that follows the log is behind it.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool};

/// The feed, and how far behind its readers are. Ages are by the database's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedLag {
    /// The database takes writes: it is no standby, and not set read-only.
    pub writable: bool,
    /// The last position given to an event.
    pub head: i64,
    /// How many committed events the relay has not numbered yet.
    pub unnumbered: i64,
    /// Since when the oldest of them waits, in seconds; 0 when none does.
    pub unnumbered_seconds: f64,
    /// Every projector of this database, gateways' included: the live generation of each.
    pub projectors: Vec<Lag>,
}

/// How far one projector is behind.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Lag {
    /// The projection.
    pub name: String,
    /// Its live generation.
    pub generation: i32,
    /// The last event that it applied.
    pub position: i64,
    /// How many numbered events it has before it.
    pub events: i64,
    /// How long the first of them has been waiting, in seconds; 0 when there is none.
    pub seconds: f64,
    /// When it moved last.
    pub moved_at: DateTime<Utc>,
}

/// Reads how far everything is, for all processes at once.
///
/// # Errors
/// When the database is away.
pub async fn lag(pool: &PgPool) -> Result<FeedLag, sqlx::Error> {
    // Projectors first: what happens in between makes the lag larger, never negative.
    let projectors: Vec<Lag> = sqlx::query_as(
        "SELECT c.name, c.generation, c.position, greatest(f.last_position - c.position, 0) AS events,
                coalesce(extract(epoch FROM clock_timestamp() - e.recorded_at), 0)::float8 AS seconds,
                c.updated_at AS moved_at
         FROM checkpoints c CROSS JOIN feed f LEFT JOIN events e ON e.position = c.position + 1
         WHERE c.live ORDER BY c.name",
    )
    .fetch_all(pool)
    .await?;
    let (writable, head, unnumbered, unnumbered_seconds) = sqlx::query_as(
        "SELECT NOT current_setting('transaction_read_only')::boolean, (SELECT last_position FROM feed), count(*),
                coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0)::float8
         FROM events WHERE position IS NULL",
    )
    .fetch_one(pool)
    .await?;
    Ok(FeedLag { writable, head, unnumbered, unnumbered_seconds, projectors })
}
