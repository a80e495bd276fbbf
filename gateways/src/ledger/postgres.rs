//! The ledger in PostgreSQL: each step is one transaction that holds the link by its lease token.

use std::time::Duration;

use async_trait::async_trait;
use cqrs_es::Aggregate;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor, PgPool, PgTransaction, Row as _};
use tandem_domain::{Customer, CustomerId, GatewayName, RemoteId};
use tandem_eventlog::zoo::plays;
use tandem_eventlog::{Context, Decided, ExecuteError, Executed, Loaded, Relaxed, Store, checkpoint, crash, signed};
use uuid::Uuid;

use super::{Change, Decision, Draft, Ledger, NotCommitted, Sighting, Step};
use crate::due::projection_name;
use crate::inbox::{self, Row};
use crate::intent::{self, INTENTS, Intent};
use crate::link::{self, HELD, Link, RENEW, Rested};
use crate::rest::SEAL;
use crate::taken::is_taken;
use crate::{
    Direction, GuardConfig, RemoteChange, RunError, copies, deletions, erase, guard, join, parked, twins, zoo,
};

/// One gateway's part of the database.
pub(crate) struct Postgres {
    pub pool: PgPool,
    /// For leases, and for what is looked at again if it is lost: its commits do not wait for the disk.
    pub relaxed: Relaxed,
    pub store: Store<Customer>,
    pub gateway: GatewayName,
    pub lease: Duration,
    pub guard: GuardConfig,
}

/// How long an import waits for the feed before others have a turn.
const FEED_PATIENCE: Duration = Duration::from_secs(2);

#[async_trait]
impl Ledger for Postgres {
    async fn look_around(&self, link: &Link) -> Result<(Option<Intent>, Vec<Row>, Loaded<Customer>), RunError> {
        if let Some(Rested { told, last }) = &link.rested
            && let Some(customer) = self.remembered(link).filter(|customer| customer.last == Some(*last))
        {
            return Ok((None, vec![told.clone()], customer));
        }
        let id = link.customer_id.to_string();
        let open_and_told = async { Ok(open_and_told(self.relaxed.pool(), link).await?) };
        let customer = async { Ok::<_, RunError>(self.store.load_since(&id, link.due_version).await?) };
        let ((open, told), customer) = tokio::try_join!(open_and_told, customer)?;
        Ok((open, told, customer))
    }

    async fn look_again(&self, link: &Link) -> Result<(Vec<Row>, Loaded<Customer>), RunError> {
        let open_and_told = async { Ok(open_and_told(self.relaxed.pool(), link).await?) };
        let ((_, told), customer) = tokio::try_join!(open_and_told, self.load(link.customer_id))?;
        Ok((told, customer))
    }

    async fn load(&self, customer: CustomerId) -> Result<Loaded<Customer>, RunError> {
        Ok(self.store.load(&customer.to_string()).await?)
    }

    async fn intents(&self, link: &Link, keys: &[&str]) -> Result<Vec<Intent>, RunError> {
        Ok(intent::with_keys(&self.pool, link.id, keys).await?)
    }

    async fn hold(&self, link: &Link) -> Result<(), RunError> {
        link::hold(self.relaxed.pool(), link, self.lease).await
    }

