//! One customer of the read model.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row};
use tandem_domain::{CustomerId, Profile};
use tandem_eventlog::unsigned;

/// The columns that a [`CustomerRow`] is made of.
pub(super) const COLUMNS: &str = "id, state, profile, name_key, version, seen, created_at, updated_at";

/// A customer as the read model has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerRow {
    /// Its id.
    pub id: CustomerId,
    /// Whether it is alive.
    pub state: State,
    /// Its fields; of a deleted one, as they were.
    pub profile: Profile,
    /// The number of the event that changed its fields, or deleted it, last. Being linked to a gateway changes nothing.
    pub version: u64,
    /// The number of the last event taken in.
    pub seen: u64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it changed last, or was deleted.
    pub updated_at: DateTime<Utc>,
    pub(super) name_key: String,
}

/// Whether a customer is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is.
    Active,
    /// It was deleted, for ever.
    Deleted,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deleted => "deleted",
        }
    }
}

impl FromRow<'_, PgRow> for CustomerRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let Json(profile) = row.try_get("profile")?;
        let state: String = row.try_get("state")?;
        Ok(Self {
            id: CustomerId(row.try_get("id")?),
            state: if state == "deleted" { State::Deleted } else { State::Active },
            profile,
            version: unsigned(row.try_get("version")?),
            seen: unsigned(row.try_get("seen")?),
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            name_key: row.try_get("name_key")?,
        })
    }
}
