//! Apply: what a plan says is carried out, item by item, unless a side has changed since.
//!
//! An item is carried out and marked as done in one transaction: stopped or killed, it goes on where it was. What it makes
//! is due links and inbox rows; the reconciler does the rest by its usual steps.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{PgPool, PgTransaction};
use tandem_domain::{Customer, CustomerId, Profile, RemoteId};
use tracing::warn;

use super::items::{Action, Item};
use crate::adopt::{Adopted, adopt, create_there};
use crate::copies::DEAD;
use crate::inbox::email_key;
use crate::survey::patiently;
use crate::verify::created;
use crate::{CallError, Object, Progress, Seen, Sides, SurveyError, Tell};

/// How a plan is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apply {
    /// Which of its items.
    pub only: BTreeSet<Action>,
    /// How many of them at most.
    pub limit: Option<u64>,
    /// Which side's fields stay where a pair differs. Without it such pairs are left.
    pub fields_from: Option<FieldsFrom>,
}

/// Whose fields stay where a pair that is linked differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldsFrom {
    /// The catalog's: the gateway's are overwritten, and those that the catalog lacks are unset there.
    Catalog,
    /// The gateway's: the catalog's are overwritten, and those that the gateway lacks are unset here.
    Gateway,
}

/// What became of a plan's items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Carried out.
    pub done: u64,
    /// Told to `tandem serve`, which parks each as a `duplicate` of a living customer's object.
    pub asked: u64,
    /// Left for good, because a side had changed since the plan: plan again.
    pub changed: u64,
    /// Left, because both sides differ and nobody said whose fields stay.
    pub differ: u64,
    /// Left, because the customer is just being created there: apply again.
    pub busy: u64,
}

/// How many items are carried out at once. The gateway's pacing says how fast.
const AT_ONCE: usize = 16;

/// Carries out a plan. Repeating it carries out nothing twice.
///
/// # Errors
/// [`SurveyError`]; what was done is kept.
pub async fn apply(sides: &Sides, plan: i64, how: &Apply, tell: Tell<'_>) -> Result<Applied, SurveyError> {
    let (mut applied, mut after) = (Applied::default(), 0);
    loop {
        let left = how.limit.map_or(u64::MAX, |limit| limit.saturating_sub(applied.done + applied.asked));
        let items = planned(&sides.pool, plan, how, after, left.min(AT_ONCE as u64)).await?;
        let Some(last) = items.last() else { return Ok(applied) };
        after = last.n;
        let one = |item: Item| async move { one(sides, plan, how, &item).await };
        let ends: Vec<End> = futures::stream::iter(items).map(one).buffered(AT_ONCE).try_collect().await?;
        for end in ends {
            let counted = match end {
                End::Done => &mut applied.done,
                End::Asked => &mut applied.asked,
                End::Changed => &mut applied.changed,
                End::Differs => &mut applied.differ,
                End::Busy => &mut applied.busy,
            };
            *counted += 1;
        }
        let looked_at = applied.done + applied.asked + applied.changed + applied.differ + applied.busy;
        tell(Progress { looked_at, ..Progress::default() });
    }
}

async fn planned(pool: &PgPool, plan: i64, how: &Apply, after: i64, limit: u64) -> Result<Vec<Item>, sqlx::Error> {
    let only: Vec<&str> = how.only.iter().map(|action| action.as_str()).collect();
    sqlx::query_as(
        "SELECT n, action, customer_id, remote_id, matched_by, reason, state, here, there FROM plan_items
         WHERE plan_id = $1 AND n > $2 AND state = 'planned' AND action = ANY($3) ORDER BY n LIMIT $4",
    )
    .bind(plan)
    .bind(after)
    .bind(only)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await
}

enum End {
    Done,
    Asked,
    Changed,
    Differs,
    Busy,
}

async fn one(sides: &Sides, plan: i64, how: &Apply, item: &Item) -> Result<End, SurveyError> {
    let pair = item.action == Action::Link && item.here != item.there;
    if pair && how.fields_from.is_none() {
        return Ok(End::Differs);
    }
    // Both sides are read before anything is written: each must be as it was planned.
    let seen = match (&item.there, item.remote()) {
        (Some(there), Some(remote_id)) => match retrieve(sides, &remote_id).await? {
            Some(seen) if profile_of(&seen) == Some(there) => Some(seen),
            _ => return changed(&sides.pool, plan, item).await,
        },
        _ => None,
    };
    if let (Some(here), Some(customer)) = (&item.here, item.customer())
        && !is_still(sides, customer, here).await?
    {
        return changed(&sides.pool, plan, item).await;
    }
    let mut tx = sides.pool.begin().await?;
    if !still_planned(&mut tx, plan, item.n).await? {
        return Ok(End::Done);
    }
    match carry_out(&mut tx, sides, plan, how, item, seen.as_ref()).await? {
        End::Changed => {
            tx.rollback().await?;
            changed(&sides.pool, plan, item).await
        }
        end @ (End::Done | End::Asked) => {
            mark(&mut tx, plan, item.n, "done").await?;
            tx.commit().await?;
            Ok(end)
        }
        end @ (End::Differs | End::Busy) => Ok(end),
    }
}

