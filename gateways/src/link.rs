//! A link: one customer at one gateway, and the lease under which one worker at a time brings it in step.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor, PgPool, PgTransaction, Row};
use tandem_domain::{CustomerId, GatewayName, Interval, Profile, RemoteId, Spellings};
use tandem_eventlog::zoo::plays;
use uuid::Uuid;

use crate::RunError;
use crate::deletions::Asked;
use crate::inbox::Row as Told;
use crate::ledger::Sighting;
use crate::parked::Refused;
use crate::pause::Paused;

/// One customer at one gateway, as it was when it was leased, released, or last written.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub id: i64,
    pub customer_id: CustomerId,
    pub remote_id: Option<RemoteId>,
    pub state: LinkState,
    pub base: Option<Base>,
    pub spellings: Spellings,
    pub refused: Refused,
    /// The remote must be asked, whatever the inbox says.
    pub look: bool,
    /// The object carries the id of a customer that is dead, and is to be told ours.
    pub relabel: bool,
    /// A person said that it has no twin on the other side.
    pub apart: bool,
    /// It was parked because it may have one.
    pub ambiguous: bool,
    /// What is told of it is stored without values.
    pub erased: bool,
    /// The deletion that a person is, or was, asked about.
    pub asked: Option<Asked>,
    pub due_seq: i64,
    /// How long it had been due when it was read.
    pub due_for: Duration,
    /// Nobody in particular waits for what it is due for.
    pub bulk: bool,
    /// Up to which version of the customer it was marked due.
    pub due_version: u64,
    pub attempts: i32,
    /// What of its gateway stood still when it was read.
    pub paused: Paused,
    /// Nobody's, which is nil, where it is not leased.
    pub token: Uuid,
    /// How many steps were stored of this link.
    pub step: i64,
    /// If it was leased at rest.
    pub rested: Option<Rested>,
}

/// What leased a link at rest: all that came before was taken in, and no call is open.
#[derive(Clone, Debug)]
pub(crate) struct Rested {
    /// What came, and is all that waits.
    pub told: Told,
    /// The customer's last event.
    pub last: Uuid,
}

impl Link {
    /// From now on it says what the remote was seen to hold, and that the customer at that version is compared.
    pub fn saw(&mut self, seen: &Sighting, version: Option<u64>) {
        self.remote_id = Some(seen.remote_id.clone());
        self.state = seen.state;
        self.spellings = seen.spellings.clone();
        self.look &= !seen.looked;
        self.due_version = self.due_version.max(version.unwrap_or_default());
        if let Some((profile, Some(interval))) = &seen.base {
            self.base = Some(Base { profile: profile.clone(), interval: *interval });
        }
    }
}

/// What the remote was last seen to hold, and when that was so.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub profile: Profile,
    pub interval: Interval,
}

/// Whether a link is still kept in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    Active,
    Deleted,
    Unlinked,
}

impl LinkState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deleted => "deleted",
            Self::Unlinked => "unlinked",
        }
    }
}

impl FromRow<'_, PgRow> for Link {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let base = match row.try_get::<Option<Json<Profile>>, _>("base")? {
            Some(Json(profile)) => {
                let interval = Interval::stored(row.try_get("base_from")?, row.try_get("base_until")?);
                Some(Base { profile, interval })
            }
            None => None,
        };
        let state = match row.try_get::<&str, _>("state")? {
            "active" => LinkState::Active,
            "deleted" => LinkState::Deleted,
            "unlinked" => LinkState::Unlinked,
            other => return Err(sqlx::Error::Decode(format!("unknown link state {other}").into())),
        };
        Ok(Self {
            id: row.try_get("id")?,
            customer_id: CustomerId(row.try_get("customer_id")?),
            remote_id: row.try_get::<Option<String>, _>("remote_id")?.map(RemoteId::from),
            state,
            base,
            spellings: row.try_get::<Json<Spellings>, _>("spellings")?.0,
            refused: row.try_get::<Json<Refused>, _>("refused")?.0,
            look: row.try_get("look")?,
            relabel: row.try_get("relabel")?,
            apart: row.try_get("apart")?,
            ambiguous: row.try_get("ambiguous")?,
            erased: row.try_get("erased")?,
            asked: Asked::read(row)?,
            due_seq: row.try_get("due_seq")?,
            due_for: Duration::try_from_secs_f64(row.try_get("due_for")?).unwrap_or_default(),
            bulk: row.try_get("bulk")?,
            due_version: u64::try_from(row.try_get::<i64, _>("due_version")?).unwrap_or_default(),
            attempts: row.try_get("attempts")?,
            paused: Paused { inbound: row.try_get("inbound_paused")?, outbound: row.try_get("outbound_paused")? },
            token: row.try_get::<Option<Uuid>, _>("lease_token")?.unwrap_or_default(),
            step: row.try_get("lease_step")?,
            rested: None,
        })
    }
}

