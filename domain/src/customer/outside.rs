//! Stored events may be of any age and from any hand: they are read or refused, and what is read can be applied.

use proptest::prelude::*;
use serde_json::Value;

use super::fixtures::*;
use super::*;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The places of all values in a JSON value.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| places(value, &format!("{here}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, value)| places(value, &format!("{here}/{n}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// An event's JSON in which one thing may be another.
fn nearly_an_event() -> impl Strategy<Value = Value> {
    let events = [created(ada()), linked("cus_1"), deleted()];
    let whole: Vec<Value> = events.iter().map(|event| serde_json::to_value(event).unwrap()).collect();
    (prop::sample::select(whole), any::<prop::sample::Index>(), prop::option::of(any_json())).prop_map(
        |(mut event, place, other)| {
            let mut all = vec![];
            places(&event, "", &mut all);
            if let (Some(other), Some(found)) = (other, event.pointer_mut(&all[place.index(all.len())])) {
                *found = other;
            }
            event
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_refused(bytes: Vec<u8>) {
        let _ = serde_json::from_slice::<CustomerEvent>(&bytes);
    }

    #[test]
    fn what_is_read_can_be_applied_in_any_order(stored in prop::collection::vec(nearly_an_event(), 0..6)) {
        let mut customer = Customer::default();
        for event in stored.into_iter().filter_map(|event| serde_json::from_value::<CustomerEvent>(event).ok()) {
            customer.apply(event);
        }
    }
}
