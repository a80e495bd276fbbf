//! What waits for a person: pushes that the gateway rejected, and second copies of a customer.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool, PgTransaction};
use tandem_domain::GatewayName;
use uuid::Uuid;

use crate::link::{Link, mark_due};

/// Something that waits for a person.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Parked {
    /// Its number.
    pub id: i64,
    /// At which gateway.
    pub gateway: String,
    /// `rejected`: a push that repeating cannot help; `duplicate`: a second object with one customer's id.
    pub kind: String,
    /// Whose.
    pub customer_id: Uuid,
    /// The gateway's object, if there is one.
    pub remote_id: Option<String>,
    /// The field that the gateway named.
    pub field: Option<String>,
    /// The gateway's code, such as `email_invalid`.
    pub code: Option<String>,
    /// Why, without customers' data.
    pub reason: String,
    /// Since when.
    pub parked_at: DateTime<Utc>,
}

/// Why a parked thing was not retried or dismissed.
#[derive(Debug, thiserror::Error)]
pub enum ParkedError {
    /// There is none of that number, or it is no longer parked.
    #[error("nothing is parked under this number")]
    NotParked,
    /// Try again later.
    #[error("the database is unavailable")]
    Database(#[from] sqlx::Error),
}

/// What is parked, oldest first: at one gateway or at all, after that number, at most `limit`.
pub(crate) async fn list(
    pool: &PgPool,
    gateway: Option<&str>,
    after: i64,
    limit: i64,
) -> Result<Vec<Parked>, sqlx::Error> {
    sqlx::query_as(
        "SELECT p.id, p.gateway, p.kind, l.customer_id, COALESCE(p.remote_id, l.remote_id) AS remote_id, p.field,
                p.code, p.reason, p.parked_at
         FROM parked p JOIN links l ON l.id = p.link_id
         WHERE p.state = 'open' AND p.id > $2 AND ($1::text IS NULL OR p.gateway = $1) ORDER BY p.id LIMIT $3",
    )
    .bind(gateway)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Tries it again: the push is made anew from what the catalog holds now; a second copy is looked at again.
pub(crate) async fn retry(pool: &PgPool, id: i64) -> Result<(), ParkedError> {
    let mut tx = pool.begin().await?;
    let (link_id, inbox_id) = close(&mut tx, id, "retried").await?;
    sqlx::query("UPDATE links SET refused = NULL, attempts = 0, not_before = clock_timestamp() WHERE id = $1")
        .bind(link_id)
        .execute(&mut *tx)
        .await?;
    if let Some(inbox_id) = inbox_id {
        sqlx::query("UPDATE inbox SET state = 'new', link_id = NULL WHERE id = $1")
            .bind(inbox_id)
            .execute(&mut *tx)
            .await?;
    }
    mark_due(&mut tx, &[link_id]).await?;
    Ok(tx.commit().await?)
}

/// Lets it be. A rejected push stays untried until the customer is edited again; a second copy stays unlinked.
pub(crate) async fn dismiss(pool: &PgPool, id: i64) -> Result<(), ParkedError> {
    let mut tx = pool.begin().await?;
    let (_, inbox_id) = close(&mut tx, id, "dismissed").await?;
    if let Some(inbox_id) = inbox_id {
        crate::inbox::finish(&mut tx, &[inbox_id]).await?;
    }
    Ok(tx.commit().await?)
}

async fn close(tx: &mut PgTransaction<'_>, id: i64, state: &str) -> Result<(i64, Option<i64>), ParkedError> {
    sqlx::query_as(
        "UPDATE parked SET state = $2, closed_at = clock_timestamp() WHERE id = $1 AND state = 'open'
         RETURNING link_id, inbox_id",
    )
    .bind(id)
    .bind(state)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(ParkedError::NotParked)
}

/// Parks a push, in the transaction that closes its intent.
pub(crate) async fn rejected(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    link: &Link,
    field: Option<&str>,
    code: Option<&str>,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO parked (gateway, link_id, kind, field, code, reason) VALUES ($1, $2, 'rejected', $3, $4, $5)
         ON CONFLICT (link_id) WHERE state = 'open' AND kind = 'rejected'
         DO UPDATE SET field = EXCLUDED.field, code = EXCLUDED.code, reason = EXCLUDED.reason",
    )
    .bind(gateway.as_str())
    .bind(link.id)
    .bind(field)
    .bind(code)
    .bind(reason)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A new edit took a rejected push's place: nothing is left for a person to do.
pub(crate) async fn supersede(tx: &mut PgTransaction<'_>, link_id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE links SET refused = NULL WHERE id = $1").bind(link_id).execute(&mut **tx).await?;
    sqlx::query(
        "UPDATE parked SET state = 'superseded', closed_at = clock_timestamp()
         WHERE link_id = $1 AND state = 'open' AND kind = 'rejected'",
    )
    .bind(link_id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