/// How links are leased.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// For which process.
    pub holder: i32,
    /// For how long.
    pub duration: Duration,
    /// At most so many.
    pub most: usize,
    /// And of these at most so many for which nobody waits.
    pub most_in_bulk: usize,
}

/// In a condition on links: nobody has it, and it waits for no time. One that waits for a pause to end waits no more once it is
/// marked due again.
pub(crate) const READY: &str =
    "(not_before <= statement_timestamp() AND (lease_token IS NULL OR lease_until < statement_timestamp()))";

/// What an `UPDATE links SET` does to lease those that are `free`, for `$4` and as many seconds as `$5`.
pub(crate) const LEASE: &str = "
    lease_token = CASE WHEN free THEN gen_random_uuid() ELSE lease_token END,
    lease_holder = CASE WHEN free THEN $4 ELSE lease_holder END,
    leased_at = CASE WHEN free THEN clock_timestamp() ELSE leased_at END,
    lease_until = CASE WHEN free THEN clock_timestamp() + make_interval(secs => $5) ELSE lease_until END";

/// What [`Link`] is read from.
pub(crate) const LEASED: &str = "
    links.*,
    EXISTS (SELECT FROM pauses WHERE gateway = links.gateway AND direction = 'inbound') AS inbound_paused,
    EXISTS (SELECT FROM pauses WHERE gateway = links.gateway AND direction = 'outbound') AS outbound_paused,
    greatest(0, extract(epoch FROM clock_timestamp() - due_since))::float8 AS due_for";

/// Leases links that are due: those first for which somebody waits, and among these the longest waiting first. Times are the
/// database's, whatever this machine's clock says.
pub(crate) async fn lease(relaxed: &PgPool, gateway: &GatewayName, terms: Terms) -> Result<Vec<Link>, sqlx::Error> {
    let due = format!("gateway = $1 AND due_seq > done_seq AND due_seq > paused_seq AND {READY}");
    sqlx::query_as(&format!(
        // An array, and no join, which may be planned as a scan of all links.
        "WITH live AS (
             SELECT id FROM links WHERE {due} AND NOT bulk ORDER BY not_before LIMIT $2 FOR UPDATE SKIP LOCKED
         ), others AS (
             SELECT id FROM links WHERE {due} AND bulk ORDER BY not_before
             LIMIT least($5, $2 - (SELECT count(*) FROM live)) FOR UPDATE SKIP LOCKED
         )
         UPDATE links SET lease_token = gen_random_uuid(), lease_holder = $3, leased_at = clock_timestamp(),
                          lease_until = clock_timestamp() + make_interval(secs => $4)
         WHERE id = ANY(ARRAY(SELECT id FROM live UNION ALL SELECT id FROM others))
         RETURNING {LEASED}"
    ))
    .bind(gateway.as_str())
    .bind(i64::try_from(terms.most).unwrap_or(i64::MAX))
    .bind(terms.holder)
    .bind(terms.duration.as_secs_f64())
    .bind(i64::try_from(terms.most_in_bulk).unwrap_or(i64::MAX))
    .fetch_all(relaxed)
    .await
}

