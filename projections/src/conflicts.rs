//! The read model of conflicts: fields that two people edited without knowing of each other, open and past.

mod fold;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgPool};
use tandem_domain::Side;
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
/// The database is unavailable.
pub async fn conflicts(pool: &PgPool, search: &ConflictSearch) -> Result<Vec<ConflictRow>, sqlx::Error> {
    sqlx::query_as(&format!(
        "{SELECT} WHERE id > $1 AND ($2::boolean IS NULL OR (winner IS NULL) = $2)
           AND ($3::text IS NULL OR gateway = $3) AND ($4::uuid IS NULL OR customer_id = $4) ORDER BY id LIMIT $5"
    ))
    .bind(search.after)
    .bind(search.open)
    .bind(&search.gateway)
    .bind(search.customer)
    .bind(search.limit)
    .fetch_all(pool)
    .await
}

/// One conflict; `None` if there is none of that number.
///
/// # Errors
/// The database is unavailable.
pub async fn conflict(pool: &PgPool, id: i64) -> Result<Option<ConflictRow>, sqlx::Error> {
    sqlx::query_as(&format!("{SELECT} WHERE id = $1")).bind(id).fetch_optional(pool).await
}

/// Who wrote a value is in the log, and need not be kept twice.
const SELECT: &str = "
    SELECT id, customer_id, gateway, field, catalog, remote, winner, policy, opened_at, resolved_at,
           (SELECT metadata ->> 'origin' FROM events
            WHERE aggregate_type = 'customer' AND aggregate_id = customer_id::text AND sequence < version
              AND (payload -> 'changes' ? field OR payload -> 'profile' ? field)
            ORDER BY sequence DESC LIMIT 1) AS catalog_origin
    FROM conflicts";
