//! How many customers are linked at a gateway.

use sqlx::{PgPool, PgTransaction};
use tandem_domain::GatewayName;
use uuid::Uuid;

/// Up to so many are counted each time somebody asks; of more [`count`] keeps how many they are.
const COUNTED: i64 = 2000;

/// About how many customers are linked. `None`: they are many, and nobody has counted them yet.
pub(crate) async fn linked(tx: &mut PgTransaction<'_>, gateway: &GatewayName) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT CASE WHEN first.rows < $2 THEN first.active ELSE greatest(first.active, kept.links) END
         FROM (SELECT count(*) AS rows, count(*) FILTER (WHERE state = 'active') AS active
               FROM (SELECT state FROM links WHERE gateway = $1 ORDER BY customer_id LIMIT $2) AS head) AS first
         LEFT JOIN linked AS kept ON kept.gateway = $1
         WHERE first.rows < $2 OR kept.links IS NOT NULL",
    )
    .bind(gateway.as_str())
    .bind(COUNTED)
    .fetch_optional(&mut **tx)
    .await
}

/// Counts all of them, some at a time, and keeps the number.
pub(crate) async fn count(pool: &PgPool, gateway: &GatewayName) -> Result<(), sqlx::Error> {
    let (mut links, mut after) = (0, Uuid::nil());
    loop {
        let (part, active, last): (i64, i64, Option<Uuid>) = sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE state = 'active'), max(customer_id::text)::uuid
             FROM (SELECT customer_id, state FROM links WHERE gateway = $1 AND customer_id > $2
                   ORDER BY customer_id LIMIT $3) AS part",
        )
        .bind(gateway.as_str())
        .bind(after)
        .bind(COUNTED)
        .fetch_one(pool)
        .await?;
        links += active;
        match last.filter(|_| part == COUNTED) {
            Some(last) => after = last,
            None => break,
        }
    }
    sqlx::query(
        "INSERT INTO linked (gateway, links) VALUES ($1, $2)
         ON CONFLICT (gateway) DO UPDATE SET links = excluded.links, counted_at = excluded.counted_at",
    )
    .bind(gateway.as_str())
    .bind(links)
    .execute(pool)
    .await?;
    Ok(())
}