/// Frees what is leased by a process that is no longer there, and what is leased for this one without its `running` it: a
/// kill or a lost reply costs a moment and not a lease. Should somebody work on it after all, their writes are refused by
/// their token.
pub(crate) async fn free_orphans(
    database: impl PgExecutor<'_>,
    holder: i32,
    running: &[Uuid],
) -> Result<u64, sqlx::Error> {
    let freed = sqlx::query(&format!(
        "WITH orphans AS (
             SELECT id FROM links
             WHERE lease_token IS NOT NULL AND CASE lease_holder
                 -- Not those of this moment: the reply that tells us of them may be on its way.
                 WHEN $2 THEN lease_token <> ALL($3) AND leased_at < statement_timestamp() - interval '2 s'
                 ELSE NOT EXISTS (
                     SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = $1::bigint::oid
                        AND objid = (lease_holder::bigint & 4294967295)::oid
                        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
                 END
             ORDER BY customer_id FOR NO KEY UPDATE
         )
         UPDATE links SET {FREE}
         FROM orphans WHERE links.id = orphans.id"
    ))
    .bind(i64::from(HOLDERS))
    .bind(holder)
    .bind(running)
    .execute(database)
    .await?;
    Ok(freed.rows_affected())
}

/// The class of the session locks by which processes show that they are alive. Any constant does ("lea").
const HOLDERS: i32 = 0x6c65_6100;

/// How many processes show now that they are there.
///
/// # Errors
/// The database is unavailable.
pub async fn processes(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = $1::bigint::oid
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .bind(i64::from(HOLDERS))
    .fetch_one(pool)
    .await
}

/// Shows for as long as this connection lives that the holder is there.
pub(crate) async fn announce(connection: impl PgExecutor<'_>, holder: i32) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_lock($1, $2)").bind(HOLDERS).bind(holder).execute(connection).await?;
    Ok(())
}

/// What an `UPDATE links SET` does to renew a lease for so many seconds, and to count a step.
pub(crate) const RENEW: &str = "
    lease_until = clock_timestamp() + make_interval(secs => $1), lease_step = lease_step + 1";

/// In a condition on links: the lease is still that of this token, and no step of it is lost. The zoo's variant asks nobody.
pub(crate) const HELD: &str = "(id = $2 AND (lease_token = $3 AND lease_step = $4 OR $5))";

/// A statement that begins with what [`RENEW`] and [`HELD`] need.
pub(crate) fn holding<'q>(statement: &'q str, link: &Link, lease: Duration) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(statement)
        .bind(lease.as_secs_f64())
        .bind(link.id)
        .bind(link.token)
        .bind(link.step)
        .bind(plays("unfenced-writes"))
}

/// Renews the lease, if it is still ours, counts a step, and locks the link for the rest of a transaction.
///
/// # Errors
/// [`RunError::LeaseLost`] if somebody else has it.
pub(crate) async fn hold(database: impl PgExecutor<'_>, link: &Link, lease: Duration) -> Result<(), RunError> {
    let statement = format!("UPDATE links SET {RENEW} WHERE {HELD}");
    let held = holding(&statement, link, lease).execute(database).await?;
    if held.rows_affected() == 1 { Ok(()) } else { Err(RunError::LeaseLost) }
}

