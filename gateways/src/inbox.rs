//! What gateways tell us: stored first, acted on later.

mod route;

use sqlx::types::Json;
use sqlx::{PgPool, PgTransaction};
use tandem_domain::GatewayName;

use crate::RemoteChange;
use crate::link::DUE;

#[cfg(test)]
pub(crate) use route::{Destination, by_our_id, owner};
pub(crate) use route::{Routed, route};

/// One stored change that its link has not taken in yet.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub id: i64,
    pub change: RemoteChange,
}

/// Stores changes, each once however often it comes. Returns how many were new.
pub(crate) async fn store(
    relaxed: &PgPool,
    gateway: &GatewayName,
    changes: &[RemoteChange],
) -> Result<u64, sqlx::Error> {
    let ids: Vec<&str> = changes.iter().map(|change| change.event_id.as_str()).collect();
    let bodies: Vec<Json<&RemoteChange>> = changes.iter().map(Json).collect();
    let stored = sqlx::query(
        "INSERT INTO inbox (gateway, event_id, change)
         SELECT $1, event_id, change FROM unnest($2::text[], $3::jsonb[]) WITH ORDINALITY AS t (event_id, change, n)
         ORDER BY n ON CONFLICT (gateway, event_id) DO NOTHING",
    )
    .bind(gateway.as_str())
    .bind(ids)
    .bind(bodies)
    .execute(relaxed)
    .await?;
    Ok(stored.rows_affected())
}

/// What became of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It had come before.
    Before,
    /// It waits for the router.
    New,
    /// Its link is due.
    Routed,
}

/// Stores one change, once however often it comes. If its object is linked, as nearly always, and nobody holds the link right
/// now, it needs no router: nobody is waited for.
pub(crate) async fn store_one(
    relaxed: &PgPool,
    gateway: &GatewayName,
    change: &RemoteChange,
) -> Result<Stored, sqlx::Error> {
    let stored: Option<bool> = sqlx::query_scalar(&format!(
        "WITH known AS MATERIALIZED (
             SELECT id FROM links WHERE gateway = $1 AND remote_id = $4 FOR NO KEY UPDATE SKIP LOCKED
         ), stored AS (
             INSERT INTO inbox (gateway, event_id, change, state, link_id)
             SELECT $1, $2, $3, CASE WHEN known.id IS NULL THEN 'new' ELSE 'waiting' END, known.id
             FROM (SELECT) AS one LEFT JOIN known ON true
             ON CONFLICT (gateway, event_id) DO NOTHING RETURNING link_id
         ), marked AS (
             UPDATE links SET {DUE} WHERE id = (SELECT link_id FROM stored)
         )
         SELECT link_id IS NOT NULL FROM stored"
    ))
    .bind(gateway.as_str())
    .bind(&change.event_id)
    .bind(Json(change))
    .bind(change.remote_id.as_str())
    .fetch_optional(relaxed)
    .await?;
    Ok(match stored {
        None => Stored::Before,
        Some(false) => Stored::New,
        Some(true) => Stored::Routed,
    })
}

/// What its link has not taken in yet, in the order in which it came.
pub(crate) async fn waiting(pool: &PgPool, link_id: i64) -> Result<Vec<Row>, sqlx::Error> {
    let rows: Vec<(i64, Json<RemoteChange>)> =
        sqlx::query_as("SELECT id, change FROM inbox WHERE link_id = $1 AND state = 'waiting' ORDER BY id")
            .bind(link_id)
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().map(|(id, Json(change))| Row { id, change }).collect())
}

/// Marks rows as taken in, in the transaction that takes them in.
pub(crate) async fn finish(tx: &mut PgTransaction<'_>, rows: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE inbox SET state = 'done' WHERE id = ANY($1)").bind(rows).execute(&mut **tx).await?;
    Ok(())
}

/// Makes rows new again, to be routed anew.
pub(crate) async fn hand_back(tx: &mut PgTransaction<'_>, rows: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE inbox SET state = 'new', link_id = NULL WHERE id = ANY($1)")
        .bind(rows)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
