//! The guard: where a bad script changes or deletes much at once on one side, the other is kept from following.

use std::collections::BTreeSet;

use sqlx::{PgPool, PgTransaction};
use tandem_domain::{CustomerId, GatewayName};
use tracing::error;

use crate::linked;
use crate::pause::{self, Direction};

/// How much may happen at once, in each direction of a gateway, before that direction is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardConfig {
    /// Most deletions within the window; 0 is no limit.
    pub deletes: u32,
    /// The most customers, of a hundred linked, one of whose fields changes within the window; 0 is no limit.
    pub changes_percent: u32,
    /// So many customers may change whatever the share: in a small catalog a few are many.
    pub changes_at_least: u32,
    /// The window, in seconds.
    pub window_s: u32,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { deletes: 50, changes_percent: 25, changes_at_least: 200, window_s: 600 }
    }
}

/// What a deletion is counted as. No field is called so.
const DELETED: &str = "deleted";

/// Counts a deletion that is about to happen, in the transaction that makes it so. `false`: it is one too many, the direction
/// is to be paused, and the transaction rolled back.
pub(crate) async fn may_delete(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    direction: Direction,
    customer: CustomerId,
    config: GuardConfig,
) -> Result<bool, sqlx::Error> {
    if config.deletes == 0 {
        return Ok(true);
    }
    // One at a time, or many would each find room for one more.
    lock(tx, gateway, direction).await?;
    if is_one_too_many(tx, gateway, direction, customer, config).await? {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO guarded (gateway, direction, what, customer_id) VALUES ($1, $2, $3, $4)
         ON CONFLICT (gateway, direction, what, customer_id) DO NOTHING",
    )
    .bind(gateway.as_str())
    .bind(direction.as_str())
    .bind(DELETED)
    .bind(customer.0)
    .execute(&mut **tx)
    .await?;
    Ok(true)
}

/// Whether there is no room for this deletion beside those that are counted. Read under [`lock`], or it is out of date at once.
async fn is_one_too_many(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    direction: Direction,
    CustomerId(customer): CustomerId,
    config: GuardConfig,
) -> Result<bool, sqlx::Error> {
    let others: i64 = sqlx::query_scalar(&format!("SELECT count(*) FROM guarded {RECENT} AND customer_id <> $5"))
        .bind(gateway.as_str())
        .bind(direction.as_str())
        .bind(DELETED)
        .bind(f64::from(config.window_s))
        .bind(customer)
        .fetch_one(&mut **tx)
        .await?;
    Ok(others >= i64::from(config.deletes))
}

/// Of one gateway, direction and kind, within the window and since it was resumed last.
const RECENT: &str = "
    WHERE gateway = $1 AND direction = $2 AND what = $3
      AND at > greatest(statement_timestamp() - make_interval(secs => $4),
                        (SELECT counted_from FROM guards WHERE gateway = $1 AND direction = $2))";

/// Pauses the direction because of a deletion that was refused, and whose transaction is rolled back.
pub(crate) async fn stop_deleting(
    pool: &PgPool,
    gateway: &GatewayName,
    direction: Direction,
    customer: CustomerId,
    config: GuardConfig,
) -> Result<(), sqlx::Error> {
    let GuardConfig { deletes, window_s, .. } = config;
    let reason = format!("more than {deletes} customers deleted within {window_s} s");
    let mut tx = pool.begin().await?;
    lock(&mut tx, gateway, direction).await?;
    // Counted once more: a person may have resumed it meanwhile, and nothing from before counts then.
    let news = is_one_too_many(&mut tx, gateway, direction, customer, config).await?
        && pause::store(&mut *tx, gateway, Some(direction), &reason, "guard").await?;
    tx.commit().await?;
    if news {
        tell(gateway, direction, &reason);
    }
    Ok(())
}

/// A field of a customer that changed.
pub(crate) type Changed = (Direction, String, CustomerId);

