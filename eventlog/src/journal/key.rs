//! The keys of commands: what each led to.

use sqlx::PgExecutor;

use crate::context::CommandKey;
use crate::database::{signed, unsigned};

/// What a key led to.
pub(crate) struct KeyOutcome {
    pub(crate) fingerprint: Vec<u8>,
    pub(crate) aggregate_type: String,
    pub(crate) aggregate_id: String,
    pub(crate) version: u64,
    pub(crate) events: usize,
}

/// Looks a key up.
pub(crate) async fn find_key(database: impl PgExecutor<'_>, key: &str) -> Result<Option<KeyOutcome>, sqlx::Error> {
    let row: Option<(Vec<u8>, String, String, i64, i32)> = sqlx::query_as(
        "SELECT fingerprint, aggregate_type, aggregate_id, version, events FROM command_keys WHERE key = $1",
    )
    .bind(key)
    .fetch_optional(database)
    .await?;
    Ok(row.map(|(fingerprint, aggregate_type, aggregate_id, version, events)| KeyOutcome {
        fingerprint,
        aggregate_type,
        aggregate_id,
        version: unsigned(version),
        events: usize::try_from(events).unwrap_or_default(),
    }))
}

/// Stores the key of a command that changed nothing, with the version it saw.
pub(crate) async fn store_key(
    database: impl PgExecutor<'_>,
    key: &CommandKey,
    aggregate_type: &str,
    aggregate_id: &str,
    version: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO command_keys (key, fingerprint, aggregate_type, aggregate_id, version, events)
         VALUES ($1, $2, $3, $4, $5, 0)",
    )
    .bind(&key.key)
    .bind(&key.fingerprint)
    .bind(aggregate_type)
    .bind(aggregate_id)
    .bind(signed(version))
    .execute(database)
    .await?;
    Ok(())
}
