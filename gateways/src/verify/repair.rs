//! Repair: what differs is marked, and the reconciler mends it by its usual steps and policies.

use chrono::TimeDelta;
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{PgPool, PgTransaction};
use tandem_domain::GatewayName;
use uuid::Uuid;

use super::drifts::{Drift, DriftKind, drifts};
use crate::adopt::{self, Adopted};
use crate::copies::{self, Owner};
use crate::inbox::email_key;
use crate::link::{Priority, mark_due};
use crate::{ChangeKind, Object, RemoteChange, Seen, Sides, SurveyError};

/// What was marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Links that are looked at anew.
    pub looks: u64,
    /// Objects that are imported.
    pub imports: u64,
    /// Customers that are created there.
    pub creates: u64,
    /// What only a person can mend: each says why.
    pub left: u64,
}

/// Marks what a run found. Repeating it marks nothing twice.
///
/// # Errors
/// [`SurveyError::Database`]; what was marked is kept.
pub async fn repair(sides: &Sides, run: i64) -> Result<Repaired, SurveyError> {
    let (pool, name) = (&sides.pool, sides.gateway.name());
    let (mut repaired, mut after) = (Repaired::default(), 0);
    loop {
        let page = drifts(pool, run, after, 200).await?;
        let Some(last) = page.last() else { return Ok(repaired) };
        after = last.id;
        for drift in page.into_iter().filter(|drift| !drift.repaired) {
            let counted = match one(pool, name, run, &drift).await? {
                Mark::Look => &mut repaired.looks,
                Mark::Import => &mut repaired.imports,
                Mark::Create => &mut repaired.creates,
                Mark::Leave(_) => &mut repaired.left,
            };
            *counted += 1;
        }
    }
}

enum Mark {
    Look,
    Import,
    Create,
    Leave(String),
}

async fn one(pool: &PgPool, gateway: &GatewayName, run: i64, drift: &Drift) -> Result<Mark, SurveyError> {
    let mut tx = pool.begin().await?;
    let mark = match (&drift.remark, drift.link_id, drift.kind) {
        (Some(remark), ..) => Mark::Leave(remark.clone()),
        (None, Some(link), DriftKind::NotLinked) => match twin(&mut tx, run, drift).await? {
            Some(twin) => Mark::Leave(twin),
            None => {
                mark_due(&mut tx, &[link], Priority::Bulk).await?;
                Mark::Create
            }
        },
        (None, Some(link), _) => look(&mut tx, link).await?,
        (None, None, DriftKind::MissingHere) => import(&mut tx, gateway, run, drift).await?,
        (None, None, _) => create(&mut tx, gateway, run, drift).await?,
    };
    let remark = match &mark {
        Mark::Leave(remark) => Some(remark),
        Mark::Look | Mark::Import | Mark::Create => None,
    };
    sqlx::query("UPDATE drifts SET repaired = $2, remark = $3 WHERE id = $1")
        .bind(drift.id)
        .bind(remark.is_none())
        .bind(remark)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(mark)
}

/// The reconciler asks the gateway, whatever the inbox says.
async fn look(tx: &mut PgTransaction<'_>, link: i64) -> Result<Mark, sqlx::Error> {
    let marked = sqlx::query("UPDATE links SET look = true WHERE id = $1 AND state = 'active'")
        .bind(link)
        .execute(&mut **tx)
        .await?;
    if marked.rows_affected() == 0 {
        return Ok(Mark::Leave("its link is no longer active".to_owned()));
    }
    mark_due(tx, &[link], Priority::Bulk).await?;
    Ok(Mark::Look)
}