/// Counts what the feed tells, in the projection's own transaction, and pauses a direction in which a field changes everywhere.
pub(crate) async fn count(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    changed: &BTreeSet<Changed>,
    config: GuardConfig,
) -> Result<(), sqlx::Error> {
    if config.changes_percent == 0 || changed.is_empty() {
        return Ok(());
    }
    let (mut directions, mut fields, mut customers) = (vec![], vec![], vec![]);
    for (direction, field, CustomerId(customer)) in changed {
        directions.push(direction.as_str());
        fields.push(field.as_str());
        customers.push(*customer);
    }
    sqlx::query(
        "WITH slots AS MATERIALIZED (
             SELECT asked.direction,
                    greatest(date_bin(make_interval(secs => $5), clock_timestamp(), 'epoch'), guards.counted_from) AS slot
             FROM (SELECT DISTINCT direction FROM unnest($2::text[]) AS all_of (direction)) AS asked
             LEFT JOIN guards ON guards.gateway = $1 AND guards.direction = asked.direction),
         ours AS MATERIALIZED (
             SELECT direction, what, customer_id, slot
             FROM unnest($2::text[], $3::text[], $4::uuid[]) AS t (direction, what, customer_id) JOIN slots USING (direction)),
         -- Each has one slot: that of its last change. OFFSET 0: one by one, or the planner may read the whole table.
         moved AS MATERIALIZED (
             SELECT ours.direction, ours.what, before.slot FROM ours CROSS JOIN LATERAL (
                 SELECT slot FROM guarded WHERE gateway = $1 AND direction = ours.direction AND what = ours.what
                     AND customer_id = ours.customer_id AND slot IS NOT NULL OFFSET 0) AS before),
         counted AS (
             INSERT INTO guarded (gateway, direction, what, customer_id, slot)
             SELECT $1, direction, what, customer_id, slot FROM ours ORDER BY 2, 3, 4
             ON CONFLICT (gateway, direction, what, customer_id) DO UPDATE SET at = excluded.at, slot = excluded.slot)
         INSERT INTO guard_tallies (gateway, direction, what, slot, customers)
         SELECT $1, direction, what, slot, sum(n) FROM (
             SELECT direction, what, slot, 1 AS n FROM ours UNION ALL SELECT direction, what, slot, -1 FROM moved) AS changes
         GROUP BY direction, what, slot
         ON CONFLICT (gateway, direction, what, slot) DO UPDATE SET customers = guard_tallies.customers + excluded.customers",
    )
    .bind(gateway.as_str())
    .bind(&directions)
    .bind(&fields)
    .bind(&customers)
    .bind(slot(config))
    .execute(&mut **tx)
    .await?;
    let touched: BTreeSet<(Direction, &str)> =
        changed.iter().map(|(direction, field, _)| (*direction, field.as_str())).collect();
    for (direction, field) in touched {
        if too_many(tx, gateway, direction, field, config).await?.is_none() {
            continue;
        }
        // Counted once more: a person may have resumed it in this instant, and nothing from before counts then.
        lock(tx, gateway, direction).await?;
        if let Some(reason) = too_many(tx, gateway, direction, field, config).await?
            && pause::store(&mut **tx, gateway, Some(direction), &reason, "guard").await?
        {
            tell(gateway, direction, &reason);
        }
    }
    Ok(())
}

/// One at a time decides about a direction, to the end of the transaction: whoever counts, and whoever resumes. Taken before
/// any link is locked.
pub(crate) async fn lock(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    direction: Direction,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('guard ' || $1 || ' ' || $2, 0))")
        .bind(gateway.as_str())
        .bind(direction.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Why the direction must be paused, if it must.
async fn too_many(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    direction: Direction,
    field: &str,
    config: GuardConfig,
) -> Result<Option<String>, sqlx::Error> {
    let GuardConfig { changes_percent, changes_at_least, window_s, .. } = config;
    let recent: i64 = sqlx::query_scalar(
        "SELECT COALESCE(sum(customers), 0)::bigint FROM guard_tallies
         WHERE gateway = $1 AND direction = $2 AND what = $3
           AND slot > statement_timestamp() - make_interval(secs => $4)
           AND slot >= COALESCE((SELECT counted_from FROM guards WHERE gateway = $1 AND direction = $2), '-infinity')",
    )
    .bind(gateway.as_str())
    .bind(direction.as_str())
    .bind(field)
    .bind(f64::from(window_s))
    .fetch_one(&mut **tx)
    .await?;
    // Most of the time it is far from enough.
    if recent <= i64::from(changes_at_least) {
        return Ok(None);
    }
    let Some(linked) = linked::linked(tx, gateway).await? else { return Ok(None) };
    let too_many = recent.saturating_mul(100) > linked.saturating_mul(i64::from(changes_percent));
    Ok(too_many
        .then(|| format!("{field} changed for more than {changes_percent}% of the customers within {window_s} s")))
}

/// How many rows one statement forgets.
const FORGOTTEN: i64 = 2000;

/// How long a slot of the window is, in seconds.
fn slot(config: GuardConfig) -> f64 {
    (f64::from(config.window_s) / 60.0).max(1.0)
}

/// Forgets some of what is older than the window.
pub(crate) async fn forget(pool: &PgPool, gateway: &GatewayName, config: GuardConfig) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM guard_tallies WHERE gateway = $1 AND slot < statement_timestamp() - make_interval(secs => $2)",
    )
    .bind(gateway.as_str())
    .bind(f64::from(config.window_s) + slot(config))
    .execute(pool)
    .await?;
    // What is counted anew in this instant is left alone: whoever counts locks in another order.
    sqlx::query(
        "DELETE FROM guarded WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM guarded WHERE gateway = $1 AND at < statement_timestamp() - make_interval(secs => $2)
             ORDER BY at LIMIT $3 FOR UPDATE SKIP LOCKED))",
    )
    .bind(gateway.as_str())
    .bind(f64::from(config.window_s))
    .bind(FORGOTTEN)
    .execute(pool)
    .await?;
    Ok(())
}

