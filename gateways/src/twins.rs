//! Twins: a customer here and an object there with one email, which no link knows as the same. Whether they are is for a
//! person to say, or for a setting.

use serde::Deserialize;
use sqlx::types::Json;
use sqlx::{PgExecutor, PgPool, PgTransaction};
use tandem_domain::{CustomerId, EmailKey, GatewayName};
use uuid::Uuid;

use crate::link::{self, Link};
use crate::{ChangeKind, RemoteChange, join};

/// What is done when a customer is to be created, or an object imported, and the other side has one with the same email,
/// ignoring case, that no link knows. Without an email there is no twin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// It is parked as ambiguous, until a person says whether they are the same: a stranger with the same email must not
    /// take over a record.
    #[default]
    Ask,
    /// They are linked where each side has one candidate; else it is parked.
    Email,
    /// Nobody looks: there are two then.
    Never,
}

/// Keeps the emails of customers as the feed tells them; `None` of a customer that has none, or is deleted. Returns the links
/// of those that may have been their twins, which are to be looked at again.
pub(crate) async fn keep_emails(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    told: &[(CustomerId, Option<String>)],
) -> Result<Vec<i64>, sqlx::Error> {
    if told.is_empty() {
        return Ok(vec![]);
    }
    let customers: Vec<Uuid> = told.iter().map(|(CustomerId(id), _)| *id).collect();
    let emails: Vec<Option<String>> = told.iter().map(|(_, email)| email.as_deref().map(key)).collect();
    sqlx::query(
        "WITH told AS (SELECT * FROM unnest($2::uuid[], $3::text[]) AS told (id, email)), unset AS (
             DELETE FROM emails USING told WHERE gateway = $1 AND customer_id = told.id AND told.email IS NULL)
         INSERT INTO emails (gateway, customer_id, email) SELECT $1, id, email FROM told WHERE email IS NOT NULL
         ON CONFLICT (gateway, customer_id) DO UPDATE SET email = excluded.email",
    )
    .bind(gateway.as_str())
    .bind(customers)
    .bind(emails)
    .execute(&mut **tx)
    .await?;
    let ids: Vec<String> = told.iter().map(|(customer, _)| customer.to_string()).collect();
    naming(&mut **tx, gateway, &ids).await
}

fn key(email: &str) -> String {
    EmailKey::of(email).stored()
}

/// The customers with this email that the gateway has no object of, as far as any link knows.
pub(crate) async fn customers(pool: &PgPool, gateway: &GatewayName, email: &str) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        // Emails have no statistics: of a plain join the planner expects thousands, and reads all links. OFFSET 0 keeps it from that.
        "SELECT customer_id FROM emails e, LATERAL (
             SELECT FROM links l
             WHERE l.gateway = e.gateway AND l.customer_id = e.customer_id AND l.remote_id IS NULL AND l.state = 'active'
               AND NOT l.apart
             OFFSET 0) AS uncreated
         WHERE e.gateway = $1 AND e.email = $2 ORDER BY customer_id",
    )
    .bind(gateway.as_str())
    .bind(key(email))
    .fetch_all(pool)
    .await
}

/// In a condition on links: its object is to be imported.
const TO_IMPORT: &str = "(l.state = 'active' AND l.base IS NULL AND l.due_version = 0 AND NOT l.apart)";

/// The objects to be imported that were last told to have this email, in whatever case: with the customer whose copy each says
/// it is. Stripe's list finds an email only as it is written there.
pub(crate) async fn told(
    relaxed: &PgPool,
    gateway: &GatewayName,
    email: &str,
) -> Result<Vec<(String, Option<CustomerId>)>, sqlx::Error> {
    let rows: Vec<(String, Json<RemoteChange>)> = sqlx::query_as(&format!(
        // As above.
        "SELECT waiting.remote_id, b.change FROM inbox b, LATERAL (
             SELECT l.remote_id FROM links l
             WHERE l.id = b.link_id AND l.remote_id = b.change ->> 'remote_id' AND {TO_IMPORT}
               AND NOT EXISTS (SELECT FROM inbox later WHERE later.link_id = l.id AND later.id > b.id)
             OFFSET 0) AS waiting
         WHERE b.gateway = $1 AND b.email_key = $2 AND b.link_id IS NOT NULL"
    ))
    .bind(gateway.as_str())
    .bind(key(email))
    .fetch_all(relaxed)
    .await?;
    let living = rows.into_iter().filter(|(_, Json(change))| change.kind != ChangeKind::Deleted);
    Ok(living.map(|(id, Json(change))| (id, change.customer)).collect())
}

/// Of these objects those that are no customer's: no link knows them, or only one that waits for an import.
pub(crate) async fn unlinked(
    pool: &PgPool,
    gateway: &GatewayName,
    objects: &[&str],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(&format!(
        "SELECT id FROM unnest($2::text[]) AS found (id)
         WHERE NOT EXISTS (SELECT FROM links l WHERE l.gateway = $1 AND l.remote_id = found.id AND NOT {TO_IMPORT})"
    ))
    .bind(gateway.as_str())
    .bind(objects)
    .fetch_all(pool)
    .await
}

