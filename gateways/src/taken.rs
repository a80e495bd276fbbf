//! One object is one customer's: what the unique index says of two that claim it at the same time.

use sqlx::postgres::{PgArguments, PgQueryResult, Postgres};
use sqlx::query::Query;
use sqlx::{Acquire, PgTransaction};

/// Executes a statement that sets a link's remote id. `None`: another link has that object since a moment ago, and the
/// transaction is as it was before the statement.
pub(crate) async fn unless_taken(
    tx: &mut PgTransaction<'_>,
    statement: Query<'_, Postgres, PgArguments>,
) -> Result<Option<PgQueryResult>, sqlx::Error> {
    // Without a savepoint the refusal would end the caller's transaction.
    let mut savepoint = tx.begin().await?;
    match statement.execute(&mut *savepoint).await {
        Ok(done) => {
            savepoint.commit().await?;
            Ok(Some(done))
        }
        Err(error) if is_taken(&error) => {
            savepoint.rollback().await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the object is another link's.
pub(crate) fn is_taken(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.constraint() == Some("links_gateway_remote_id_key"))
}
