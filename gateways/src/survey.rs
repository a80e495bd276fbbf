//! A survey: both sides read into the database, page by page, so that they can be compared there.
//!
//! Memory holds a page at a time, however many customers there are. Where each side's next page begins is stored with the
//! page before it: a survey that was killed goes on.

mod read;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tandem_domain::{Customer, EmailKey, GatewayName, Profile};
use tandem_eventlog::{Duties, Duty, Store, StoreError};
use uuid::Uuid;

use crate::link::backoff;
use crate::{CallError, Filter, Gateway};

/// Both sides: the catalog, and one gateway.
#[derive(Clone)]
pub struct Sides {
    /// The database of the catalog and of the links.
    pub pool: PgPool,
    /// What this process does for all.
    pub duties: Duties,
    /// The catalog.
    pub store: Store<Customer>,
    /// The gateway.
    pub gateway: Arc<dyn Gateway>,
    /// Which customers are created there; all without one.
    pub filter: Option<Filter>,
    /// How long a webhook may be on its way before a difference that it tells of is called one.
    pub grace: Duration,
}

impl Sides {
    /// Whether a customer with these fields is kept away from there.
    pub(crate) fn keep_away(&self, profile: &Profile) -> bool {
        self.filter.as_ref().is_some_and(|filter| !filter.admits(profile))
    }
}

/// How far a survey is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Customers read here.
    pub customers: u64,
    /// Objects read there.
    pub objects: u64,
    /// Differences that were looked at a second time; items that were applied.
    pub looked_at: u64,
}

/// Hears how far a survey is.
pub type Tell<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Why both sides could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// One at a time: wait for it, or stop it.
    #[error("another process reads both sides of {0} now")]
    Busy(GatewayName),
    /// There is nothing to go on with.
    #[error("no `tandem {purpose}` of {gateway} was left unfinished: without --resume it begins anew")]
    NothingToResume {
        /// `verify` or `plan`.
        purpose: &'static str,
        /// Of which gateway.
        gateway: GatewayName,
    },
    /// There is no plan of this number, or it is not finished.
    #[error("there is no finished plan {0}")]
    NoPlan(i64),
    /// The gateway is away, or does not take our key. What was read is kept: go on later.
    #[error("the gateway cannot be read")]
    Call(#[from] CallError),
    /// What was read is kept: go on later.
    #[error("the database is unavailable")]
    Database(#[source] sqlx::Error),
    /// Stored events of a customer, or a row, cannot be read. What was read is kept: go on once that is mended.
    #[error("what is stored cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<sqlx::Error> for SurveyError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Unreadable(error.into()),
            error => Self::Database(error),
        }
    }
}

impl From<StoreError> for SurveyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(error) => Self::Database(error),
            StoreError::Corrupt(_) | StoreError::NoSuchVersion { .. } => Self::Unreadable(error.into()),
        }
    }
}

/// Whether a survey goes on with the last one for the same purpose that was not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// It does not, and ends that one.
    Anew,
    /// It does, or is refused if there is none.
    Resume,
    /// It does if there is one.
    ResumeOrAnew,
}

/// What a survey is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Verify,
    Plan,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Plan => "plan",
        }
    }
}

/// One survey, at work.
pub(crate) struct Survey<'a> {
    pub id: i64,
    /// By which key of their metadata objects are matched, too.
    pub match_key: Option<String>,
    pub sides: &'a Sides,
    salt: Uuid,
    /// While this is there, nobody else surveys the gateway.
    _duty: Duty,
}

impl<'a> Survey<'a> {
    /// Begins one, or goes on with one: which then matches as it was asked to, unless `match_key` says otherwise now.
    pub async fn begin(
        sides: &'a Sides,
        purpose: Purpose,
        match_key: Option<&str>,
        begin: Begin,
    ) -> Result<Self, SurveyError> {
        let name = sides.gateway.name();
        let duty =
            sides.duties.take(&format!("survey {name}")).await?.ok_or_else(|| SurveyError::Busy(name.clone()))?;
        let unfinished = match begin {
            Begin::Anew => None,
            Begin::Resume | Begin::ResumeOrAnew => unfinished(sides, purpose, match_key).await?,
        };
        let (id, match_key, salt) = match (unfinished, begin) {
            (Some(unfinished), _) => unfinished,
            (None, Begin::Resume) => {
                let (purpose, gateway) = (purpose.as_str(), sides.gateway.name().clone());
                return Err(SurveyError::NothingToResume { purpose, gateway });
            }
            (None, Begin::Anew | Begin::ResumeOrAnew) => {
                let (id, salt) = anew(sides, purpose, match_key).await?;
                (id, match_key.map(str::to_owned), salt)
            }
        };
        Ok(Self { id, match_key, sides, salt, _duty: duty })
    }

    pub fn pool(&self) -> &'a PgPool {
        &self.sides.pool
    }

    pub fn name(&self) -> &'a GatewayName {
        self.sides.gateway.name()
    }

    /// The email as this survey compares it. Statistics of these columns say nothing of a person, so both sides' tables can be
    /// analyzed, and their joins are planned well.
    pub fn email_key(&self, email: &EmailKey) -> String {
        email.salted(self.salt.as_bytes())
    }
}

/// The number and the key of the one that was not finished. What it has read is the same, whatever it is matched by.
async fn unfinished(
    sides: &Sides,
    purpose: Purpose,
    match_key: Option<&str>,
) -> Result<Option<(i64, Option<String>, Uuid)>, SurveyError> {
    let unfinished = sqlx::query_as(
        "UPDATE surveys SET match_key = COALESCE($3, match_key)
         WHERE id = (SELECT max(id) FROM surveys WHERE gateway = $1 AND kind = $2 AND ended_at IS NULL)
         RETURNING id, match_key, salt",
    )
    .bind(sides.gateway.name().as_str())
    .bind(purpose.as_str())
    .bind(match_key)
    .fetch_optional(&sides.pool)
    .await?;
    Ok(unfinished)
}

/// What was begun before and not finished ends here, with what it had read.
async fn anew(sides: &Sides, purpose: Purpose, match_key: Option<&str>) -> Result<(i64, Uuid), SurveyError> {
    let mut tx = sides.pool.begin().await?;
    sqlx::query("DELETE FROM surveys WHERE gateway = $1 AND kind = $2 AND ended_at IS NULL")
        .bind(sides.gateway.name().as_str())
        .bind(purpose.as_str())
        .execute(&mut *tx)
        .await?;
    let begun = sqlx::query_as("INSERT INTO surveys (gateway, kind, match_key) VALUES ($1, $2, $3) RETURNING id, salt")
        .bind(sides.gateway.name().as_str())
        .bind(purpose.as_str())
        .bind(match_key)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(begun)
}

/// How often a read is tried before a survey is given up: for about two minutes.
const ATTEMPTS: i32 = 9;

/// Makes a read again while the gateway is away.
pub(crate) async fn patiently<T, F>(call: impl Fn() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    patiently_within(Duration::MAX, call).await
}

/// The same, with no longer a wait in between than this, but where the gateway asks for one.
pub(crate) async fn patiently_within<T, F>(longest: Duration, call: impl Fn() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    let mut attempts = 0;
    loop {
        match call().await {
            Err(CallError::Unavailable { retry_after, .. }) if attempts < ATTEMPTS => {
                attempts += 1;
                let wait = backoff(attempts, rand::random()).min(longest);
                tokio::time::sleep(wait.max(retry_after.unwrap_or_default())).await;
            }
            answer => return answer,
        }
    }
}
