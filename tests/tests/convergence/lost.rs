//! No value that a person wrote is lost: it stands, or somebody who could see it replaced it, or it is in a conflict.

use std::collections::BTreeMap;

use serde_json::Value;
use stripe_sim::Event;
use tandem_tests::Tandem;

use crate::check::{FIELDS, plain};

/// A value that a field had, and how it came to have it.
#[derive(Clone, Debug)]
struct Written {
    value: Value,
    /// By a person on this side; otherwise it was carried over.
    by_hand: bool,
}

/// How every field begins.
const UNSET: Written = Written { value: Value::Null, by_hand: false };

/// Every value that a person wrote is there still, or was replaced by somebody who could see it, or is in a conflict.
pub async fn nothing_lost(tandem: &Tandem, id: &str, remote: &str) -> Result<(), String> {
    let history = tandem.events(id).await;
    let told = tandem.stripe.events_of(remote).await.unwrap();
    let mut contested: BTreeMap<String, Vec<(Value, Value)>> = BTreeMap::new();
    for conflict in history.iter().map(|event| &event["conflict"]).filter(|conflict| conflict.is_object()) {
        let field = conflict["field"].as_str().unwrap_or_default().to_owned();
        let sides = (conflict["catalog"]["value"].clone(), conflict["remote"]["value"].clone());
        contested.entry(field).or_default().push(sides);
    }
    for field in FIELDS {
        let (here, there) = (written_here(&history, field), written_there(&told, field));
        let contested = contested.remove(field).unwrap_or_default();
        let kept = |value: &Value| contested.iter().any(|(ours, theirs)| same(ours, value) || same(theirs, value));
        for (side, mine, other) in [("here", &here, &there), ("there", &there, &here)] {
            for pair in mine.windows(2) {
                let [lost, next] = pair else { continue };
                // Whoever edits a side has seen what is on it.
                if !lost.by_hand || next.by_hand || same(&lost.value, &next.value) {
                    continue;
                }
                // It was carried over, or whoever replaced it had the same before.
                let crossed = other.iter().any(|written| same(&written.value, &lost.value));
                if !crossed && !kept(&lost.value) {
                    return Err(format!(
                        "{field} of {id}: {} was written {side} and is lost\nhere {here:?}\nthere {there:?}\n{contested:?}",
                        lost.value
                    ));
                }
            }
        }
    }
    Ok(())
}

/// A normalising remote turns emails to lower case.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_str(), other.as_str()) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        _ => one == other,
    }
}

fn written_here(history: &[Value], field: &str) -> Vec<Written> {
    let changes = history.iter().filter_map(|event| {
        let change = event["changes"].get(field)?;
        Some(Written { value: change["after"].clone(), by_hand: event["origin"] == "api" })
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
    let written = born.into_iter().chain(told.iter().filter(changes));
    let written = written.map(|event| Written { value: of(event), by_hand: event.idempotency_key.is_none() });
    std::iter::once(UNSET).chain(written).collect()
}
