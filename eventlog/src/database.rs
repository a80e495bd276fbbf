//! The event log's tables: their migration, the feed's one row, and numbers as PostgreSQL has them.

use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

/// Creates or upgrades the event log's tables. Safe to run from several processes at once.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    let mut migrator = sqlx::migrate!();
    // The other crates keep their migrations in the same table.
    migrator.set_ignore_missing(true).run(pool).await
}

/// Which history this database holds: changes when the stream is rebuilt, see [`crate::stream::rebuild`].
pub async fn epoch(database: impl PgExecutor<'_>) -> Result<Uuid, sqlx::Error> {
    sqlx::query_scalar("SELECT epoch FROM feed").fetch_one(database).await
}

/// The position of the last numbered event; 0 when there is none.
pub async fn last_position(database: impl PgExecutor<'_>) -> Result<u64, sqlx::Error> {
    let position: i64 = sqlx::query_scalar("SELECT last_position FROM feed").fetch_one(database).await?;
    Ok(unsigned(position))
}

/// Positions and versions as they are here. Checks in the tables keep these columns at 0 or above.
#[must_use]
pub fn unsigned(column: i64) -> u64 {
    u64::try_from(column).unwrap_or_default()
}

/// Positions and versions as PostgreSQL has them. Its bigint ends where none of them ever gets.
#[must_use]
pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
