//! What differs, as it is kept and told.

use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};
use tandem_domain::{EmailKey, Field, Profile, Value};
use uuid::Uuid;

use super::look::Look;
use super::repair::created;
use crate::erase::is_erased;
use crate::survey::Survey;
use crate::{Seen, SurveyError};

/// How both sides are not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum DriftKind {
    /// Some fields hold other values.
    Differs,
    /// A living customer's object is gone.
    MissingThere,
    /// An object that no customer here belongs to.
    MissingHere,
    /// A living customer that was never created there, and nothing is about to.
    NotLinked,
    /// One side is deleted, and the other lives.
    DeadOnOneSide,
    /// The same, and a person is asked whether the other shall be deleted.
    DeletionWaits,
    /// Some fields hold other values until a person decides a conflict; all others are the same.
    ConflictWaits,
}

impl DriftKind {
    /// Its name, as it is told and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::MissingThere => "missing_there",
            Self::MissingHere => "missing_here",
            Self::NotLinked => "not_linked",
            Self::DeadOnOneSide => "dead_on_one_side",
            Self::DeletionWaits => "deletion_waits",
            Self::ConflictWaits => "conflict_waits",
        }
    }
}

/// A field that holds one value here and another there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldDrift {
    /// Which.
    pub field: Field,
    /// What the catalog holds.
    pub here: Option<Value>,
    /// What the gateway holds.
    pub there: Option<Value>,
}

/// Something that is not the same on both sides.
#[derive(Clone, Debug, FromRow)]
pub struct Drift {
    /// Its number.
    pub id: i64,
    /// How.
    pub kind: DriftKind,
    /// The customer; of an object that no link knows, the one that it claims to be a copy of.
    pub customer_id: Option<Uuid>,
    /// The object.
    pub remote_id: Option<String>,
    /// The fields that differ.
    #[sqlx(json)]
    pub fields: Vec<FieldDrift>,
    /// A push of it was rejected, and waits for a person.
    pub parked: bool,
    /// What a person should know.
    pub remark: Option<String>,
    /// It was marked to be mended.
    pub repaired: bool,
    pub(super) link_id: Option<i64>,
    #[sqlx(skip)]
    email: Option<EmailKey>,
    #[sqlx(skip)]
    pub(super) seen: Option<Seen>,
}

impl Drift {
    pub(super) fn of(kind: DriftKind) -> Self {
        Self {
            id: 0,
            kind,
            customer_id: None,
            remote_id: None,
            fields: vec![],
            parked: false,
            remark: None,
            repaired: false,
            link_id: None,
            email: None,
            seen: None,
        }
    }

    pub(super) fn set_email(&mut self, profile: Option<&Profile>) {
        self.email = profile.and_then(EmailKey::of_profile);
    }
}

/// A page of what a run found, after that number.
///
/// # Errors
/// The database is unavailable.
pub async fn drifts(pool: &PgPool, run: i64, after: i64, limit: i64) -> Result<Vec<Drift>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, kind, customer_id, remote_id, fields, parked, remark, repaired, link_id
         FROM drifts WHERE survey_id = $1 AND id > $2 ORDER BY id LIMIT $3",
    )
    .bind(run)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Keeps what a page came to, and moves on to the next page or the next part, in one transaction.
pub(super) async fn keep(
    survey: &Survey<'_>,
    (part, cursor): (i32, &str),
    next: Option<String>,
    looks: &[Look],
) -> Result<(), SurveyError> {
    let mut tx = survey.pool().begin().await?;
    let in_flight = looks.iter().filter(|look| matches!(look, Look::InFlight)).count();
    let moved = sqlx::query(
        "UPDATE surveys SET part = $4, part_cursor = $5, in_flight = in_flight + $6
         WHERE id = $1 AND part = $2 AND part_cursor = $3",
    )
    .bind(survey.id)
    .bind(part)
    .bind(cursor)
    .bind(if next.is_some() { part } else { part + 1 })
    .bind(next.unwrap_or_default())
    .bind(in_flight as i64)
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() == 0 {
        return Err(SurveyError::Busy(survey.name().clone()));
    }
    for look in looks {
        let Look::Drift(drift, _) = look else { continue };
        let change = drift.seen.as_ref().and_then(|seen| created(format!("verify-{}", survey.id), seen));
        // A copy that carries an erased customer's id is another's.
        let erased = is_erased("$11", "CASE WHEN $2 <> 'missing_here' THEN $3::uuid END", "$4");
        let insert = format!(
            // A link that is made one with another in this instant is waited for, and differs no longer.
            "INSERT INTO drifts (survey_id, kind, customer_id, remote_id, fields, parked, remark, link_id, email_key, change)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
             WHERE NOT {erased} AND ($8::bigint IS NULL OR EXISTS (SELECT FROM links WHERE id = $8 FOR KEY SHARE))"
        );
        sqlx::query(&insert)
            .bind(survey.id)
            .bind(drift.kind.as_str())
            .bind(drift.customer_id)
            .bind(&drift.remote_id)
            .bind(Json(&drift.fields))
            .bind(drift.parked)
            .bind(&drift.remark)
            .bind(drift.link_id)
            .bind(drift.email.as_ref().map(|email| survey.email_key(email)))
            .bind(change.map(Json))
            .bind(survey.name().as_str())
            .execute(&mut *tx)
            .await?;
    }
    Ok(tx.commit().await?)
}
