//! Forgetting what the gateways' tables say about a customer that was erased.

use sqlx::{PgPool, PgTransaction};
use tandem_domain::{CustomerId, GatewayName};
use uuid::Uuid;

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

/// Blanks what one gateway's tables hold of these customers, whose links are locked. What blocks an import by what is told
/// late stays: which object it was, and which events were told of it.
pub(crate) async fn forget(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    customers: &[Uuid],
) -> Result<(), sqlx::Error> {
    if customers.is_empty() {
        return Ok(());
    }
    let blank = [
        "UPDATE links SET base = CASE WHEN base IS NOT NULL THEN '{}'::jsonb END, spellings = '{}', refused = '{}'
         WHERE gateway = $1 AND customer_id = ANY($2)",
        "UPDATE inbox SET change = change || '{\"profile\": {}, \"previous\": {}}', email_key = NULL FROM links
         WHERE links.gateway = $1 AND links.customer_id = ANY($2) AND inbox.link_id = links.id",
        "DELETE FROM intents USING links
         WHERE links.gateway = $1 AND links.customer_id = ANY($2) AND intents.link_id = links.id AND intents.state <> 'open'",
        // What was found before they were linked names the object alone.
        "DELETE FROM drifts USING surveys, links
         WHERE surveys.gateway = $1 AND drifts.survey_id = surveys.id
           AND links.gateway = $1 AND links.customer_id = ANY($2)
           AND (drifts.customer_id = links.customer_id OR drifts.remote_id = links.remote_id)",
        "DELETE FROM plan_items USING surveys, links
         WHERE surveys.gateway = $1 AND plan_items.plan_id = surveys.id
           AND links.gateway = $1 AND links.customer_id = ANY($2)
           AND (plan_items.customer_id = links.customer_id OR plan_items.remote_id = links.remote_id)",
    ];
    for statement in blank {
        sqlx::query(statement).bind(gateway.as_str()).bind(customers).execute(&mut **tx).await?;
    }
    Ok(())
}
