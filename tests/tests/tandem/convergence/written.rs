//! What a customer's fields were, on each side, and who wrote it.

use std::ops::Range;

use chrono::{DateTime, Utc};
use serde_json::Value;
use stripe_sim::Event;
use tandem_tests::Tandem;

use super::check::{FIELDS, plain};
use super::play::{Born, account_of, there};

/// One field of one customer, from birth to now.
#[derive(Debug)]
pub struct Line {
    pub field: &'static str,
    /// What it was in the catalog, then in each account, each oldest first.
    pub sides: Vec<Vec<Written>>,
    /// Both values of each conflict, the catalog's first.
    pub contested: Vec<(Value, Value)>,
    /// Whether the customer is no more.
    pub deleted: bool,
}

/// A value that a field had, and how it came to have it.
#[derive(Clone, Debug)]
pub struct Written {
    pub value: Value,
    /// By a person on this side; otherwise it was carried over.
    pub by_hand: bool,
    /// Somewhen from here to there, in milliseconds since 1970: Stripe tells whole seconds.
    pub at: Range<i64>,
}

/// How every field begins.
const UNSET: Written = Written { value: Value::Null, by_hand: false, at: 0..0 };

/// All lines of a customer of the catalog.
pub async fn lines(tandem: &Tandem, born: &Born, id: &str) -> Vec<Line> {
    let history = tandem.events(id).await;
    let mut told = vec![];
    for account in 0..tandem.gateways().count() {
        let Some(remote) = there(tandem, born, account).await else { continue };
        told.push(account_of(tandem, account).events_of(&remote).await.unwrap());
    }
    let deleted = history.iter().any(|event| event["type"] == "deleted");
    let line = |field| {
        let sides = std::iter::once(written_here(&history, field));
        let sides = sides.chain(told.iter().map(|told| written_there(told, field))).collect();
        Line { field, sides, contested: contested(&history, field), deleted }
    };
    FIELDS.map(line).into()
}

/// A normalising remote turns emails to lower case.
pub fn same(one: &Value, other: &Value) -> bool {
    match (one.as_str(), other.as_str()) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        _ => one == other,
    }
}

fn contested(history: &[Value], field: &str) -> Vec<(Value, Value)> {
    let conflicts = history.iter().map(|event| &event["conflict"]).filter(|conflict| conflict["field"] == field);
    conflicts.map(|conflict| (conflict["catalog"]["value"].clone(), conflict["remote"]["value"].clone())).collect()
}

fn written_here(history: &[Value], field: &str) -> Vec<Written> {
    let changes = history.iter().filter_map(|event| {
        let change = event["changes"].get(field)?;
        let at: DateTime<Utc> = event["at"].as_str()?.parse().ok()?;
        let at = at.timestamp_millis();
        Some(Written { value: change["after"].clone(), by_hand: event["origin"] == "api", at: at..at + 1 })
    });
    std::iter::once(UNSET).chain(changes).collect()
}

fn written_there(told: &[Event], field: &str) -> Vec<Written> {
    let of = |event: &Event| match field.strip_prefix("metadata.") {
        Some(key) => event.object["metadata"].get(key).cloned().unwrap_or_default(),
        None => plain(event.object[field].clone()),
    };
    let changes = |event: &&Event| match field.strip_prefix("metadata.") {
        Some(key) => event.previous.get("metadata").is_some_and(|metadata| metadata.get(key).is_some()),
        None => event.previous.contains_key(field),
    };
    let born = told.first().filter(|event| event.kind == "customer.created" && !of(event).is_null());
    let written = born.into_iter().chain(told.iter().filter(changes)).map(|event| {
        let at = event.created * 1000..(event.created + 1) * 1000;
        Written { value: of(event), by_hand: event.idempotency_key.is_none(), at }
    });
    std::iter::once(UNSET).chain(written).collect()
}
