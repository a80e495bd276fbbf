//! Plan: what is to be done with customers and objects that are not linked, for a person to read before it is done.
//!
//! A plan changes nothing but itself. `apply` carries it out, as far as nothing has changed since.

mod apply;
mod items;
mod matching;

use serde::Serialize;
use sqlx::{FromRow, PgPool};
use tandem_domain::GatewayName;

use crate::survey::{Purpose, Survey};
use crate::{Begin, Sides, SurveyError, Tell};

pub use apply::{Applied, Apply, FieldsFrom, apply};
pub use items::{Action, Item, items};

/// A plan as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Its number.
    pub plan: i64,
    /// Of which gateway.
    pub gateway: String,
    /// Living customers here.
    pub customers: i64,
    /// Living objects there.
    pub objects: i64,
    /// Customers that were linked already.
    pub linked: i64,
    /// Customers that were being created there when it was made: they are not planned.
    pub in_flight: i64,
    /// What it says, and what was done of it.
    pub actions: Vec<ActionCount>,
    /// Of the pairs to be linked, how many hold another value, by field.
    pub differing: Vec<FieldCount>,
}

/// How many items of a plan are of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct ActionCount {
    /// What is to be done.
    pub action: Action,
    /// By what they were matched: `tandem_id`, `metadata`, `email`.
    pub matched_by: Option<String>,
    /// Items.
    pub items: i64,
    /// Of those, pairs with a field that differs.
    pub differ: i64,
    /// Of those, carried out.
    pub done: i64,
    /// Of those, left because a side had changed since.
    pub changed: i64,
}

/// In how many pairs a field differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct FieldCount {
    /// Which, such as `email`.
    pub field: String,
    /// In how many.
    pub pairs: i64,
}

/// Reads both sides and writes a plan. Customers and objects are matched by `metadata.tandem_id`, then by `match_key`, a
/// metadata key of the object that holds our id or what our customer's metadata holds under the same key, then by an email
/// that is once on each side, whatever its case.
///
/// # Errors
/// [`SurveyError`]; what was read is kept, for a plan that resumes.
pub async fn plan(sides: &Sides, match_key: Option<&str>, begin: Begin, tell: Tell<'_>) -> Result<Plan, SurveyError> {
    let survey = Survey::begin(sides, Purpose::Plan, match_key, begin).await?;
    survey.read(tell).await?;
    matching::write(&survey).await?;
    summary(&sides.pool, survey.id).await
}

/// Which gateway a plan is for.
///
/// # Errors
/// [`SurveyError::NoPlan`], or the database is unavailable.
pub async fn gateway_of(pool: &PgPool, plan: i64) -> Result<GatewayName, SurveyError> {
    let name: Option<String> =
        sqlx::query_scalar("SELECT gateway FROM surveys WHERE id = $1 AND kind = 'plan' AND ended_at IS NOT NULL")
            .bind(plan)
            .fetch_optional(pool)
            .await?;
    name.and_then(|name| name.parse().ok()).ok_or(SurveyError::NoPlan(plan))
}

/// Forgets a plan: what it holds is customers' data.
///
/// # Errors
/// [`SurveyError::NoPlan`], or the database is unavailable.
pub async fn forget(pool: &PgPool, plan: i64) -> Result<(), SurveyError> {
    let forgotten = sqlx::query("DELETE FROM surveys WHERE id = $1 AND kind = 'plan'").bind(plan).execute(pool).await?;
    if forgotten.rows_affected() == 0 { Err(SurveyError::NoPlan(plan)) } else { Ok(()) }
}

/// A plan as it stands now.
///
/// # Errors
/// [`SurveyError::NoPlan`], or the database is unavailable.
pub async fn summary(pool: &PgPool, plan: i64) -> Result<Plan, SurveyError> {
    let whole: Option<(String, i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT gateway, customers, objects, compared, in_flight FROM surveys
         WHERE id = $1 AND kind = 'plan' AND ended_at IS NOT NULL",
    )
    .bind(plan)
    .fetch_optional(pool)
    .await?;
    let (gateway, customers, objects, linked, in_flight) = whole.ok_or(SurveyError::NoPlan(plan))?;
    let actions = sqlx::query_as(
        "SELECT action, matched_by, count(*) AS items, count(*) FILTER (WHERE action = 'link' AND here <> there) AS differ,
                count(*) FILTER (WHERE state = 'done') AS done, count(*) FILTER (WHERE state = 'changed') AS changed
         FROM plan_items WHERE plan_id = $1 GROUP BY action, matched_by ORDER BY min(n)",
    )
    .bind(plan)
    .fetch_all(pool)
    .await?;
    let differing = sqlx::query_as(
        "SELECT field, count(*) AS pairs
         FROM plan_items i CROSS JOIN LATERAL (
             SELECT key AS field FROM jsonb_each(i.here) WHERE i.there -> key IS DISTINCT FROM value
             UNION ALL SELECT key FROM jsonb_object_keys(i.there) AS key WHERE NOT i.here ? key) d
         WHERE i.plan_id = $1 AND i.action = 'link' AND i.here <> i.there GROUP BY field ORDER BY pairs DESC, field",
    )
    .bind(plan)
    .fetch_all(pool)
    .await?;
    Ok(Plan { plan, gateway, customers, objects, linked, in_flight, actions, differing })
}
