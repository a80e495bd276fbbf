//! Being the only one of all processes that does something.

use sqlx::PgPool;
use sqlx::pool::PoolConnection;
use tandem_domain::GatewayName;

/// A session lock on that work of a gateway's, for as long as the connection is there: a process that is killed gives it back. `None`
/// if another has it.
pub(crate) async fn alone(
    pool: &PgPool,
    work: &str,
    gateway: &GatewayName,
) -> Result<Option<PoolConnection<sqlx::Postgres>>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    // Also where this ends before the answer: in the pool's hands nobody else could have the lock.
    connection.close_on_drop();
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1 || ' ' || $2, 0))")
        .bind(work)
        .bind(gateway.as_str())
        .fetch_one(&mut *connection)
        .await?;
    Ok(alone.then_some(connection))
}