fn tell(gateway: &GatewayName, direction: Direction, reason: &str) {
    error!(%gateway, %direction, reason, "paused: `tandem resume {gateway}` lets it go on");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{stripe, tables};
    use crate::{pauses, resume};

    const ONE: GuardConfig = GuardConfig { deletes: 1, changes_percent: 25, changes_at_least: 200, window_s: 600 };
    const OUT: Direction = Direction::Outbound;

    fn customer(n: u128) -> CustomerId {
        CustomerId(uuid::Uuid::from_u128(n))
    }

    /// One customer is deleted, and a second one may not be.
    async fn refused() -> anyhow::Result<PgPool> {
        let pool = tables().await?;
        let mut tx = pool.begin().await?;
        assert!(may_delete(&mut tx, &stripe(), OUT, customer(1), ONE).await?);
        tx.commit().await?;
        let mut tx = pool.begin().await?;
        assert!(!may_delete(&mut tx, &stripe(), OUT, customer(2), ONE).await?);
        tx.rollback().await?;
        Ok(pool)
    }

    #[tokio::test]
    async fn one_deletion_too_many_pauses_its_direction() -> anyhow::Result<()> {
        let pool = refused().await?;
        stop_deleting(&pool, &stripe(), OUT, customer(2), ONE).await?;
        assert_eq!(pauses(&pool, &["stripe"]).await?[0].direction, "outbound");
        Ok(())
    }

    #[tokio::test]
    async fn a_direction_that_was_resumed_meanwhile_is_not_paused_by_what_was_counted_before() -> anyhow::Result<()> {
        let pool = refused().await?;
        pause::pause(&pool, &stripe(), Some(OUT), "another process counted it, too").await?;
        resume(&pool, &stripe(), Some(OUT)).await?;
        stop_deleting(&pool, &stripe(), OUT, customer(2), ONE).await?;
        assert_eq!(pauses(&pool, &["stripe"]).await?, []);
        Ok(())
    }

    const FEW: GuardConfig = GuardConfig { changes_percent: 25, changes_at_least: 3, deletes: 0, window_s: 600 };

    /// So many customers, of 12 that are linked, change a field.
    async fn change(pool: &PgPool, customers: std::ops::Range<u128>) -> anyhow::Result<bool> {
        let mut tx = pool.begin().await?;
        let changed = customers.map(|nth| (OUT, "email".to_owned(), customer(nth))).collect();
        count(&mut tx, &stripe(), &changed, FEW).await?;
        tx.commit().await?;
        Ok(!pauses(pool, &["stripe"]).await?.is_empty())
    }

    async fn twelve_linked() -> anyhow::Result<PgPool> {
        let pool = tables().await?;
        sqlx::query(
            "INSERT INTO links (gateway, customer_id) SELECT 'stripe', gen_random_uuid() FROM generate_series(1, 12)",
        )
        .execute(&pool)
        .await?;
        Ok(pool)
    }

    /// Fails where the tally of the slots counts a change and not a customer.
    #[tokio::test]
    async fn a_customer_whose_field_changes_again_counts_once() -> anyhow::Result<()> {
        let pool = twelve_linked().await?;
        for _ in 0..3 {
            assert!(!change(&pool, 0..3).await?);
        }
        // As in another slot.
        sqlx::query("UPDATE guarded SET slot = slot - interval '1 minute'").execute(&pool).await?;
        sqlx::query("UPDATE guard_tallies SET slot = slot - interval '1 minute'").execute(&pool).await?;
        assert!(!change(&pool, 1..3).await?);
        let slots = "SELECT customers FROM guard_tallies ORDER BY slot";
        assert_eq!(sqlx::query_scalar::<_, i64>(slots).fetch_all(&pool).await?, [1, 2]);
        assert!(change(&pool, 3..4).await?, "four of twelve");
        Ok(())
    }

    #[tokio::test]
    async fn what_was_counted_before_a_resume_counts_no_more() -> anyhow::Result<()> {
        let pool = twelve_linked().await?;
        assert!(change(&pool, 0..4).await?);
        resume(&pool, &stripe(), Some(OUT)).await?;
        assert!(!change(&pool, 0..3).await?);
        assert!(change(&pool, 4..5).await?);
        Ok(())
    }
}
