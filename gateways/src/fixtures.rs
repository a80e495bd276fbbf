//! A database of a test's own, and what tests wait for there.

use sqlx::PgPool;
use tandem_domain::GatewayName;
use tandem_local::test::Looks;

/// All tables, empty.
pub(crate) async fn tables() -> anyhow::Result<PgPool> {
    let pool = PgPool::connect(&tandem_local::test::database().await.url).await?;
    tandem_eventlog::migrate(&pool).await?;
    crate::migrate(&pool).await?;
    Ok(pool)
}

/// The gateway that tests speak of.
pub(crate) fn stripe() -> GatewayName {
    "stripe".parse().expect("a name")
}

/// Waits until a statement in this database waits for a transaction.
pub(crate) async fn somebody_waits(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut looks = Looks::default();
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity
                                  WHERE datname = current_database() AND wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(pool).await? {
        looks.pause().await;
    }
    Ok(())
}
