//! Forgetting what the gateways' tables say about a customer that was erased.

use sqlx::{PgPool, PgTransaction};
use tandem_domain::{CustomerId, GatewayName};
use uuid::Uuid;

use crate::inbox::BLANK;
use crate::link::Link;

/// A gateway that does not know yet, or has not said, that the customer is deleted: to erase it now would forget what is to
/// be done there. None where nothing is left to do.
///
/// # Errors
/// The database is unavailable.
pub async fn unsettled(pool: &PgPool, customer: CustomerId) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT gateway FROM links
         WHERE customer_id = $1 AND (due_seq > done_seq OR state = 'active' AND remote_id IS NOT NULL
             OR EXISTS (SELECT FROM intents WHERE link_id = links.id AND intents.state = 'open')
             OR EXISTS (SELECT FROM inbox WHERE link_id = links.id AND inbox.state <> 'done'))
         ORDER BY gateway LIMIT 1",
    )
    .bind(customer.0)
    .fetch_optional(pool)
    .await
}

/// In a condition: the object with the id in the column `remote_id` is that of an erased customer at that gateway, or the
/// customer in the column `customer_id` is. What a survey, which may have read it before, stores after the erasure asks for this;
/// it locks its row of `surveys` before, for which [`forget_links`] waits.
pub(crate) fn is_erased(gateway: &str, customer_id: &str, remote_id: &str) -> String {
    format!(
        "(EXISTS (SELECT FROM links l WHERE l.gateway = {gateway} AND l.remote_id = {remote_id} AND l.erased)
          OR EXISTS (SELECT FROM events WHERE aggregate_type = 'customer' AND aggregate_id = ({customer_id})::text
                                          AND event_type = 'erased'))"
    )
}

/// Blanks what the tables of all gateways hold of a customer, also of those that are no longer configured. What nobody has made
/// a link of yet is blanked as the feed tells each gateway of the erasure.
///
/// # Errors
/// The database is unavailable.
pub async fn forget_customer(pool: &PgPool, customer: CustomerId) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    let links: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM links WHERE customer_id = $1 ORDER BY id FOR NO KEY UPDATE")
            .bind(customer.0)
            .fetch_all(&mut *tx)
            .await?;
    // All of them, before some of them below: who erases another customer locks them in this order, too.
    sqlx::query("SELECT FROM surveys WHERE ended_at IS NULL ORDER BY id FOR NO KEY UPDATE").execute(&mut *tx).await?;
    forget_links(&mut tx, &links).await?;
    // What a survey read of a customer that no link names: a first run, before there is a gateway.
    for table in ["survey_customers", "drifts", "plan_items"] {
        let forgetting = format!("DELETE FROM {table} WHERE customer_id = $1");
        sqlx::query(&forgetting).bind(customer.0).execute(&mut *tx).await?;
    }
    tx.commit().await
}

/// Blanks what was told of an object that was gone before it became anybody's: there is no customer that could be erased.
pub(crate) async fn never_born(tx: &mut PgTransaction<'_>, link: &Link) -> Result<(), sqlx::Error> {
    forget_links(tx, &[link.id]).await
}

/// The same of one gateway's tables and of these customers, whose links are locked.
pub(crate) async fn forget(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    customers: &[Uuid],
) -> Result<(), sqlx::Error> {
    if customers.is_empty() {
        return Ok(());
    }
    let links: Vec<i64> = sqlx::query_scalar("SELECT id FROM links WHERE gateway = $1 AND customer_id = ANY($2)")
        .bind(gateway.as_str())
        .bind(customers)
        .fetch_all(&mut **tx)
        .await?;
    forget_links(tx, &links).await
}

/// What blocks an import by what is told late stays: which object it was, and which events were told of it. From now on what
/// is told of these links is stored without values.
async fn forget_links(tx: &mut PgTransaction<'_>, links: &[i64]) -> Result<(), sqlx::Error> {
    let inbox = format!("UPDATE inbox SET change = {BLANK}, email_key = NULL WHERE link_id = ANY($1)");
    // No link has these, but they name its object.
    let unstorable = format!(
        "UPDATE inbox SET change = {BLANK}, email_key = NULL FROM parked, links
         WHERE links.id = ANY($1) AND kind = 'unstorable' AND parked.gateway = links.gateway
           AND parked.remote_id = links.remote_id AND inbox.id = inbox_id"
    );
    let blank = [
        "UPDATE links SET base = CASE WHEN base IS NOT NULL THEN '{}'::jsonb END, spellings = '{}', refused = '{}',
                          last_error = NULL, erased = true
         WHERE id = ANY($1)",
        &inbox,
        &unstorable,
        "DELETE FROM intents WHERE link_id = ANY($1) AND state <> 'open'",
        // Others' words may hold what they were sent.
        "UPDATE parked SET reason = 'erased' WHERE link_id = ANY($1)",
        // Whoever stores what a survey read has its row: what is stored by now is seen below, what comes later asks.
        "SELECT FROM surveys WHERE ended_at IS NULL AND gateway IN (SELECT gateway FROM links WHERE id = ANY($1))
         ORDER BY id FOR NO KEY UPDATE",
        "DELETE FROM survey_customers USING surveys, links
         WHERE links.id = ANY($1) AND surveys.gateway = links.gateway AND survey_id = surveys.id
           AND survey_customers.customer_id = links.customer_id",
        "DELETE FROM survey_objects USING surveys, links
         WHERE links.id = ANY($1) AND surveys.gateway = links.gateway AND survey_id = surveys.id
           AND survey_objects.remote_id = links.remote_id",
        // What was found before they were linked names the object alone.
        "DELETE FROM drifts USING surveys, links
         WHERE links.id = ANY($1) AND surveys.gateway = links.gateway AND drifts.survey_id = surveys.id
           AND (drifts.customer_id = links.customer_id OR drifts.remote_id = links.remote_id)",
        "DELETE FROM plan_items USING surveys, links
         WHERE links.id = ANY($1) AND surveys.gateway = links.gateway AND plan_items.plan_id = surveys.id
           AND (plan_items.customer_id = links.customer_id OR plan_items.remote_id = links.remote_id)",
    ];
    for statement in blank {
        sqlx::query(statement).bind(links).execute(&mut **tx).await?;
    }
    Ok(())
}
