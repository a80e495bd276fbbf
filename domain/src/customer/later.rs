//! What a later version wrote: fields and members that this one does not know. It reads on, and loses nothing.

use serde_json::json;

use super::fixtures::*;
use super::*;
use crate::{Policies, Spelling, Value};

/// A history of a later version, which knows `description` and `shipping`, and says more of each event.
fn history() -> Vec<serde_json::Value> {
    let at = "2023-11-14T22:13:20Z";
    vec![
        json!({"type": "created", "at": at, "actor": "key_1",
               "profile": {"name": "Ada", "description": "pays late", "shipping": {"name": "Ada", "address": {"line1": "1"}}}}),
        json!({"type": "linked", "gateway": "stripe", "remote_id": "cus_1", "at": at, "mode": "live"}),
        json!({"type": "updated", "at": at, "actor": "key_1", "changes": {
            "description": {"before": "pays late", "after": "pays", "edited_at": at, "by": "Grace"},
            "shipping": {"before": null, "after": {"carrier": 7}, "edited_at": at},
            "phone": {"before": null, "after": "1", "edited_at": at, "by": "Grace"}}}),
        json!({"type": "conflict_opened", "gateway": "stripe", "field": "description", "at": at, "why": "late",
               "catalog": {"value": "pays", "edited_at": at}, "remote": {"value": "never pays", "edited_at": at}}),
        json!({"type": "conflict_resolved", "gateway": "stripe", "field": "shipping", "at": at, "winner": "catalog",
               "policy": "latest", "catalog": {"value": {"carrier": 7}, "edited_at": at}, "remote": {"value": null, "edited_at": at}}),
    ]
}

fn ada_of(history: Vec<serde_json::Value>) -> Customer {
    let mut customer = Customer::default();
    for event in history {
        customer.apply(serde_json::from_value(event).unwrap());
    }
    customer
}

fn description() -> Field {
    Field::from("description".to_owned())
}

#[test]
fn fields_of_a_later_version_are_carried_along() {
    let ada = ada_of(history());
    let profile = ada.profile().unwrap();

    assert_eq!(profile.text(&description()), Some("pays"));
    assert_eq!(profile.get(&Field::from("shipping".to_owned())), Some(&Value::Other(json!({"carrier": 7}))));
    let stored = json!({"name": "Ada", "phone": "1", "description": "pays", "shipping": {"carrier": 7}});
    assert_eq!(serde_json::to_value(profile).unwrap(), stored);
    assert_eq!(&serde_json::from_value::<Profile>(stored).unwrap(), profile);
}

#[test]
fn fields_of_a_later_version_are_not_pushed_merged_or_checked() {
    let ada = ada_of(history());
    let held = Profile::default().with(Field::Name, text("Ada")).with(Field::Phone, text("1"));
    assert!(ada.differences_from(&stripe(), &held, &Spellings::new()).is_empty());
    assert_eq!(ada.profile().unwrap().check(), Ok(()));
    assert!(ada.profile().unwrap().equals(&held));

    let spelling = Spelling { sent: Some(text("pays")), held: Some(text("PAYS")) };
    let sight = Sight::Present {
        profile: held.clone(),
        edited_at: BTreeMap::new(),
        told_at: BTreeMap::new(),
        seen_at: later(),
    };
    let observe = Observe {
        gateway: stripe(),
        remote_id: "cus_1".to_owned().into(),
        base: held.with_unknown_of(ada.profile().unwrap()),
        sight,
        spellings: Spellings::from([(description(), spelling)]),
        overwritten: vec![],
        policies: Policies::default(),
        at: later(),
    };
    let intake = ada.take_in(&observe);
    assert_eq!(intake.events, []);
    assert!(intake.spellings.contains_key(&description()), "it is that version's to forget");
}

#[test]
fn other_edits_leave_the_fields_of_a_later_version_alone() {
    let mut ada = ada_of(history());
    for event in ada.decide(update(Field::Phone, Some("2"))).unwrap() {
        ada.apply(event);
    }
    let profile = ada.profile().unwrap();
    assert_eq!((profile.text(&Field::Phone), profile.text(&description())), (Some("2"), Some("pays")));
}

#[test]
fn a_person_names_no_field_of_a_later_version() {
    assert!("description".parse::<Field>().is_err());
    assert!(description().check(&text("x")).is_err());
}

#[test]
fn a_later_value_of_a_field_that_is_known_is_not_guessed_at() {
    let address = json!({"type": "created", "at": at(), "profile": {"address": {"line1": "1", "line3": "3"}}});
    assert!(serde_json::from_value::<CustomerEvent>(address).is_err());
    let change = json!({"before": null, "after": 7, "edited_at": at()});
    let name = json!({"type": "updated", "at": at(), "changes": {"name": change}});
    assert!(serde_json::from_value::<CustomerEvent>(name).is_err());
    assert!(serde_json::from_value::<CustomerEvent>(json!({"type": "renamed", "at": at()})).is_err());
}
