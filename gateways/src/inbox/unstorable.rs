//! Rows that cannot be routed for what they say: each is set aside, and holds up no other.

use sqlx::PgPool;
use sqlx::error::DatabaseError;
use tandem_domain::GatewayName;
use tracing::warn;

/// Whether a statement failed for a value in it: repeating it cannot help. So it is with data exceptions (22), limits such as that
/// of an index row (54), checks (23514), and with what we cannot read.
pub(super) fn is_of_a_value(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => sqlstate(error.as_ref())
            .is_some_and(|code| code.starts_with("22") || code.starts_with("54") || code == "23514"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => true,
        _ => false,
    }
}

/// Of an object that no link can name.
pub(super) const NO_ID: &str = "the id of its object has more than 255 characters";

/// The reason for a person, without any value: what PostgreSQL says may repeat them.
pub(super) fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => {
            let code = sqlstate(error.as_ref()).unwrap_or_default();
            let what = if code == "54000" { "a value is too long for an index" } else { "a value is not allowed" };
            format!("the database cannot store it: {what} (SQLSTATE {code})")
        }
        _ => "it cannot be read: it is no change as this version of Tandem stores one".to_owned(),
    }
}

fn sqlstate(error: &dyn DatabaseError) -> Option<String> {
    error.code().map(|code| code.into_owned())
}

/// Parks a new row until a person has it tried again, or lets it be.
pub(super) async fn set_aside(
    relaxed: &PgPool,
    gateway: &GatewayName,
    row: i64,
    reason: &str,
) -> Result<(), sqlx::Error> {
    let parked: Option<i64> = sqlx::query_scalar(
        "WITH aside AS (
             UPDATE inbox SET state = 'parked' WHERE id = $2 AND state = 'new' RETURNING left(change ->> 'remote_id', 255) AS remote_id
         )
         INSERT INTO parked (gateway, kind, remote_id, inbox_id, reason) SELECT $1, 'unstorable', remote_id, $2, $3 FROM aside
         RETURNING id",
    )
    .bind(gateway.as_str())
    .bind(row)
    .bind(reason)
    .fetch_optional(relaxed)
    .await?;
    if let Some(parked) = parked {
        warn!(%gateway, parked.id = parked, reason, "a change cannot be stored and is parked: see GET /parked");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;
    use tandem_domain::CustomerId;
    use uuid::Uuid;

    use super::super::route;
    use super::*;
    use crate::parked;

    async fn count(pool: &PgPool, state: &str) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT count(*) FROM inbox WHERE state = $1").bind(state).fetch_one(pool).await
    }

    /// Fails if all that is new waits for the one row that cannot be stored: every newcomer of the gateway then does, for ever.
    #[tokio::test]
    async fn a_row_that_cannot_be_stored_is_set_aside_and_all_others_are_routed() -> anyhow::Result<()> {
        let pool = PgPool::connect(&tandem_local::test::database().await.url).await?;
        tandem_eventlog::migrate(&pool).await?;
        crate::migrate(&pool).await?;
        let gateway: GatewayName = "stripe".parse()?;
        let endless = "x".repeat(2_800);
        for (n, remote_id, kind) in
            [(1, endless.as_str(), "created"), (2, "cus_2", "exploded"), (3, "cus_3", "created")]
        {
            let change = serde_json::json!({
                "event_id": format!("evt_{n}"), "kind": kind, "created": "2026-01-01T00:00:00Z", "remote_id": remote_id,
                "profile": {"email": "x".repeat(100_000)}, "customer": null, "previous": {}, "idempotency_key": null
            });
            sqlx::query("INSERT INTO inbox (gateway, event_id, change) VALUES ('stripe', $1, $2)")
                .bind(format!("evt_{n}"))
                .bind(change)
                .execute(&pool)
                .await?;
        }
        let all = async || -> anyhow::Result<()> {
            while count(&pool, "new").await? > 0 {
                route(&pool, &gateway).await?;
            }
            Ok(())
        };
        all().await?;
        assert_eq!(
            (count(&pool, "new").await?, count(&pool, "parked").await?, count(&pool, "waiting").await?),
            (0, 2, 1)
        );
        let mut shown = parked::list(&pool, Some("stripe"), 0, 10).await?;
        // Either may be the first: a row whose router has not yet let go is tried once more.
        shown.sort_by_key(|one| one.remote_id.clone());
        assert_eq!(shown.iter().map(|one| one.kind.as_str()).collect::<Vec<_>>(), ["unstorable", "unstorable"]);
        assert!(shown[0].reason.contains("cannot be read") && shown[1].reason == NO_ID, "{shown:?}");
        assert_eq!(shown[1].remote_id.as_ref().map(String::len), Some(255));

        // It names the object of a person who is erased.
        let erased = Uuid::now_v7();
        sqlx::query("INSERT INTO links (gateway, customer_id, remote_id) VALUES ('stripe', $1, 'cus_2')")
            .bind(erased)
            .execute(&pool)
            .await?;
        crate::erase::forget_customer(&pool, CustomerId(erased)).await?;
        let profiles: Vec<String> =
            sqlx::query_scalar("SELECT event_id FROM inbox WHERE change -> 'profile' = '{}'").fetch_all(&pool).await?;
        assert_eq!(profiles, ["evt_2"]);

        let mut tx = pool.begin().await?;
        parked::retry(&mut tx, shown[1].id, crate::link::Priority::Live).await?;
        parked::dismiss(&mut tx, shown[0].id).await?;
        tx.commit().await?;
        all().await?;
        assert_eq!((count(&pool, "parked").await?, count(&pool, "done").await?), (1, 1), "tried again, and let be");
        let row = sqlx::query("SELECT count(*) AS n FROM parked WHERE state = 'open'").fetch_one(&pool).await?;
        assert_eq!(row.try_get::<i64, _>("n")?, 1);
        Ok(())
    }
}
