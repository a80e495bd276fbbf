//! Customers and events, typed for those who look at a local Stripe.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A customer as the local Stripe holds it, or held it when it was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// `cus_…`
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Deleted, for ever; the fields are those of its last moment.
    #[serde(default)]
    pub deleted: bool,
    /// Their name.
    pub name: Option<String>,
    /// Their email.
    pub email: Option<String>,
    /// Their phone number.
    pub phone: Option<String>,
    /// A note.
    pub description: Option<String>,
    /// Their address.
    pub address: Option<Address>,
    /// Free keys and values.
    pub metadata: BTreeMap<String, String>,
}

/// An address; a line may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Stripe's own names")]
pub struct Address {
    pub line1: Option<String>,
    pub line2: Option<String>,
    pub city: Option<String>,
    pub state: Option<String>,
    pub postal_code: Option<String>,
    pub country: Option<String>,
}

/// An event, as `GET /v1/events` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Value")]
pub struct Event {
    /// `evt_…`
    pub id: String,
    /// `customer.created`, `customer.updated` or `customer.deleted`.
    pub kind: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The customer's id.
    pub customer: String,
    /// The customer after the change; of a deletion, before it.
    pub object: Value,
    /// The old values of what was changed; empty but for updates.
    pub previous: Map<String, Value>,
    /// The call that made the change; `None` for an edit on the page or by [`crate::Control`].
    pub request_id: Option<String>,
    /// That call's key.
    pub idempotency_key: Option<String>,
    /// All of it, as a webhook carries it.
    pub body: Value,
}

impl From<Value> for Event {
    fn from(body: Value) -> Self {
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Self {
            id: text("/id").unwrap_or_default(),
            kind: text("/type").unwrap_or_default(),
            created: body["created"].as_i64().unwrap_or_default(),
            customer: text("/data/object/id").unwrap_or_default(),
            object: body["data"]["object"].clone(),
            previous: body["data"]["previous_attributes"].as_object().cloned().unwrap_or_default(),
            request_id: text("/request/id"),
            idempotency_key: text("/request/idempotency_key"),
            body,
        }
    }
}
