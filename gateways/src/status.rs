//! How links and gateways stand, for people and for alerts.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};
use tandem_domain::CustomerId;

/// One customer at one gateway, for people.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct LinkStatus {
    /// Which gateway.
    pub gateway: String,
    /// What it calls the customer; none until it is created there.
    pub remote_id: Option<String>,
    /// `active`, `deleted` or `unlinked`.
    pub state: String,
    /// Nothing waits to be told or looked at, or for a person.
    pub in_sync: bool,
    /// Since when it is in sync, or is not.
    pub since: DateTime<Utc>,
    /// What went wrong last, if it has not gone right since.
    pub last_error: Option<String>,
    /// What waits for a person, by its number.
    pub parked: Option<i64>,
    /// On how many fields both sides differ until a person decides.
    pub contested: i32,
}

/// One gateway's state, for people and for alerts.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct GatewayStatus {
    /// Its name.
    pub name: String,
    /// Links that wait or are worked on.
    pub due: i64,
    /// Of these, those for which somebody waits: a person's edit, a webhook, a retry by hand.
    pub due_live: i64,
    /// And those for which nobody in particular does: a first run, a repair, a resume.
    pub due_bulk: i64,
    /// How long the longest of them has waited, of those that do not wait for a resume.
    pub oldest_due_seconds: f64,
    /// And of those for which somebody waits.
    pub oldest_live_seconds: f64,
    /// And of the others.
    pub oldest_bulk_seconds: f64,
    /// How long the others will take, at the speed of the last minute or so; `None` while they do not become fewer.
    pub bulk_seconds_left: Option<f64>,
    /// Webhooks whose link is not known yet.
    pub inbox: i64,
    /// What waits for a person.
    pub parked: i64,
    /// Links with fields on which a person shall decide.
    pub contested: i64,
    /// The directions that are paused: `inbound`, `outbound`.
    pub paused: Vec<String>,
    /// Signed webhooks that were of another account or mode, as all processes have counted them.
    pub foreign: i64,
    /// When the last of them came.
    pub foreign_at: Option<DateTime<Utc>>,
    /// Whose they were: `another_account`, `platform`, `live_mode`, `test_mode`.
    pub foreign_whose: Vec<String>,
    /// When its list of changes was last read.
    pub swept_at: Option<DateTime<Utc>>,
    /// When both sides were compared last, to the end.
    pub verified_at: Option<DateTime<Utc>>,
    /// How many were compared then.
    pub verify_compared: i64,
    /// How many of them differed.
    pub verify_drift: i64,
}

/// The gateways that the database knows of: those with links, sweeps or pauses, whether they are switched on or not.
///
/// # Errors
/// The database is unavailable.
pub async fn known(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        // From one name to the next in the index, past all the links between them.
        "WITH RECURSIVE linked (name) AS (
             SELECT min(gateway) FROM links
             UNION ALL
             SELECT (SELECT min(gateway) FROM links WHERE gateway > linked.name) FROM linked WHERE linked.name IS NOT NULL)
         SELECT name FROM linked WHERE name IS NOT NULL
         UNION SELECT gateway FROM sweeps UNION SELECT gateway FROM pauses ORDER BY 1",
    )
    .fetch_all(pool)
    .await
}

/// Up to so many rows of a kind are counted each time somebody asks. Of more links that are due, [`backlog::count`] keeps about how
/// many they are; of more of the others it is told that there are so many.
const COUNTED: i64 = 2000;

/// Of the gateway `g`: how many links are due, for which somebody waits or nobody, and since when the first of them.
fn due(bulk: &str) -> String {
    format!(
        "(SELECT CASE WHEN counted.due < $2 THEN counted.due ELSE greatest(counted.due, kept.due) END AS due,
                 least(counted.since, kept.due_since) AS since
          FROM first_due(g.name, {bulk}, $2) AS counted
          LEFT JOIN (SELECT due, due_since FROM backlogs WHERE gateway = g.name AND bulk = {bulk}
                         AND counted_at > statement_timestamp() - interval '10 minutes') AS kept ON counted.due >= $2)"
    )
}

