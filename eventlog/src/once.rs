//! Each once for its key: writes that append no events. And how long keys are known.

use std::time::Duration;

use sqlx::{PgPool, PgTransaction};

use crate::context::CommandKey;
use crate::database::signed;
use crate::journal::find_key;

/// Why a write was not begun.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// Another request was carried out under this key.
    #[error("the key was used for another request")]
    KeyReused,
    /// Try again later.
    #[error("the database is unavailable")]
    Unavailable(#[from] sqlx::Error),
}

/// Begins the transaction of a write: what it does and its key are stored together, or neither. `None` if it has been carried out
/// before under this key; whoever repeats it at the same moment waits for the first.
///
/// # Errors
/// [`OnceError`]: nothing has begun.
pub async fn begin_once(pool: &PgPool, key: Option<&CommandKey>) -> Result<Option<PgTransaction<'static>>, OnceError> {
    let mut tx = pool.begin().await?;
    let Some(CommandKey { key, fingerprint }) = key else { return Ok(Some(tx)) };
    loop {
        let stored = sqlx::query(
            "INSERT INTO command_keys (key, fingerprint, aggregate_type, aggregate_id, version, events)
             VALUES ($1, $2, '', '', 0, 0) ON CONFLICT DO NOTHING",
        )
        .bind(key)
        .bind(fingerprint)
        .execute(&mut *tx)
        .await?;
        if stored.rows_affected() > 0 {
            return Ok(Some(tx));
        }
        match find_key(&mut *tx, key).await? {
            Some(found) if found.fingerprint == *fingerprint => return Ok(None),
            Some(_) => return Err(OnceError::KeyReused),
            // It was forgotten in this instant.
            None => {}
        }
    }
}

/// Forgets the keys of commands that are older. Returns how many. Under a forgotten key a command is a new one.
///
/// # Errors
/// The database is unavailable; some may be forgotten already.
pub async fn forget_keys(pool: &PgPool, age: Duration) -> Result<u64, sqlx::Error> {
    /// In one transaction.
    const BATCH: u64 = 1000;
    let mut forgotten = 0;
    loop {
        let keys = sqlx::query(
            "DELETE FROM command_keys WHERE key = ANY(ARRAY(
                 SELECT key FROM command_keys WHERE recorded_at < statement_timestamp() - make_interval(secs => $1)
                 ORDER BY recorded_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        )
        .bind(age.as_secs_f64())
        .bind(signed(BATCH))
        .execute(pool)
        .await?;
        forgotten += keys.rows_affected();
        if keys.rows_affected() < BATCH {
            return Ok(forgotten);
        }
    }
}
