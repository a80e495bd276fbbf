//! How a link stands in this moment: at rest, or under way.

use sqlx::{FromRow, PgExecutor};
use tandem_domain::{CustomerId, GatewayName, RemoteId, Spellings};
use uuid::Uuid;

/// A link in this moment.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Standing {
    pub id: i64,
    pub customer_id: Uuid,
    pub remote_id: Option<String>,
    pub state: String,
    /// With the steps, whatever changes either side raises it.
    pub due_seq: i64,
    #[sqlx(rename = "lease_step")]
    pub step: i64,
    #[sqlx(json)]
    pub spellings: Spellings,
    /// Something is on its way: it is due, a call is open, the inbox or the feed holds something for it.
    pub in_flight: bool,
    /// A push, or whether it has a twin, waits for a person.
    pub parked: bool,
    /// A deletion on one side waits for a person.
    pub asked: bool,
}

/// The link with that number.
pub(crate) async fn standing(database: impl PgExecutor<'_>, id: i64) -> Result<Option<Standing>, sqlx::Error> {
    sqlx::query_as(
        "SELECT l.id, l.customer_id, l.remote_id, l.state, l.due_seq, l.lease_step, l.spellings,
                l.due_seq > l.done_seq
                OR EXISTS (SELECT FROM intents i WHERE i.link_id = l.id AND i.state = 'open')
                OR EXISTS (SELECT FROM inbox b WHERE b.link_id = l.id AND b.state = 'waiting')
                OR EXISTS (SELECT FROM inbox b WHERE b.gateway = l.gateway AND b.state = 'new'
                              AND b.change ->> 'remote_id' = l.remote_id)
                OR EXISTS (SELECT FROM checkpoints k JOIN events e
                              ON e.aggregate_type = 'customer' AND e.aggregate_id = l.customer_id::text
                              AND (e.position IS NULL OR e.position > k.position)
                           WHERE k.name = 'gateway.' || l.gateway AND k.live) AS in_flight,
                EXISTS (SELECT FROM parked p WHERE p.link_id = l.id AND p.state = 'open'
                               AND p.kind IN ('rejected', 'ambiguous'))
                    AS parked,
                l.asks IS NOT NULL AND l.verdict IS NULL AS asked
         FROM links l WHERE l.id = $1",
    )
    .bind(id)
    .fetch_optional(database)
    .await
}

/// What is known of an object that no link knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub(super) struct Stray {
    /// A link knows it now.
    pub linked: bool,
    /// The inbox holds something of it.
    pub unrouted: bool,
    /// A person knows of it: a second copy that was dismissed, or what may be a twin, parked or dismissed.
    pub parked: bool,
    /// A person is asked about it as a second copy.
    pub asked: bool,
}

pub(super) async fn stray(
    database: impl PgExecutor<'_>,
    gateway: &GatewayName,
    remote_id: &RemoteId,
) -> Result<Stray, sqlx::Error> {
    sqlx::query_as(
        "SELECT EXISTS (SELECT FROM links WHERE gateway = $1 AND remote_id = $2) AS linked,
                EXISTS (SELECT FROM inbox WHERE gateway = $1 AND state = 'new' AND change ->> 'remote_id' = $2) AS unrouted,
                EXISTS (SELECT FROM parked WHERE gateway = $1 AND state IN ('open', 'dismissed')
                        AND (remote_id = $2 OR candidates @> ARRAY[$2])) AS parked,
                EXISTS (SELECT FROM parked WHERE gateway = $1 AND remote_id = $2
                        AND state = 'open' AND kind = 'duplicate') AS asked",
    )
    .bind(gateway.as_str())
    .bind(remote_id.as_str())
    .fetch_one(database)
    .await
}

/// The customer's link, if there is one.
pub(crate) async fn link_of(
    database: impl PgExecutor<'_>,
    gateway: &GatewayName,
    CustomerId(customer): CustomerId,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT id FROM links WHERE gateway = $1 AND customer_id = $2")
        .bind(gateway.as_str())
        .bind(customer)
        .fetch_optional(database)
        .await
}

/// Whether the customer has events that the gateway's projector has yet to read: it will mark the customer due.
pub(super) async fn unread(
    database: impl PgExecutor<'_>,
    gateway: &GatewayName,
    customer: CustomerId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM checkpoints k JOIN events e
                           ON e.aggregate_type = 'customer' AND e.aggregate_id = $2
                           AND (e.position IS NULL OR e.position > k.position)
                        WHERE k.name = 'gateway.' || $1 AND k.live)",
    )
    .bind(gateway.as_str())
    .bind(customer.to_string())
    .fetch_one(database)
    .await
}
