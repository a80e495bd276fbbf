//! The fold: what each event makes of the conflicts.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgTransaction;
use sqlx::types::Json;
use tandem_domain::{Contest, CustomerEvent, OpenContest, Policy, Side, Winner};
use uuid::Uuid;

/// Whether [`fold`] has anything to do with the event.
pub(crate) fn concerns(event: &CustomerEvent) -> bool {
    !matches!(event, CustomerEvent::Created { .. } | CustomerEvent::Updated { .. } | CustomerEvent::Linked { .. })
}

/// Takes one event of a customer in: its version there, and its place in the feed.
pub(crate) async fn fold(
    transaction: &mut PgTransaction<'_>,
    generation: i32,
    customer: Uuid,
    (version, position): (i64, i64),
    event: &CustomerEvent,
) -> Result<(), sqlx::Error> {
    match event {
        CustomerEvent::ConflictOpened(contest) => {
            let OpenContest { gateway, field, catalog, remote, overwritten: _, at } = &**contest;
            sqlx::query(
                "INSERT INTO conflict_rows
                     (generation, id, customer_id, gateway, field, catalog, remote, policy, opened_at, version)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, 'ask', $8, $9)
                 ON CONFLICT (generation, customer_id, gateway, field) WHERE winner IS NULL
                 DO UPDATE SET catalog = excluded.catalog, remote = excluded.remote, version = excluded.version",
            )
            .bind(generation)
            .bind(position)
            .bind(customer)
            .bind(gateway.as_str())
            .bind(field.to_string())
            .bind(Json(catalog))
            .bind(Json(remote))
            .bind(at)
            .bind(version)
            .execute(&mut **transaction)
            .await?;
        }
        CustomerEvent::ConflictResolved(contest) => {
            let open =
                contest.policy == Policy::Ask && end(transaction, generation, customer, version, contest).await?;
            if !open {
                past(transaction, generation, customer, (version, position), contest).await?;
            }
        }
        CustomerEvent::Deleted { at } => {
            end_all(transaction, generation, customer, None, Winner::Deletion, *at).await?;
        }
        CustomerEvent::Erased { .. } => blank(transaction, generation, customer).await?,
        CustomerEvent::Unlinked { gateway, at, .. } => {
            end_all(transaction, generation, customer, Some(gateway.as_str()), Winner::Catalog, *at).await?;
        }
        CustomerEvent::Created { .. } | CustomerEvent::Updated { .. } | CustomerEvent::Linked { .. } => {}
    }
    Ok(())
}

/// Ends the one that waits. Says whether one did.
async fn end(
    transaction: &mut PgTransaction<'_>,
    generation: i32,
    customer: Uuid,
    version: i64,
    contest: &Contest,
) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query(
        "UPDATE conflict_rows SET catalog = $5, remote = $6, winner = $7, resolved_at = $8, version = $9
         WHERE generation = $1 AND customer_id = $2 AND gateway = $3 AND field = $4 AND winner IS NULL",
    )
    .bind(generation)
    .bind(customer)
    .bind(contest.gateway.as_str())
    .bind(contest.field.to_string())
    .bind(Json(&contest.catalog))
    .bind(Json(&contest.remote))
    .bind(word(&contest.winner))
    .bind(contest.at)
    .bind(version)
    .execute(&mut **transaction)
    .await?;
    Ok(ended.rows_affected() > 0)
}

/// Adds one that never waited.
async fn past(
    transaction: &mut PgTransaction<'_>,
    generation: i32,
    customer: Uuid,
    (version, position): (i64, i64),
    contest: &Contest,
) -> Result<(), sqlx::Error> {
    let Contest { gateway, field, catalog, remote, winner, policy, at } = contest;
    let (catalog, remote): (Json<&Side>, Json<&Side>) = (Json(catalog), Json(remote));
    sqlx::query(
        "INSERT INTO conflict_rows (generation, id, customer_id, gateway, field, catalog, remote, winner, policy,
                                    opened_at, resolved_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11)",
    )
    .bind(generation)
    .bind(position)
    .bind(customer)
    .bind(gateway.as_str())
    .bind(field.to_string())
    .bind(catalog)
    .bind(remote)
    .bind(word(winner))
    .bind(word(policy))
    .bind(at)
    .bind(version)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Ends all that wait: with one gateway, or with every one.
async fn end_all(
    transaction: &mut PgTransaction<'_>,
    generation: i32,
    customer: Uuid,
    gateway: Option<&str>,
    winner: Winner,
    at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE conflict_rows SET winner = $4, resolved_at = $5
         WHERE generation = $1 AND customer_id = $2 AND ($3::text IS NULL OR gateway = $3) AND winner IS NULL",
    )
    .bind(generation)
    .bind(customer)
    .bind(gateway)
    .bind(word(&winner))
    .bind(at)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// That there were some stays.
async fn blank(transaction: &mut PgTransaction<'_>, generation: i32, customer: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE conflict_rows SET catalog = jsonb_set(catalog, '{value}', 'null'), remote = jsonb_set(remote, '{value}', 'null')
         WHERE generation = $1 AND customer_id = $2",
    )
    .bind(generation)
    .bind(customer)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// The word that the domain writes for it.
fn word(value: &impl Serialize) -> String {
    // Unit variants are strings in JSON.
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
