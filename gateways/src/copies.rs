//! Copies: objects that carry the id of a customer that has another object, since somebody copied one with its metadata, or
//! merged two. Of a living customer they wait for a person; once the customer is dead each is a customer of its own.

use sqlx::{PgExecutor, PgTransaction};
use tandem_domain::GatewayName;
use uuid::Uuid;

use crate::link::Link;

/// In a condition on links `l`: the customer is deleted, and so is its object. What is told of that object late still finds this
/// link, by the object's id. A customer without an object is not dead in this sense: a create of ours may still be out.
pub(crate) const DEAD: &str = "
    (l.state = 'deleted' AND l.remote_id IS NOT NULL
     AND EXISTS (SELECT FROM events WHERE aggregate_type = 'customer' AND aggregate_id = l.customer_id::text
                                      AND event_type = 'deleted'))";

/// How the customer whose id an object carries stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It lives, or was never here.
    Other,
    /// It is dead, and so is its object: this one is a customer of its own.
    Dead,
    /// It is deleted, and its object lives, or there was none.
    Deleted,
}

/// How that customer stands.
pub(crate) async fn owner(
    database: impl PgExecutor<'_>,
    gateway: &GatewayName,
    customer: Uuid,
) -> Result<Owner, sqlx::Error> {
    let (deleted, dead): (bool, bool) = sqlx::query_as(&format!(
        "SELECT EXISTS (SELECT FROM events WHERE aggregate_type = 'customer' AND aggregate_id = $2::text
                                             AND event_type = 'deleted'),
                EXISTS (SELECT FROM links l WHERE l.gateway = $1 AND l.customer_id = $2 AND {DEAD})"
    ))
    .bind(gateway.as_str())
    .bind(customer)
    .fetch_one(database)
    .await?;
    Ok(match (deleted, dead) {
        (_, true) => Owner::Dead,
        (true, false) => Owner::Deleted,
        (false, false) => Owner::Other,
    })
}

/// The customer dies, and its object with it: its copies, about which a person was asked, are routed again.
pub(crate) async fn let_go(tx: &mut PgTransaction<'_>, link: &Link) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH moot AS (
             UPDATE parked SET state = 'superseded', closed_at = clock_timestamp()
             WHERE link_id = $1 AND state = 'open' AND kind = 'duplicate' RETURNING inbox_id
         )
         UPDATE inbox SET state = 'new', link_id = NULL WHERE id IN (SELECT inbox_id FROM moot)",
    )
    .bind(link.id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The object carries its customer's id from now on.
pub(crate) async fn relabelled(tx: &mut PgTransaction<'_>, link: &Link) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE links SET relabel = false WHERE id = $1").bind(link.id).execute(&mut **tx).await?;
    Ok(())
}