    async fn commit(&self, link: &Link, step: Step) -> Result<Option<Executed<Customer>>, NotCommitted> {
        let Step { sighting, decision, changes, deletes, relaxed } = step;
        // The usual end of a run that pushes: one statement, which holds the link itself.
        if let (None, None, None, [Change::Open(intent)]) = (&sighting, &decision, deletes, changes.as_slice()) {
            intent::store_holding(&self.pool, link, self.lease, intent).await?;
            return Ok(None);
        }
        if let Some(decision) = &decision {
            zoo::append_first(self, decision).await?;
        }
        let decided = match decision {
            Some(Decision { customer, command, context }) => {
                Some((customer.decide(command, &context).await.map_err(RunError::from)?, context))
            }
            None => None,
        };
        // The usual end of a run that takes something in: one statement, too. If it stores nothing, the steps below say why.
        if let (Some(seen), Some((decided, context)), None, [], true) =
            (&sighting, &decided, deletes, changes.as_slice(), relaxed)
        {
            match self.see_and_append(link, seen, decided.clone(), context).await {
                Err(error) if is_claimed(&error) => return Err(NotCommitted::Claimed),
                Ok(None) => {}
                stored => return Ok(stored?),
            }
        }
        let mut tx = if relaxed { self.relaxed.pool() } else { &self.pool }.begin().await.map_err(RunError::from)?;
        // The guard first, then the link, as everywhere: whoever resumes a direction has the one and waits for the other.
        if let Some(direction) = deletes {
            tx = self.guard_deletion(tx, link, direction).await?;
        }
        match sighting {
            Some(seen) => {
                let version = decided.as_ref().map(|(decided, _)| decided.version());
                match store_sight(&mut *tx, link, self.lease, &seen, version).await {
                    Err(error) if is_claimed(&error) => {
                        tx.rollback().await.map_err(RunError::from)?;
                        return Err(NotCommitted::Claimed);
                    }
                    held => held?,
                }
            }
            None => link::hold(&mut *tx, link, self.lease).await?,
        }
        let executed = match decided {
            Some((decided, context)) => match self.store.append_in(&mut tx, decided, &context).await {
                Ok(executed) => Some(executed),
                Err(ExecuteError::Conflict) => {
                    tx.rollback().await.map_err(RunError::from)?;
                    return Err(NotCommitted::Conflict);
                }
                Err(error) => return Err(RunError::from(error).into()),
            },
            None => None,
        };
        for change in changes {
            self.write(&mut tx, link, change).await?;
        }
        if executed.is_some() {
            crash::at("merge-written");
        }
        tx.commit().await.map_err(RunError::from)?;
        if let Some(executed) = &executed {
            self.committed(executed);
        }
        Ok(executed)
    }

    async fn is_told(&self) -> Result<bool, RunError> {
        Ok(checkpoint::reached(self.relaxed.pool(), &projection_name(&self.gateway), FEED_PATIENCE).await?)
    }

    async fn twins(&self, email: &str) -> Result<Vec<Uuid>, RunError> {
        Ok(twins::customers(self.relaxed.pool(), &self.gateway, email).await?)
    }

    async fn told(&self, email: &str) -> Result<Vec<(String, Option<CustomerId>)>, RunError> {
        Ok(twins::told(self.relaxed.pool(), &self.gateway, email).await?)
    }

    async fn unlinked(&self, objects: &[&str]) -> Result<Vec<String>, RunError> {
        Ok(twins::unlinked(self.relaxed.pool(), &self.gateway, objects).await?)
    }

    async fn no_longer_ambiguous(&self, link: &Link) -> Result<(), RunError> {
        Ok(twins::supersede(self.relaxed.pool(), &self.gateway, link).await?)
    }

    async fn no_candidate_but_of(&self, link: &Link, candidates: &[String]) -> Result<(), RunError> {
        Ok(twins::no_candidate_but_of(self.relaxed.pool(), &self.gateway, link, candidates).await?)
    }

    async fn unite(&self, link: &Link, customer: Uuid, remote_id: &RemoteId) -> Result<(), RunError> {
        let mut tx = self.pool.begin().await?;
        let pair = join::pair(&mut tx, &self.gateway, customer, remote_id).await?;
        link::hold(&mut *tx, link, self.lease).await?;
        // Linked meanwhile, or about to be: looked at again.
        let pair = pair.ok_or(RunError::Restless)?;
        if !join::join(&mut tx, pair).await? {
            return Err(RunError::Restless);
        }
        Ok(tx.commit().await?)
    }

    fn remembered(&self, link: &Link) -> Option<Loaded<Customer>> {
        self.store.remembered(&link.customer_id.to_string(), link.due_version)
    }

    async fn take_in(
        &self,
        link: &Link,
        seal: i64,
        change: &RemoteChange,
        draft: Draft,
        contested: usize,
    ) -> Result<Option<i64>, RunError> {
        let Draft { base, spellings, decided, context } = draft;
        let statement = take();
        let take = sqlx::query(&statement)
            .bind(Json(&base.profile))
            .bind(base.interval.from())
            .bind(base.interval.until())
            .bind(link.id)
            .bind(seal)
            .bind(self.gateway.as_str())
            .bind(&change.event_id)
            .bind(Json(change))
            .bind(Json(&spellings))
            .bind(signed(decided.version()))
            .bind(i32::try_from(contested).unwrap_or(i32::MAX))
            .bind(plays("at-rest-as-remembered"))
            .bind(inbox::email_key(change));
        let mut lent = self.relaxed.lend().await?;
        let taken = self.store.append_beside(&mut lent, take, decided, &context).await?;
        lent.give_back();
        Ok(taken.map(|(executed, seal)| {
            self.committed(&executed);
            seal
        }))
    }

