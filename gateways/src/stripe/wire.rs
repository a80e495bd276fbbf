//! The parts of Stripe's objects that we read.
//!
//! async-stripe has types for all of them, whole: one field missing or of another shape, as older API versions have
//! them, would fail the object. Events come in the version of the account or the webhook endpoint, whatever we ask for.

use std::collections::BTreeMap;

use miniserde::Deserialize;
use miniserde::json::{Object, Value};

/// "The Customer object"; of a deleted one only `id` and `deleted` are there.
#[derive(Clone, Debug)]
pub(super) struct Customer {
    pub id: String,
    pub deleted: bool,
    pub name: Told<String>,
    pub email: Told<String>,
    pub phone: Told<String>,
    pub address: Told<Address>,
    pub metadata: Told<BTreeMap<String, String>>,
}

/// `None`: it does not say. `Some(None)`: there is none.
pub(super) type Told<T> = Option<Option<T>>;

impl Customer {
    /// What can be read of an object; `None` if it has no id. What is of another shape than ours says nothing.
    pub fn read(object: &Object) -> Option<Self> {
        Some(Self {
            id: id(object)?.to_owned(),
            deleted: matches!(object.get("deleted"), Some(Value::Bool(true))),
            name: told(object, "name", text),
            email: told(object, "email", text),
            phone: told(object, "phone", text),
            address: told(object, "address", Address::read),
            metadata: told(object, "metadata", |held| {
                let Value::Object(held) = held else { return None };
                Some(held.iter().filter_map(|(key, held)| Some((key.clone(), text(held)?))).collect())
            }),
        })
    }
}

/// The id of an object.
pub(super) fn id(object: &Object) -> Option<&str> {
    match object.get("id") {
        Some(Value::String(id)) => Some(id),
        _ => None,
    }
}

fn told<T>(object: &Object, name: &str, read: impl Fn(&Value) -> Option<T>) -> Told<T> {
    match object.get(name)? {
        Value::Null => Some(None),
        held => read(held).map(Some),
    }
}

fn text(held: &Value) -> Option<String> {
    match held {
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// "The Account object".
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Account {
    pub id: String,
}

/// Its address.
#[derive(Clone, Debug, Default)]
pub(super) struct Address {
    pub line1: Option<String>,
    pub line2: Option<String>,
    pub city: Option<String>,
    pub state: Option<String>,
    pub postal_code: Option<String>,
    pub country: Option<String>,
}

impl Address {
    fn read(held: &Value) -> Option<Self> {
        let Value::Object(held) = held else { return None };
        let part = |name: &str| held.get(name).and_then(text);
        Some(Self {
            line1: part("line1"),
            line2: part("line2"),
            city: part("city"),
            state: part("state"),
            postal_code: part("postal_code"),
            country: part("country"),
        })
    }
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
    pub object: Object,
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
