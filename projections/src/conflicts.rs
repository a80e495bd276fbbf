//! The read model of conflicts: fields that two people edited without knowing of each other, open and past.

mod fold;

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use sqlx::{FromRow, PgPool};
use tandem_domain::{Customer, CustomerEvent, Side, upcasters};
use tandem_eventlog::{RecordedError, history_before, unsigned};
use uuid::Uuid;

pub(crate) use fold::{concerns, fold};

/// A conflict on one field of one customer.
#[derive(Debug, Clone, FromRow)]
pub struct ConflictRow {
    /// Its number: the place in the feed of the event that told of it first.
    pub id: i64,
    /// Whose field.
    pub customer_id: Uuid,
    /// Between the catalog and which gateway.
    pub gateway: String,
    /// The field.
    pub field: String,
    /// The catalog's side.
    #[sqlx(json)]
    pub catalog: Side,
    /// Who had written the catalog's value: `api`, or a gateway's name.
    #[sqlx(skip)]
    pub catalog_origin: Option<String>,
    /// The gateway's side.
    #[sqlx(json)]
    pub remote: Side,
    /// Whose value stands: `catalog`, `gateway`, `value` (a third one), or `deletion`; `None` while it waits for a person.
    pub winner: Option<String>,
    /// By which rule: `latest`, `catalog`, `gateway` or `ask`.
    pub policy: String,
    /// Since when.
    pub opened_at: DateTime<Utc>,
    /// When it was decided.
    pub resolved_at: Option<DateTime<Utc>>,
    /// The customer's version at the event that told of it last.
    version: i64,
}

/// Why conflicts cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConflictsError {
    /// Try again later.
    #[error("the database is unavailable")]
    Unavailable(#[from] sqlx::Error),
    /// An event of a customer is not of a form that this version knows.
    #[error("who wrote a value cannot be read")]
    Unreadable(#[from] RecordedError),
}

/// Which conflicts are asked for.
#[derive(Debug, Clone, Default)]
pub struct ConflictSearch {
    /// Only those that wait for a person, or only those that do not.
    pub open: Option<bool>,
    /// Only with this gateway.
    pub gateway: Option<String>,
    /// Only of this customer.
    pub customer: Option<Uuid>,
    /// Only after this number.
    pub after: i64,
    /// At most so many.
    pub limit: i64,
}

/// The conflicts that are asked for, oldest first.
///
/// # Errors
/// [`ConflictsError`].
pub async fn conflicts(pool: &PgPool, search: &ConflictSearch) -> Result<Vec<ConflictRow>, ConflictsError> {
    let mut rows: Vec<ConflictRow> = sqlx::query_as(&format!(
        "{SELECT} WHERE id > $1 AND ($2::boolean IS NULL OR (winner IS NULL) = $2)
           AND ($3::text IS NULL OR gateway = $3) AND ($4::uuid IS NULL OR customer_id = $4) ORDER BY id LIMIT $5"
    ))
    .bind(search.after)
    .bind(search.open)
    .bind(&search.gateway)
    .bind(search.customer)
    .bind(search.limit)
    .fetch_all(pool)
    .await?;
    for row in &mut rows {
        row.catalog_origin = written_by(pool, row).await?;
    }
    Ok(rows)
}

/// One conflict; `None` if there is none of that number.
///
/// # Errors
/// [`ConflictsError`].
pub async fn conflict(pool: &PgPool, id: i64) -> Result<Option<ConflictRow>, ConflictsError> {
    let row: Option<ConflictRow> =
        sqlx::query_as(&format!("{SELECT} WHERE id = $1")).bind(id).fetch_optional(pool).await?;
    let Some(mut row) = row else { return Ok(None) };
    row.catalog_origin = written_by(pool, &row).await?;
    Ok(Some(row))
}

const SELECT: &str = "
    SELECT id, customer_id, gateway, field, catalog, remote, winner, policy, opened_at, resolved_at, version
    FROM conflicts";

/// How many events are read at once: the value in question was mostly written just before.
const PAGE: u32 = 20;

/// Who wrote the catalog's value is in the log, and need not be kept twice.
async fn written_by(pool: &PgPool, row: &ConflictRow) -> Result<Option<String>, ConflictsError> {
    let (upcasters, customer) = (upcasters(), row.customer_id.to_string());
    let mut before = unsigned(row.version);
    loop {
        let events = history_before(pool, Customer::TYPE, &customer, before, PAGE).await?;
        for recorded in &events {
            // Of a later version: whose it is stays unknown, and the other conflicts of the page are told.
            let Ok(event) = recorded.event::<Customer>(&upcasters) else { return Ok(None) };
            let sets_it = match event {
                CustomerEvent::Created { profile, .. } => {
                    profile.all().any(|(field, _)| field.to_string() == row.field)
                }
                CustomerEvent::Updated { changes, .. } => changes.keys().any(|field| field.to_string() == row.field),
                CustomerEvent::Deleted { .. }
                | CustomerEvent::Erased { .. }
                | CustomerEvent::Linked { .. }
                | CustomerEvent::Unlinked { .. }
                | CustomerEvent::ConflictOpened(_)
                | CustomerEvent::ConflictResolved(_) => false,
            };
            if sets_it {
                return Ok(Some(recorded.origin.clone()));
            }
        }
        match events.last() {
            Some(oldest) if events.len() == PAGE as usize => before = oldest.version,
            Some(_) | None => return Ok(None),
        }
    }
}