async fn carry_out(
    tx: &mut PgTransaction<'_>,
    sides: &Sides,
    plan: i64,
    how: &Apply,
    item: &Item,
    seen: Option<&Seen>,
) -> Result<End, SurveyError> {
    let gateway = sides.gateway.name();
    match (&item.here, &item.there, item.customer(), seen) {
        (Some(here), Some(there), Some(CustomerId(customer)), Some(seen)) => {
            // The side that differs from what was "last seen" is taken for the one that was edited: its fields win.
            let base = match how.fields_from {
                Some(FieldsFrom::Gateway) => here,
                Some(FieldsFrom::Catalog) | None => there,
            };
            let Some(remote_id) = item.remote_id.as_deref() else { return Ok(End::Changed) };
            Ok(match adopt(tx, gateway, customer, remote_id, Some((base, seen.interval))).await? {
                Adopted::Linked => End::Done,
                Adopted::Busy => End::Busy,
                Adopted::Taken => End::Changed,
            })
        }
        (Some(_), None, Some(CustomerId(customer)), _) => {
            let marked = create_there(tx, gateway, customer).await?;
            Ok(if marked { End::Done } else { End::Changed })
        }
        (_, Some(_), _, Some(seen)) => import(tx, sides, plan, item.action, seen).await,
        _ => Ok(End::Changed),
    }
}

/// As if the gateway had told of its creation just now.
async fn import(
    tx: &mut PgTransaction<'_>,
    sides: &Sides,
    plan: i64,
    action: Action,
    seen: &Seen,
) -> Result<End, SurveyError> {
    let Some(change) = created(format!("plan-{plan}"), seen) else { return Ok(End::Changed) };
    // What will be parked, because the customer whose id it carries is not dead, is not said to be imported.
    let stored: Option<bool> = sqlx::query_scalar(&format!(
        "INSERT INTO inbox (gateway, event_id, change, email_key, bulk)
         SELECT $1, $2, $3, $5, true WHERE NOT EXISTS (SELECT FROM links WHERE gateway = $1 AND remote_id = $4)
             AND NOT EXISTS (SELECT FROM links l WHERE l.gateway = $1 AND l.customer_id = $6 AND NOT {DEAD} AND $7)
         ON CONFLICT (gateway, event_id) DO NOTHING
         RETURNING EXISTS (SELECT FROM links l WHERE l.gateway = $1 AND l.customer_id = $6 AND NOT {DEAD})"
    ))
    .bind(sides.gateway.name().as_str())
    .bind(&change.event_id)
    .bind(Json(&change))
    .bind(change.remote_id.as_str())
    .bind(email_key(&change))
    .bind(change.customer.map(|CustomerId(id)| id))
    .bind(action == Action::CreateHere)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(match stored {
        Some(false) => End::Done,
        Some(true) => End::Asked,
        None => End::Changed,
    })
}

async fn retrieve(sides: &Sides, remote_id: &RemoteId) -> Result<Option<Seen>, SurveyError> {
    match patiently(|| sides.gateway.retrieve(remote_id)).await {
        Ok(seen) => Ok(Some(seen)),
        Err(CallError::Missing) => Ok(None),
        // One such object stops no other item; this one is left.
        Err(CallError::Rejected { reason, .. }) => {
            warn!(remote.id = %remote_id, reason, "an object of the plan cannot be read");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn profile_of(seen: &Seen) -> Option<&Profile> {
    match &seen.object {
        Object::Present { profile, .. } => Some(profile),
        Object::Gone { .. } => None,
    }
}

async fn is_still(sides: &Sides, customer: CustomerId, planned: &Profile) -> Result<bool, SurveyError> {
    let customer = sides.store.load(&customer.to_string()).await?.aggregate;
    Ok(matches!(&customer, Customer::Active { profile, .. } if profile.equals(planned)))
}

/// Whoever applies the same plan elsewhere waits here.
async fn still_planned(tx: &mut PgTransaction<'_>, plan: i64, n: i64) -> Result<bool, sqlx::Error> {
    let state: String = sqlx::query_scalar("SELECT state FROM plan_items WHERE plan_id = $1 AND n = $2 FOR UPDATE")
        .bind(plan)
        .bind(n)
        .fetch_one(&mut **tx)
        .await?;
    Ok(state == "planned")
}

async fn changed(pool: &PgPool, plan: i64, item: &Item) -> Result<End, SurveyError> {
    let mut tx = pool.begin().await?;
    if still_planned(&mut tx, plan, item.n).await? {
        mark(&mut tx, plan, item.n, "changed").await?;
    }
    tx.commit().await?;
    Ok(End::Changed)
}

async fn mark(tx: &mut PgTransaction<'_>, plan: i64, n: i64, state: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE plan_items SET state = $3, applied_at = clock_timestamp() WHERE plan_id = $1 AND n = $2")
        .bind(plan)
        .bind(n)
        .bind(state)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
