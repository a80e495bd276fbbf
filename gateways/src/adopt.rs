//! Adopting: an object that was there before becomes a customer's.

use sqlx::PgTransaction;
use sqlx::types::Json;
use tandem_domain::{GatewayName, Interval, Profile};
use uuid::Uuid;

use crate::link::{self, FREE};
use crate::taken::unless_taken;
use crate::{join, twins};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adopted {
    /// The link is made, and due: the reconciler looks at the object.
    Linked,
    /// The customer is just being created there.
    Busy,
    /// Customer or object has become another's.
    Taken,
}

/// Links a customer that has no object at the gateway with one that no link knows, as one of many. `base` is what the reconciler takes for
/// what the gateway was last seen to hold: what differs from it is an edit.
pub(crate) async fn adopt(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    customer: Uuid,
    remote_id: &str,
    base: Option<(&Profile, Interval)>,
) -> Result<Adopted, sqlx::Error> {
    // What may be the twin of one of them is not, any more. Locked in the order of the customers, as everywhere.
    let named = twins::naming(&mut **tx, gateway, &[customer.to_string(), remote_id.to_owned()]).await?;
    if !named.is_empty() {
        sqlx::query(
            "SELECT FROM links WHERE gateway = $1 AND customer_id = $2 OR id = ANY($3)
             ORDER BY customer_id FOR NO KEY UPDATE",
        )
        .bind(gateway.as_str())
        .bind(customer)
        .bind(&named)
        .execute(&mut **tx)
        .await?;
    }
    let due = link::due("true");
    let statement = format!(
        // A lease that has run out is taken away: whoever held it writes nothing more.
        "INSERT INTO links (gateway, customer_id, remote_id, base, base_from, base_until, look, due_seq, bulk)
         SELECT $1, $2, $3, $4, $5, $6, true, 1, true
         WHERE NOT EXISTS (SELECT FROM links WHERE gateway = $1 AND remote_id = $3)
         ON CONFLICT (gateway, customer_id) DO UPDATE
             SET remote_id = excluded.remote_id, base = excluded.base, base_from = excluded.base_from,
                 base_until = excluded.base_until, look = true, {due},
                 not_before = clock_timestamp(), {FREE}
             WHERE links.remote_id IS NULL AND links.state = 'active' AND NOT links.erased
               AND (links.lease_token IS NULL OR links.lease_until < statement_timestamp())
               AND NOT EXISTS (SELECT FROM intents WHERE link_id = links.id AND state = 'open')"
    );
    let adopting = sqlx::query(&statement)
        .bind(gateway.as_str())
        .bind(customer)
        .bind(remote_id)
        .bind(base.map(|(profile, _)| Json(profile)))
        .bind(base.map(|(_, interval)| interval.from()))
        .bind(base.map(|(_, interval)| interval.until()));
    // The statement does not see an import that commits while it waits for the index.
    let Some(adopted) = unless_taken(tx, adopting).await? else { return Ok(Adopted::Taken) };
    if adopted.rows_affected() == 1 {
        join::look_again(tx, &named).await?;
        return Ok(Adopted::Linked);
    }
    let free: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM links WHERE gateway = $1 AND customer_id = $2 AND remote_id IS NULL AND state = 'active'
                       AND NOT erased)
            AND NOT EXISTS (SELECT FROM links WHERE gateway = $1 AND remote_id = $3)",
    )
    .bind(gateway.as_str())
    .bind(customer)
    .bind(remote_id)
    .fetch_one(&mut **tx)
    .await?;
    Ok(if free { Adopted::Busy } else { Adopted::Taken })
}

/// Lets a customer that has no object at the gateway be created there, as one of many. False if it has one, or is no longer kept in step.
pub(crate) async fn create_there(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    customer: Uuid,
) -> Result<bool, sqlx::Error> {
    let marked = sqlx::query(&format!(
        "INSERT INTO links (gateway, customer_id, due_seq, bulk) VALUES ($1, $2, 1, true)
         ON CONFLICT (gateway, customer_id) DO UPDATE
             SET {}
             WHERE links.remote_id IS NULL AND links.state = 'active' AND NOT links.erased",
        link::due("true")
    ))
    .bind(gateway.as_str())
    .bind(customer)
    .execute(&mut **tx)
    .await?;
    Ok(marked.rows_affected() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{somebody_waits, stripe, tables};

    #[tokio::test]
    async fn an_object_that_is_imported_in_this_instant_is_taken() -> anyhow::Result<()> {
        let pool = tables().await?;
        let mut import = pool.begin().await?;
        sqlx::query(
            "INSERT INTO links (gateway, customer_id, remote_id) VALUES ('stripe', gen_random_uuid(), 'cus_1')",
        )
        .execute(&mut *import)
        .await?;
        let mut tx = pool.begin().await?;
        let gateway = stripe();

        let adopting = adopt(&mut tx, &gateway, Uuid::now_v7(), "cus_1", None);
        let importing = async {
            somebody_waits(&pool).await?;
            import.commit().await
        };
        let (adopted, imported) = tokio::join!(adopting, importing);
        imported?;

        assert_eq!(adopted?, Adopted::Taken);
        // The caller notes that in the same transaction.
        let links: i64 = sqlx::query_scalar("SELECT count(*) FROM links").fetch_one(&mut *tx).await?;
        assert_eq!(links, 1);
        Ok(())
    }
}