    async fn last_origin(&self, customer: &str) -> Result<Option<String>, RunError> {
        let last = tandem_eventlog::history(&self.pool, Customer::TYPE, customer).await?.pop();
        Ok(last.map(|event| event.origin))
    }
}

impl Postgres {
    /// Stores a sight of the remote and what it led to. `None`: nothing is stored.
    async fn see_and_append(
        &self,
        link: &Link,
        seen: &Sighting,
        decided: Decided<Customer>,
        context: &Context,
    ) -> Result<Option<Executed<Customer>>, RunError> {
        if crash::planned("merge-written") {
            return Ok(None);
        }
        let mut lent = self.relaxed.lend().await?;
        if decided.is_nothing() {
            let held = store_sight(&mut *lent, link, self.lease, seen, Some(decided.version())).await;
            if matches!(held, Ok(()) | Err(RunError::LeaseLost)) {
                lent.give_back();
            }
            return held.map(|()| Some(decided.executed()));
        }
        let see = see();
        let sight = sight(&see, link, self.lease, seen, Some(decided.version()));
        let stored = self.store.append_beside(&mut lent, sight, decided, context).await?;
        lent.give_back();
        Ok(stored.map(|(executed, _)| {
            self.committed(&executed);
            executed
        }))
    }

    fn committed(&self, executed: &Executed<Customer>) {
        crash::at("merge-committed");
        if !executed.events.is_empty() {
            self.store.committed(executed, self.gateway.as_str());
        }
    }

    /// Counts a deletion in the transaction that makes it so. One too many pauses the direction, and nothing is deleted.
    async fn guard_deletion(
        &self,
        mut tx: PgTransaction<'static>,
        link: &Link,
        direction: Direction,
    ) -> Result<PgTransaction<'static>, RunError> {
        if guard::may_delete(&mut tx, &self.gateway, direction, link.customer_id, self.guard).await? {
            return Ok(tx);
        }
        tx.rollback().await?;
        guard::stop_deleting(&self.pool, &self.gateway, direction, link.customer_id, self.guard).await?;
        Err(RunError::Paused(direction))
    }

    async fn write(&self, tx: &mut PgTransaction<'_>, link: &Link, change: Change) -> Result<(), RunError> {
        match change {
            Change::Finish(rows) => inbox::finish(tx, &rows).await?,
            Change::HandBack(rows) => inbox::hand_back(tx, &rows).await?,
            Change::Checked(keys) => intent::echoes_checked(tx, &keys).await?,
            Change::Close(key, outcome) => intent::close(tx, &key, outcome).await?,
            Change::Spoil(key) => intent::spoil(tx, &key).await?,
            Change::Open(intent) => intent::store(tx, link, &intent).await?,
            Change::Become(state) => link::set_state(tx, link, state).await?,
            Change::Reject { refused, fields, code, reason } => {
                if let Some(refused) = refused {
                    parked::refuse(tx, link, &refused).await?;
                }
                parked::rejected(tx, &self.gateway, link, &fields, code.as_deref(), &reason).await?;
            }
            Change::Unread { refused, reason } => {
                parked::refuse(tx, link, &refused).await?;
                parked::unread(tx, &self.gateway, link, &reason).await?;
            }
            Change::Supersede(kept) => parked::supersede(tx, link, &kept).await?,
            Change::Ask(candidates) => twins::park(tx, &self.gateway, link, &candidates).await?,
            Change::LetGo(remote_id) => join::let_go(tx, &self.gateway, link, &remote_id).await?,
            Change::AskOfDeletion { direction, deleted_at } => {
                deletions::park(tx, &self.gateway, link, direction, deleted_at).await?;
            }
            Change::Hold(rows) => deletions::hold(tx, link, &rows).await?,
            Change::Withdraw => deletions::withdraw(tx, link).await?,
            Change::NothingToPush => parked::no_longer_rejected(tx, link).await?,
            Change::Relabelled => copies::relabelled(tx, link).await?,
            Change::NeverBorn => erase::never_born(tx, link).await?,
            Change::LetCopiesGo => copies::let_go(tx, link).await?,
        }
        Ok(())
    }
}