/// How these gateways stand, by what the database says.
///
/// # Errors
/// The database is unavailable.
pub async fn status(pool: &PgPool, names: &[&str]) -> Result<Vec<GatewayStatus>, sqlx::Error> {
    let (live, others) = (due("false"), due("true"));
    sqlx::query_as(&format!(
        "SELECT g.name,
                live.due + others.due
                    + (SELECT count(*) FROM (SELECT FROM links WHERE gateway = g.name AND paused_seq >= 0 AND due_seq > done_seq
                                                 AND due_seq <= paused_seq LIMIT $2) AS one) AS due,
                live.due AS due_live, others.due AS due_bulk,
                COALESCE(extract(epoch FROM clock_timestamp() - least(live.since, others.since)), 0)::float8
                    AS oldest_due_seconds,
                COALESCE(extract(epoch FROM clock_timestamp() - live.since), 0)::float8 AS oldest_live_seconds,
                COALESCE(extract(epoch FROM clock_timestamp() - others.since), 0)::float8 AS oldest_bulk_seconds,
                (SELECT others.due / drained FROM backlogs
                 WHERE gateway = g.name AND bulk AND drained > 0 AND others.due > 0
                   AND counted_at > statement_timestamp() - interval '10 minutes')::float8 AS bulk_seconds_left,
                (SELECT count(*) FROM (SELECT FROM inbox WHERE gateway = g.name AND state = 'new' LIMIT $2) AS one) AS inbox,
                (SELECT count(*) FROM (SELECT FROM parked WHERE gateway = g.name AND state = 'open' LIMIT $2) AS one) AS parked,
                (SELECT count(*) FROM (SELECT FROM links WHERE gateway = g.name AND contested > 0 LIMIT $2) AS one) AS contested,
                ARRAY(SELECT direction FROM pauses WHERE gateway = g.name ORDER BY direction) AS paused,
                COALESCE((SELECT sum(events) FROM foreign_webhooks WHERE gateway = g.name), 0)::bigint AS foreign,
                (SELECT max(last_at) FROM foreign_webhooks WHERE gateway = g.name) AS foreign_at,
                ARRAY(SELECT whose FROM foreign_webhooks WHERE gateway = g.name ORDER BY whose) AS foreign_whose,
                (SELECT swept_at FROM sweeps WHERE gateway = g.name) AS swept_at,
                v.ended_at AS verified_at, COALESCE(v.compared, 0) AS verify_compared,
                COALESCE(v.drift, 0) AS verify_drift
         FROM unnest($1::text[]) AS g (name)
         CROSS JOIN LATERAL {live} AS live CROSS JOIN LATERAL {others} AS others
         LEFT JOIN LATERAL (SELECT ended_at, compared, drift FROM surveys
                            WHERE gateway = g.name AND kind = 'verify' AND ended_at IS NOT NULL
                            ORDER BY ended_at DESC LIMIT 1) v ON true
         ORDER BY g.name"
    ))
    .bind(names)
    .bind(COUNTED)
    .fetch_all(pool)
    .await
}

/// How a customer stands at each gateway that has heard of it.
pub(crate) async fn links(pool: &PgPool, CustomerId(customer): CustomerId) -> Result<Vec<LinkStatus>, sqlx::Error> {
    sqlx::query_as(
        "SELECT l.gateway, l.remote_id, l.state, l.last_error, p.id AS parked, l.contested,
            l.due_seq <= l.done_seq AND p.id IS NULL AND l.contested = 0 AS in_sync,
            CASE WHEN p.id IS NOT NULL THEN p.parked_at ELSE l.due_since END AS since
     FROM links l LEFT JOIN LATERAL (
         SELECT id, parked_at FROM parked
         WHERE link_id = l.id AND state = 'open' AND kind IN ('rejected', 'ambiguous', 'deletion') ORDER BY id LIMIT 1) p ON true
     WHERE l.customer_id = $1 ORDER BY l.gateway",
    )
    .bind(customer)
    .fetch_all(pool)
    .await
}
