//! Verify: every living customer on both sides, compared field by field.
//!
//! What differs in a survey is looked at a second time: what is under way, or has come into step meanwhile, is no drift.

mod candidates;
mod drifts;
mod look;
mod repair;
mod standing;
mod watch;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use crate::survey::{Purpose, Survey};
use crate::{Begin, Progress, Sides, SurveyError, Tell};

use self::candidates::Candidate;
use self::look::Look;

pub use drifts::{Drift, DriftKind, FieldDrift, drifts};
pub(crate) use repair::created;
pub use repair::{Repaired, repair};
pub(crate) use watch::watch;

/// What a verification came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct Verified {
    /// Its number.
    pub run: i64,
    /// Of which gateway.
    pub gateway: String,
    /// Living customers here.
    pub customers: i64,
    /// Living objects there.
    pub objects: i64,
    /// Customers, and objects that are no customer's.
    pub compared: i64,
    /// Of those, how many are being changed just now: they are no drift.
    pub in_flight: i64,
    /// How many differ.
    pub drift: i64,
}

impl Verified {
    /// Customers with a living object. What else was compared is on one side only.
    pub fn pairs(&self) -> i64 {
        self.customers + self.objects - self.compared
    }
}

/// How many differences are looked at a second time in one step.
const PAGE: i64 = 100;

/// How many of them at once. The gateway's pacing says how fast.
const AT_ONCE: usize = 16;

/// Compares both sides. What differs is kept until the next run: see [`drifts()`] and [`repair()`].
///
/// Nothing else is changed.
///
/// # Errors
/// [`SurveyError`]; what was done is kept.
pub async fn verify(sides: &Sides, begin: Begin, tell: Tell<'_>) -> Result<Verified, SurveyError> {
    let survey = Survey::begin(sides, Purpose::Verify, None, begin).await?;
    survey.read(tell).await?;
    let mut looked_at = 0;
    while let Some((part, cursor)) = next_part(&survey).await? {
        let candidates = candidates::page(&survey, part, &cursor, PAGE).await?;
        looked_at += candidates.found.len() as u64;
        let looks = look_again(sides, &candidates.found).await?;
        drifts::keep(&survey, (part, &cursor), candidates.next, &looks).await?;
        tell(Progress { looked_at, ..Progress::default() });
    }
    finish(&survey).await?;
    verified(sides.pool.clone(), survey.id).await
}

/// The part of the comparison that is to do, and where in it: links, then objects that no link knows, then customers
/// without a link.
async fn next_part(survey: &Survey<'_>) -> Result<Option<(i32, String)>, SurveyError> {
    let (part, cursor): (i32, String) = sqlx::query_as("SELECT part, part_cursor FROM surveys WHERE id = $1")
        .bind(survey.id)
        .fetch_one(survey.pool())
        .await?;
    Ok((part < candidates::PARTS).then_some((part, cursor)))
}

/// Looks at each, and at what still differs once more after a moment: its webhook may be on the way.
async fn look_again(sides: &Sides, candidates: &[Candidate]) -> Result<Vec<Look>, SurveyError> {
    let look = |candidate: Candidate| async move { look::look(sides, &candidate).await };
    let candidates_again = candidates.to_vec();
    let mut looks: Vec<Look> =
        futures::stream::iter(candidates_again).map(look).buffered(AT_ONCE).try_collect().await?;
    if looks.iter().any(|look| matches!(look, Look::Drift(..))) {
        tokio::time::sleep(sides.grace).await;
        for (look, candidate) in looks.iter_mut().zip(candidates) {
            if let Look::Drift(_, before) = look
                && look::has_moved(sides, candidate, before.as_ref()).await?
            {
                *look = Look::InFlight;
            }
        }
    }
    Ok(looks)
}

/// Counts, and lets go of what was read: it is customers' data.
async fn finish(survey: &Survey<'_>) -> Result<(), SurveyError> {
    let mut tx = survey.pool().begin().await?;
    sqlx::query(
        "UPDATE surveys SET
             objects = (SELECT count(*) FROM survey_objects WHERE survey_id = $1),
             customers = (SELECT count(*) FROM survey_customers WHERE survey_id = $1),
             compared = (SELECT count(*) FROM survey_customers WHERE survey_id = $1)
                 + (SELECT count(*) FROM survey_objects o WHERE o.survey_id = $1 AND NOT EXISTS (
                       SELECT FROM links l JOIN survey_customers c ON c.survey_id = $1 AND c.customer_id = l.customer_id
                       WHERE l.gateway = surveys.gateway AND l.remote_id = o.remote_id)),
             drift = (SELECT count(*) FROM drifts WHERE survey_id = $1),
             ended_at = clock_timestamp()
         WHERE id = $1",
    )
    .bind(survey.id)
    .execute(&mut *tx)
    .await?;
    for table in ["survey_objects", "survey_customers"] {
        sqlx::query(&format!("DELETE FROM {table} WHERE survey_id = $1")).bind(survey.id).execute(&mut *tx).await?;
    }
    sqlx::query("DELETE FROM surveys WHERE gateway = $1 AND kind = 'verify' AND id <> $2")
        .bind(survey.name().as_str())
        .bind(survey.id)
        .execute(&mut *tx)
        .await?;
    Ok(tx.commit().await?)
}

async fn verified(pool: PgPool, run: i64) -> Result<Verified, SurveyError> {
    Ok(sqlx::query_as(
        "SELECT id AS run, gateway, customers, objects, compared, in_flight, COALESCE(drift, 0) AS drift
         FROM surveys WHERE id = $1",
    )
    .bind(run)
    .fetch_one(&pool)
    .await?)
}