/// Says whether the link is still kept in step.
pub(crate) async fn set_state(tx: &mut PgTransaction<'_>, link: &Link, state: LinkState) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE links SET state = $2 WHERE id = $1")
        .bind(link.id)
        .bind(state.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends a run that must be tried again after `wait`.
pub(crate) async fn postpone(pool: &PgPool, link: &Link, wait: Duration, error: &str) -> Result<(), sqlx::Error> {
    sqlx::query(&format!(
        "UPDATE links SET not_before = clock_timestamp() + make_interval(secs => $3), attempts = attempts + 1,
                          last_error = $4, {FREE}
         WHERE id = $1 AND lease_token = $2"
    ))
    .bind(link.id)
    .bind(link.token)
    .bind(wait.as_secs_f64())
    .bind(error)
    .execute(pool)
    .await?;
    Ok(())
}

/// What an `UPDATE links SET` does to end a lease.
pub(crate) const FREE: &str = "lease_token = NULL, lease_holder = NULL, lease_until = NULL";

/// Whether somebody waits for what a link is marked due for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// A person, or another system, has just changed something.
    Live,
    /// Nobody in particular: it is one of many that a first run, a repair, or a resume has to look at.
    Bulk,
}

/// What part of all turns, and of the calls a second, may go to what nobody waits for.
pub(crate) const IN_BULK: f64 = 0.75;

/// What an `UPDATE links SET` does to mark one due: with [`Priority::Bulk`] where that SQL says so, but whoever waits for it already
/// goes on waiting.
pub(crate) fn due(bulk: &str) -> String {
    format!(
        "due_seq = links.due_seq + 1, bulk = {bulk} AND (links.bulk OR links.due_seq <= links.done_seq),
         due_since = CASE WHEN links.due_seq > links.done_seq AND ({bulk} OR NOT links.bulk) THEN links.due_since
                          ELSE clock_timestamp() END"
    )
}

/// The same with [`Priority::Live`].
pub(crate) fn due_live() -> String {
    due("false")
}

/// Marks links due. Locked in one order everywhere, that of their customers, so that no two transactions wait for each
/// other; and so that whoever only names a link, from another table, is not waited for.
pub(crate) async fn mark_due(tx: &mut PgTransaction<'_>, ids: &[i64], priority: Priority) -> Result<(), sqlx::Error> {
    sqlx::query(&format!(
        "UPDATE links SET {}
         WHERE id = ANY(ARRAY(SELECT id FROM links WHERE id = ANY($1) ORDER BY customer_id FOR NO KEY UPDATE))",
        due("$2")
    ))
    .bind(ids)
    .bind(priority == Priority::Bulk)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Locks links as [`mark_due`] does, before the first of them is changed.
pub(crate) async fn lock(tx: &mut PgTransaction<'_>, ids: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT FROM links WHERE id = ANY($1) ORDER BY customer_id FOR NO KEY UPDATE")
        .bind(ids)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// How many links one statement hurries.
const HURRIED: i64 = 500;

/// Ends the waiting of what failed before, some links at a time.
pub(crate) async fn hurry(pool: &PgPool, gateway: &GatewayName) -> Result<(), sqlx::Error> {
    // What fails anew meanwhile is let wait.
    let began: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(pool).await?;
    let mut more = true;
    while more {
        let hurried = sqlx::query(
            "UPDATE links SET not_before = clock_timestamp()
             WHERE id = ANY(ARRAY(
                 SELECT id FROM links WHERE id = ANY(ARRAY(
                     SELECT id FROM links WHERE gateway = $1 AND due_seq > done_seq AND due_seq > paused_seq
                         AND bulk = ANY('{false,true}') AND not_before > statement_timestamp()
                         AND (leased_at IS NULL OR leased_at < $3) LIMIT $2))
                 ORDER BY customer_id FOR NO KEY UPDATE))",
        )
        .bind(gateway.as_str())
        .bind(HURRIED)
        .bind(began)
        .execute(pool)
        .await?;
        more = hurried.rows_affected() == HURRIED as u64;
    }
    Ok(())
}

/// How long a link waits after its `attempts`th failure: from an eighth of a second to half a minute, with jitter.
/// No longer: the gateway's pacing keeps many waiting links from hurting it, and people wait for it to come back.
pub(crate) fn backoff(attempts: i32, jitter: f64) -> Duration {
    let full = (0.25 * f64::from(1 << attempts.clamp(0, 7))).min(30.0);
    Duration::from_secs_f64(full * (0.5 + jitter / 2.0))
}