/// Parks what may be a twin, in place of creating or importing it.
pub(crate) async fn park(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    link: &Link,
    candidates: &[String],
) -> Result<(), sqlx::Error> {
    let only = match candidates {
        [only] => Some(only.as_str()),
        _ => None,
    };
    // The sides' ids: of an import ours is a candidate, of a create theirs.
    let (customer, remote_id, reason) = match &link.remote_id {
        Some(remote_id) => (
            only.and_then(|id| id.parse().ok()),
            Some(remote_id.as_str()),
            "the catalog has a customer with the same email, which is not linked here",
        ),
        None => (Some(link.customer_id.0), only, "the gateway has an object with the same email, which is not linked"),
    };
    sqlx::query(
        "INSERT INTO parked (gateway, link_id, kind, remote_id, customer_id, candidates, field, reason)
         VALUES ($1, $2, 'ambiguous', $3, $4, $5, 'email', $6)
         ON CONFLICT (link_id) WHERE state = 'open' AND kind = 'ambiguous' DO UPDATE
         SET remote_id = excluded.remote_id, customer_id = excluded.customer_id, candidates = excluded.candidates",
    )
    .bind(gateway.as_str())
    .bind(link.id)
    .bind(remote_id)
    .bind(customer)
    .bind(candidates)
    .bind(reason)
    .execute(&mut **tx)
    .await?;
    sqlx::query("UPDATE links SET look = false, ambiguous = true WHERE id = $1")
        .bind(link.id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// It is ambiguous no longer, and neither is what named it: nothing is left for a person to do, and what was held up for its sake is
/// looked at again.
pub(crate) async fn supersede(relaxed: &PgPool, gateway: &GatewayName, link: &Link) -> Result<(), sqlx::Error> {
    let ids: Vec<String> =
        link.remote_id.iter().map(ToString::to_string).chain([link.customer_id.to_string()]).collect();
    if !link.ambiguous && naming(relaxed, gateway, &ids).await?.is_empty() {
        return Ok(());
    }
    let mut tx = relaxed.begin().await?;
    let named = naming(&mut *tx, gateway, &ids).await?;
    link::lock(&mut tx, &[&named[..], &[link.id]].concat()).await?;
    let held = sqlx::query("UPDATE links SET ambiguous = false WHERE id = $1 AND lease_token = $2")
        .bind(link.id)
        .bind(link.token)
        .execute(&mut *tx)
        .await?;
    if held.rows_affected() > 0 {
        sqlx::query(
            "UPDATE parked SET state = 'superseded', closed_at = clock_timestamp()
             WHERE link_id = $1 AND state = 'open' AND kind = 'ambiguous'",
        )
        .bind(link.id)
        .execute(&mut *tx)
        .await?;
        join::look_again(&mut tx, &named).await?;
    }
    tx.commit().await
}

/// The object may be the twin of these customers: of others that are parked because of it, it is not, any more.
pub(crate) async fn no_candidate_but_of(
    relaxed: &PgPool,
    gateway: &GatewayName,
    link: &Link,
    candidates: &[String],
) -> Result<(), sqlx::Error> {
    let Some(remote_id) = &link.remote_id else { return Ok(()) };
    let named: Vec<i64> = sqlx::query_scalar(
        "SELECT l.id FROM parked p JOIN links l ON l.id = p.link_id
         WHERE p.gateway = $1 AND p.state = 'open' AND p.kind = 'ambiguous' AND p.candidates @> ARRAY[$2]
           AND l.customer_id::text <> ALL($3)",
    )
    .bind(gateway.as_str())
    .bind(remote_id.as_str())
    .bind(candidates)
    .fetch_all(relaxed)
    .await?;
    if named.is_empty() {
        return Ok(());
    }
    let mut tx = relaxed.begin().await?;
    join::look_again(&mut tx, &named).await?;
    tx.commit().await
}

/// The links that are parked because they may be the twin of one of these.
pub(crate) async fn naming(
    database: impl PgExecutor<'_>,
    gateway: &GatewayName,
    ids: &[String],
) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT link_id FROM parked
         WHERE gateway = $1 AND state = 'open' AND kind = 'ambiguous' AND candidates && $2::text[]",
    )
    .bind(gateway.as_str())
    .bind(ids)
    .fetch_all(database)
    .await
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use tandem_domain::{Field, Profile, Value};

    use super::*;
    use crate::inbox;

    /// Fails if the database makes one key and the code another: of an email beyond ASCII, or with a tab before it, the object that
    /// waits for its import is not found, and a second one is created.
    #[tokio::test]
    async fn an_object_that_waits_is_found_by_its_email_however_it_is_written() -> anyhow::Result<()> {
        let pool = PgPool::connect(&tandem_local::test::database().await.url).await?;
        tandem_eventlog::migrate(&pool).await?;
        crate::migrate(&pool).await?;
        let gateway: GatewayName = "stripe".parse()?;
        let long = "\u{e4}".repeat(50_000);
        for (n, written) in ["\tÄDA@Old.example\u{a0}", &long.to_uppercase()].into_iter().enumerate() {
            let change = RemoteChange {
                event_id: format!("evt_{n}"),
                remote_id: format!("cus_{n}").into(),
                kind: ChangeKind::Created,
                created: DateTime::UNIX_EPOCH,
                profile: Profile::default().with(Field::Email, Value::Text(written.to_owned())),
                previous: Default::default(),
                customer: None,
                untold: crate::Untold::default(),
                idempotency_key: None,
            };
            inbox::store(&pool, &gateway, &[change]).await?;
            inbox::route(&pool, &gateway).await?;
        }
        assert_eq!(told(&pool, &gateway, "äda@old.example").await?, [("cus_0".to_owned(), None)]);
        assert_eq!(told(&pool, &gateway, &long).await?, [("cus_1".to_owned(), None)]);
        Ok(())
    }
}
