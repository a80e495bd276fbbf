//! What gateways tell us: stored first, then acted on.

mod route;
mod unstorable;

use cqrs_es::Aggregate;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgPool, PgTransaction, Row as _};
use tandem_domain::{Customer, EmailKey, GatewayName};

use crate::RemoteChange;
use crate::link::{self, LEASE, LEASED, Link, READY, Rested, Terms};

#[cfg(test)]
pub(crate) use route::{Destination, Ours, by_our_id, owner};
pub(crate) use route::{Routed, route};

/// One stored change that its link has not taken in yet.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub id: i64,
    pub change: RemoteChange,
}

/// The key of the email that a change tells: stored beside it, it finds objects that wait for their import.
pub(crate) fn email_key(change: &RemoteChange) -> Option<String> {
    EmailKey::of_profile(&change.profile).map(|key| key.stored())
}

/// In a statement: `change` without what it says about a person. It stays known which object it was, and when.
pub(crate) const BLANK: &str = r#"change || '{"profile": {}, "previous": {}}'::jsonb"#;

/// Stores changes, each once however often it comes. Returns how many were new.
pub(crate) async fn store(
    relaxed: &PgPool,
    gateway: &GatewayName,
    changes: &[RemoteChange],
) -> Result<u64, sqlx::Error> {
    let ids: Vec<&str> = changes.iter().map(|change| change.event_id.as_str()).collect();
    let bodies: Vec<Json<&RemoteChange>> = changes.iter().map(Json).collect();
    let emails: Vec<Option<String>> = changes.iter().map(email_key).collect();
    let stored = sqlx::query(
        // Of what happened long ago, as after an outage, nobody waits for any one.
        "INSERT INTO inbox (gateway, event_id, change, email_key, bulk)
         SELECT $1, event_id, change, email_key,
                (change->>'created')::timestamptz < clock_timestamp() - interval '15 minutes'
         FROM unnest($2::text[], $3::jsonb[], $4::text[]) WITH ORDINALITY AS t (event_id, change, email_key, n)
         ORDER BY n ON CONFLICT (gateway, event_id) DO NOTHING",
    )
    .bind(gateway.as_str())
    .bind(ids)
    .bind(bodies)
    .bind(emails)
    .execute(relaxed)
    .await?;
    Ok(stored.rows_affected())
}

/// What became of one change.
#[derive(Debug)]
pub(crate) enum Stored {
    /// It had come before.
    Before,
    /// It waits for the router.
    New,
    /// Its link is due.
    Routed,
    /// Its link is due, and leased.
    Leased(Box<Link>),
}

