//! A customer as it is written.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use tandem_domain::{Address, Customer, CustomerId, Field, Profile, Value};
use tandem_projections::CustomerRow;
use utoipa::ToSchema;
use uuid::Uuid;

/// A time: RFC 3339 in UTC, with microseconds.
#[derive(Clone, Copy, Debug, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-24T09:30:00.000000Z")]
pub(crate) struct Timestamp(pub(crate) DateTime<Utc>);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

/// A customer. Fields that are unset are null.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Customer)]
pub(crate) struct CustomerBody {
    /// Its id.
    pub(crate) id: Uuid,
    /// Full name or business name.
    name: Option<String>,
    /// Email address.
    email: Option<String>,
    /// Phone number.
    phone: Option<String>,
    /// Postal address.
    address: Option<AddressBody>,
    /// Whatever else is known, by key.
    metadata: BTreeMap<String, String>,
    /// The number of the event that changed it last, also its `ETag`. Not every number is one: being linked to a
    /// gateway is an event, too.
    pub(crate) version: u64,
    /// When it was created.
    created_at: Timestamp,
    /// When it changed last.
    updated_at: Timestamp,
}

/// A postal address. Parts that are unset are null.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Address)]
pub(crate) struct AddressBody {
    /// Street and number.
    line1: Option<String>,
    /// Apartment, suite, unit.
    line2: Option<String>,
    /// City, town, village.
    city: Option<String>,
    /// State, county, province, region.
    state: Option<String>,
    /// ZIP or postal code.
    postal_code: Option<String>,
    /// Two-letter country code (ISO 3166-1 alpha-2).
    country: Option<String>,
}

impl From<Address> for AddressBody {
    fn from(Address { line1, line2, city, state, postal_code, country }: Address) -> Self {
        Self { line1, line2, city, state, postal_code, country }
    }
}

impl CustomerBody {
    /// The customer that a command led to; `None` unless it is alive.
    pub(crate) fn of(id: CustomerId, customer: &Customer, version: u64) -> Option<Self> {
        match customer {
            Customer::Active { profile, created_at, updated_at, .. } => {
                Some(Self::with(id, profile, version, *created_at, *updated_at))
            }
            Customer::Unborn | Customer::Deleted { .. } => None,
        }
    }

    fn with(
        id: CustomerId,
        profile: &Profile,
        version: u64,
        created_at: DateTime<Utc>,
        updated_at: DateTime<Utc>,
    ) -> Self {
        let text = |field| profile.text(&field).map(str::to_owned);
        Self {
            id: id.0,
            name: text(Field::Name),
            email: text(Field::Email),
            phone: text(Field::Phone),
            address: profile.get(&Field::Address).and_then(Value::as_address).cloned().map(Into::into),
            metadata: profile.metadata().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            version,
            created_at: Timestamp(created_at),
            updated_at: Timestamp(updated_at),
        }
    }
}

impl From<CustomerRow> for CustomerBody {
    fn from(row: CustomerRow) -> Self {
        Self::with(row.id, &row.profile, row.version, row.created_at, row.updated_at)
    }
}
