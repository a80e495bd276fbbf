//! The event log's tables: their migration, the feed's one row, and numbers as PostgreSQL has them.

use crate::mac::MacKey;
use sqlx::{PgExecutor, PgPool, Row};
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

/// The feed's row.
#[derive(Debug, Clone)]
pub(crate) struct FeedRow {
    pub(crate) last: u64,
    pub(crate) key: MacKey,
    /// Up to here, messages may have no MAC: an older version published them.
    pub(crate) unsigned_until: u64,
}

impl FeedRow {
    pub(crate) async fn read(database: impl PgExecutor<'_>) -> Result<Self, sqlx::Error> {
        let row = sqlx::query("SELECT last_position, epoch, mac_key, unsigned_until FROM feed");
        let row = row.fetch_one(database).await?;
        Ok(Self {
            last: unsigned(row.try_get("last_position")?),
            key: MacKey::from_row(&row)?,
            unsigned_until: unsigned(row.try_get("unsigned_until")?),
        })
    }
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