/// Stores one change, once however often it comes. If its object is linked, as nearly always, and nobody holds the link right
/// now, it needs no router; and if nobody works on the link, and there are terms, it is leased.
pub(crate) async fn store_one(
    relaxed: &mut PgConnection,
    gateway: &GatewayName,
    change: &RemoteChange,
    terms: Option<Terms>,
) -> Result<Stored, sqlx::Error> {
    let live = link::due_live();
    let row = sqlx::query(&format!(
        // Who holds the link is not waited for.
        "WITH known AS MATERIALIZED (
             SELECT id, erased, $4::integer IS NOT NULL AND {READY} AS free,
                    due_seq = done_seq AND state = 'active' AND NOT look AND asks IS NULL AS rested
             FROM links WHERE gateway = $1 AND remote_id = $6 FOR NO KEY UPDATE SKIP LOCKED
         ), stored AS (
             INSERT INTO inbox (gateway, event_id, change, email_key, state, link_id)
             SELECT $1, $2, CASE WHEN known.erased THEN {BLANK} ELSE change END,
                    CASE WHEN known.erased THEN NULL ELSE $8 END,
                    CASE WHEN known.id IS NULL THEN 'new' ELSE 'waiting' END, known.id
             FROM (SELECT $3::jsonb AS change) AS one LEFT JOIN known ON true
             ON CONFLICT (gateway, event_id) DO NOTHING RETURNING id AS inbox_id, link_id
         ), marked AS (
             UPDATE links SET {live}, {LEASE} FROM known WHERE links.id = known.id AND EXISTS (SELECT FROM stored)
             RETURNING free, {LEASED}, CASE WHEN free AND rested THEN (
                 SELECT event_id FROM events WHERE (aggregate_type, aggregate_id) = ($7, links.customer_id::text)
                 ORDER BY sequence DESC LIMIT 1) END AS last_event
         )
         SELECT inbox_id, link_id IS NOT NULL AS routed, marked.* FROM stored LEFT JOIN marked ON true"
    ))
    .bind(gateway.as_str())
    .bind(&change.event_id)
    .bind(Json(change))
    .bind(terms.map(|terms| terms.holder))
    .bind(terms.map(|terms| terms.duration.as_secs_f64()))
    .bind(change.remote_id.as_str())
    .bind(Customer::TYPE)
    .bind(email_key(change))
    .fetch_optional(relaxed)
    .await?;
    let Some(row) = row else { return Ok(Stored::Before) };
    if row.try_get::<Option<bool>, _>("free")?.unwrap_or_default() {
        let mut link = Link::from_row(&row)?;
        // What cannot be read leaves things waiting until it can.
        if !link.refused.is_of_a_read()
            && !link.erased
            && let Some(last) = row.try_get("last_event")?
        {
            let told = Row { id: row.try_get("inbox_id")?, change: change.clone() };
            link.rested = Some(Rested { told, last });
        }
        return Ok(Stored::Leased(Box::new(link)));
    }
    Ok(if row.try_get("routed")? { Stored::Routed } else { Stored::New })
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use anyhow::Context;
    use chrono::DateTime;
    use tandem_domain::Profile;
    use uuid::Uuid;

    use super::*;
    use crate::ChangeKind;
    use crate::fixtures::tables;

    const TERMS: Terms = Terms { holder: 7, duration: Duration::from_secs(60), most: 1, most_in_bulk: 1 };

    /// A link of the object with that id.
    async fn link(pool: &PgPool, remote_id: &str, columns: &str, values: &str) -> Result<(), sqlx::Error> {
        let statement = format!(
            "INSERT INTO links (gateway, customer_id, remote_id {columns})
             VALUES ('stripe', gen_random_uuid(), '{remote_id}' {values})"
        );
        sqlx::raw_sql(&statement).execute(pool).await?;
        Ok(())
    }

    async fn stored(pool: &PgPool, event_id: &str, remote_id: &str, terms: Option<Terms>) -> anyhow::Result<Stored> {
        let change = RemoteChange {
            event_id: event_id.to_owned(),
            remote_id: remote_id.to_owned().into(),
            kind: ChangeKind::Updated,
            created: DateTime::UNIX_EPOCH,
            profile: Profile::default(),
            previous: BTreeMap::new(),
            customer: None,
            untold: crate::Untold::default(),
            idempotency_key: None,
        };
        Ok(store_one(&mut *pool.acquire().await?, &"stripe".parse()?, &change, terms).await?)
    }

    #[tokio::test]
    async fn a_change_leases_its_link_if_a_run_may_begin() -> anyhow::Result<()> {
        let pool = tables().await?;
        link(&pool, "free", "", "").await?;
        link(&pool, "waits", ", not_before", ", now() + interval '1 min'").await?;
        let lease = ", gen_random_uuid(), 8, now() + interval '1 min'";
        link(&pool, "leased", ", lease_token, lease_holder, lease_until", lease).await?;

        assert!(matches!(stored(&pool, "1", "free", None).await?, Stored::Routed));
        assert!(matches!(stored(&pool, "2", "free", Some(TERMS)).await?, Stored::Leased(link) if link.due_seq == 2));
        assert!(matches!(stored(&pool, "3", "waits", Some(TERMS)).await?, Stored::Routed));
        assert!(matches!(stored(&pool, "4", "leased", Some(TERMS)).await?, Stored::Routed));
        assert!(matches!(stored(&pool, "5", "unknown", Some(TERMS)).await?, Stored::New));

        sqlx::raw_sql("UPDATE links SET lease_token = NULL, lease_until = NULL").execute(&pool).await?;
        assert!(matches!(stored(&pool, "2", "free", Some(TERMS)).await?, Stored::Before));
        let leased: i64 = sqlx::query_scalar("SELECT count(*) FROM links WHERE lease_token IS NOT NULL OR due_seq > 2")
            .fetch_one(&pool)
            .await?;
        assert_eq!(leased, 0, "what came before changes nothing");
        Ok(())
    }

    /// Fails if a run takes what leased it for all that waits while something else does: that is lost, or sent twice.
    #[tokio::test]
    async fn only_of_a_link_at_rest_the_lease_says_all_that_waits() -> anyhow::Result<()> {
        let pool = tables().await?;
        link(&pool, "rests", "", "").await?;
        link(&pool, "unborn", "", "").await?;
        link(&pool, "due", ", due_seq", ", 1").await?;
        link(&pool, "unseen", ", look", ", true").await?;
        link(&pool, "unlinked", ", state", ", 'unlinked'").await?;
        link(&pool, "asked", ", asks", ", 'inbound'").await?;
        link(&pool, "unread", ", refused", r#", '{"read": true}'"#).await?;
        sqlx::raw_sql(
            "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
             SELECT 'customer', customer_id, n, 'updated', '1.0', '{}', '{}', md5(remote_id || n)::uuid
             FROM links, generate_series(1, 2) AS n WHERE remote_id <> 'unborn'",
        )
        .execute(&pool)
        .await?;

        let rested =
            async |event_id: &str, remote_id: &str| match stored(&pool, event_id, remote_id, Some(TERMS)).await? {
                Stored::Leased(link) => anyhow::Ok(link.rested),
                other => anyhow::bail!("{remote_id}: {other:?}"),
            };
        let rests = rested("1", "rests").await?.context("it rested")?;
        let (inbox, last): (i64, Uuid) =
            sqlx::query_as("SELECT id, md5('rests' || 2)::uuid FROM inbox").fetch_one(&pool).await?;
        assert_eq!((rests.told.id, rests.told.change.event_id.as_str(), rests.last), (inbox, "1", last));
        for (event_id, remote_id) in
            [("2", "unborn"), ("3", "due"), ("4", "unseen"), ("5", "unlinked"), ("6", "asked"), ("7", "unread")]
        {
            assert!(rested(event_id, remote_id).await?.is_none(), "{remote_id}");
        }
        // The one that leased it waits still.
        sqlx::raw_sql("UPDATE links SET lease_token = NULL, lease_until = NULL").execute(&pool).await?;
        assert!(rested("8", "rests").await?.is_none());
        Ok(())
    }
}
