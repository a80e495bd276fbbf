//! The parts of Stripe's objects that we read.
//!
//! async-stripe has types for all of them, whole: one field missing or of another shape, as older API versions have
//! them, would fail the object. Events come in the version of the account or the webhook endpoint, whatever we ask for.

use std::collections::BTreeMap;

use miniserde::Deserialize;
use miniserde::json::Value;

/// "The Customer object"; of a deleted one only `id` and `deleted` are there.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Customer {
    pub id: String,
    pub deleted: Option<bool>,
    pub name: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub address: Option<Address>,
    pub metadata: Option<BTreeMap<String, Option<String>>>,
}

/// "The Account object".
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Account {
    pub id: String,
}

/// Its address.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    pub line1: Option<String>,
    pub line2: Option<String>,
    pub city: Option<String>,
    pub state: Option<String>,
    pub postal_code: Option<String>,
    pub country: Option<String>,
}

/// What every event says, whatever it is of.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Envelope {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub livemode: Option<bool>,
    /// Of events of connected accounts.
    pub account: Option<String>,
}

/// "The Event object", of a customer.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Event {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// Seconds since 1970.
    pub created: i64,
    pub data: Data,
    /// An object; before 2017-05-25 the id alone.
    pub request: Option<Value>,
}

/// What an event is about.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Data {
    pub object: Customer,
    /// The changed attributes with their old values; of hashes only the changed keys.
    pub previous_attributes: Option<BTreeMap<String, Value>>,
}

/// "Errors".
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Refused {
    pub error: Complaint,
}

/// What Stripe complains of. Its message may repeat what it was sent.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Complaint {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub code: Option<String>,
    pub param: Option<String>,
    pub message: Option<String>,
}
