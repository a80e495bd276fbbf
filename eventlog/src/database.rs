//! The event log's tables: their migration, the feed's one row, and which database errors pass by themselves.

use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

/// Creates or upgrades the event log's tables. Safe to run from several processes at once.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    let mut migrator = sqlx::migrate!();
    // The other crates keep their migrations in the same table.
    migrator.set_ignore_missing(true).run(pool).await
}

/// Connections whose commits do not wait for the disk: for what is made again from what is durable, should the database
/// lose it in a crash. Nothing that is only there may be written through them. None is made yet; `most` at once.
pub fn relaxed(pool: &PgPool, most: u32) -> PgPool {
    let connect = (*pool.connect_options()).clone().options([("synchronous_commit", "off")]);
    pool.options().clone().max_connections(most).connect_lazy_with(connect)
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

/// Whether trying again later can help: the connection broke, the server restarts or takes no writes, locks or resources
/// ran out.
///
/// Everything else (a violated constraint, a value that does not fit, a missing table) comes back the same each time.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            // A standby, or a server that is set read-only for a while.
            if code == "25006" {
                return true;
            }
            // 08 connection, 40 rollback (deadlock, serialization), 53 resources, 55 locks, 57 operator intervention
            // (shutdown, cancelled), 58 system error.
            ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// Checks in the tables keep these columns at 0 or above.
pub(crate) fn unsigned(column: i64) -> u64 {
    u64::try_from(column).unwrap_or_default()
}

/// PostgreSQL's bigint ends where no position or version ever gets.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