/// As if the gateway had told of its creation just now.
async fn import(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    run: i64,
    drift: &Drift,
) -> Result<Mark, sqlx::Error> {
    let owner = match drift.customer_id {
        Some(customer) => copies::owner(&mut **tx, gateway, customer).await?,
        None => Owner::Other,
    };
    if owner == Owner::Deleted {
        let remark = "it carries the id of a customer that is deleted and was not linked to it: take `metadata.tandem_id` off it";
        return Ok(Mark::Leave(remark.to_owned()));
    }
    if let (Some(customer), Some(remote_id), Owner::Other) = (drift.customer_id, &drift.remote_id, owner)
        && exists(tx, customer).await?
    {
        return Ok(match adopt::adopt(tx, gateway, customer, remote_id, None).await? {
            Adopted::Linked => Mark::Look,
            Adopted::Busy => Mark::Leave("the customer whose id it carries is just being created there".to_owned()),
            Adopted::Taken => Mark::Leave(
                "the customer whose id it carries has another object, or the object is linked by now".to_owned(),
            ),
        });
    }
    if let Some(twin) = twin(tx, run, drift).await? {
        return Ok(Mark::Leave(twin));
    }
    let change: Option<Json<RemoteChange>> =
        sqlx::query_scalar("SELECT change FROM drifts WHERE id = $1").bind(drift.id).fetch_one(&mut **tx).await?;
    if let Some(Json(change)) = change {
        sqlx::query(
            "INSERT INTO inbox (gateway, event_id, change, email_key, bulk) VALUES ($1, $2, $3, $4, true)
             ON CONFLICT (gateway, event_id) DO NOTHING",
        )
        .bind(gateway.as_str())
        .bind(&change.event_id)
        .bind(Json(&change))
        .bind(email_key(&change))
        .execute(&mut **tx)
        .await?;
    }
    Ok(Mark::Import)
}

/// Whether the customer that an object says it is a copy of was ever created here.
async fn exists(tx: &mut PgTransaction<'_>, customer: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM events WHERE aggregate_type = 'customer' AND aggregate_id = $1)")
        .bind(customer.to_string())
        .fetch_one(&mut **tx)
        .await
}

async fn create(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    run: i64,
    drift: &Drift,
) -> Result<Mark, sqlx::Error> {
    if let Some(twin) = twin(tx, run, drift).await? {
        return Ok(Mark::Leave(twin));
    }
    let Some(customer) = drift.customer_id else { return Ok(Mark::Leave("it names no customer".to_owned())) };
    if !adopt::create_there(tx, gateway, customer).await? {
        return Ok(Mark::Leave("it is linked meanwhile".to_owned()));
    }
    Ok(Mark::Create)
}

/// On the other side is one with the same email that is not linked either: likely the same person, who would then be there
/// twice, on both sides.
async fn twin(tx: &mut PgTransaction<'_>, run: i64, drift: &Drift) -> Result<Option<String>, sqlx::Error> {
    let other = if drift.kind == DriftKind::MissingHere { DriftKind::NotLinked } else { DriftKind::MissingHere };
    let twin: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM drifts mine JOIN drifts other USING (survey_id, email_key)
                        WHERE mine.id = $1 AND mine.survey_id = $2 AND other.kind = $3)",
    )
    .bind(drift.id)
    .bind(run)
    .bind(other.as_str())
    .fetch_one(&mut **tx)
    .await?;
    Ok(twin.then(|| "the other side has one with this email that is not linked: see `tandem plan`".to_owned()))
}

/// What a gateway's change would say of an object's creation, as it was seen. `by` makes its event's id, once for each
/// object.
pub(crate) fn created(by: String, seen: &Seen) -> Option<RemoteChange> {
    let Object::Present { remote_id, profile, customer, untold } = &seen.object else { return None };
    Some(RemoteChange {
        event_id: format!("{by}-{remote_id}"),
        kind: ChangeKind::Created,
        // The interval of an event with this stamp lies within the sight's.
        created: seen.interval.from() + TimeDelta::seconds(1),
        remote_id: remote_id.clone(),
        profile: profile.clone(),
        customer: *customer,
        untold: untold.clone(),
        previous: Default::default(),
        idempotency_key: None,
    })
}
