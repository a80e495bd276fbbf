//! Writes that append no events, each once for its key.

use sqlx::{PgPool, PgTransaction};

use crate::context::CommandKey;
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
