//! The read models' tables.

use sqlx::PgPool;

/// Creates or upgrades the read models' tables, after the event log's. Safe to run from several processes at once.
///
/// # Errors
/// When the database is away, or a table is not as the migrations left it.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    let mut migrator = sqlx::migrate!();
    // The other crates keep their migrations in the same table.
    migrator.set_ignore_missing(true).run(pool).await
}