/// The open call, and what waits in the inbox, in one round trip.
async fn open_and_told(relaxed: &PgPool, link: &Link) -> Result<(Option<Intent>, Vec<Row>), sqlx::Error> {
    let row = sqlx::query(&format!(
        "SELECT told.*, open.* FROM (
             SELECT array_agg(id ORDER BY id) AS ids, array_agg(change ORDER BY id) AS changes
             FROM inbox WHERE link_id = $1 AND state = 'waiting'
         ) AS told LEFT JOIN ({INTENTS} WHERE link_id = $1 AND state = 'open') AS open ON true"
    ))
    .bind(link.id)
    .fetch_one(relaxed)
    .await?;
    let open = match row.try_get::<Option<&str>, _>("key")? {
        Some(_) => Some(Intent::from_row(&row)?),
        None => None,
    };
    let ids: Vec<i64> = row.try_get::<Option<_>, _>("ids")?.unwrap_or_default();
    let changes: Vec<Json<RemoteChange>> = row.try_get::<Option<_>, _>("changes")?.unwrap_or_default();
    Ok((open, ids.into_iter().zip(changes).map(|(id, Json(change))| Row { id, change }).collect()))
}

/// Stores what the remote was seen to hold, and holds the link as [`link::hold`] does.
///
/// # Errors
/// [`RunError::LeaseLost`] if somebody else has it.
async fn store_sight(
    database: impl PgExecutor<'_>,
    link: &Link,
    lease: Duration,
    seen: &Sighting,
    version: Option<u64>,
) -> Result<(), RunError> {
    let statement = format!("WITH follows AS (SELECT), {} SELECT FROM held", see());
    let held = sight(&statement, link, lease, seen, version).fetch_optional(database).await?;
    if held.is_some() { Ok(()) } else { Err(RunError::LeaseLost) }
}

/// Whether the object is linked to another customer.
fn is_claimed(error: &RunError) -> bool {
    matches!(error, RunError::Database(error) if is_taken(error))
}

/// What a sight stores, with the parameters of [`sight`]; `held` has a row if the lease is ours. Nothing, unless `follows` has
/// one: see [`Store::append_beside`].
fn see() -> String {
    format!(
        "held AS (
             UPDATE links SET {RENEW}, remote_id = $6, state = $7,
                              spellings = CASE WHEN erased THEN '{{}}' ELSE $8 END,
                              base = CASE WHEN erased AND COALESCE($9, base) IS NOT NULL THEN '{{}}' ELSE COALESCE($9, base) END,
                              base_from = CASE WHEN $9::jsonb IS NULL THEN base_from ELSE $10 END,
                              base_until = CASE WHEN $9::jsonb IS NULL THEN base_until ELSE $11 END,
                              look = look AND $12, due_version = greatest(due_version, $13)
             WHERE {HELD} AND EXISTS (SELECT FROM follows) RETURNING id AS answer
         ), finished AS (
             UPDATE inbox SET state = 'done' FROM held WHERE inbox.id = ANY($14)
         )"
    )
}

/// What takes in what was told of a link at rest, as [`see`] does under a lease. Whoever holds the link is not waited for.
fn take() -> String {
    format!(
        "known AS MATERIALIZED (
             SELECT id FROM links WHERE id = $4 AND ({SEAL} = $5 OR $12) AND EXISTS (SELECT FROM follows)
                                    AND NOT EXISTS (SELECT FROM pauses WHERE gateway = $6)
             FOR NO KEY UPDATE SKIP LOCKED
         ), stored AS (
             INSERT INTO inbox (gateway, event_id, change, email_key, state, link_id)
             SELECT $6, $7, $8, $13, 'done', id FROM known
             ON CONFLICT (gateway, event_id) DO NOTHING RETURNING link_id
         ), held AS (
             UPDATE links SET base = $1, base_from = $2, base_until = $3, spellings = $9,
                              due_version = greatest(due_version, $10), lease_step = lease_step + 1,
                              contested = $11, synced_at = clock_timestamp()
             FROM stored WHERE id = link_id RETURNING {SEAL} AS answer
         )"
    )
}

/// A statement of [`see`], with a sight's values. The customer at the version that came of it is compared by this very run: the
/// feed need not mark the link due for it again.
fn sight<'q>(
    statement: &'q str,
    link: &Link,
    lease: Duration,
    seen: &'q Sighting,
    version: Option<u64>,
) -> Query<'q, sqlx::Postgres, PgArguments> {
    let (base, interval) = match &seen.base {
        Some((profile, interval)) => (Some(profile), *interval),
        None => (None, None),
    };
    link::holding(statement, link, lease)
        .bind(seen.remote_id.as_str())
        .bind(seen.state.as_str())
        .bind(Json(&seen.spellings))
        .bind(base.map(Json))
        .bind(interval.map(|interval| interval.from()))
        .bind(interval.map(|interval| interval.until()))
        .bind(!seen.looked)
        .bind(version.map(signed))
        .bind(&seen.told_by)
}
