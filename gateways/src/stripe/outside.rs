//! What comes from outside may be anything: it is read or refused, and ends nothing.

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};
use tandem_domain::{CustomerId, Field, Patch};
use uuid::Uuid;

use super::form;
use super::refusal::Refusal;
use super::webhook::Webhooks;
use crate::{Notice, WebhookError, Write};

const SECRET: &str = "whsec_1";
const NOW: i64 = 1_700_000_000;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

fn verify(signature: &[u8], body: &[u8]) -> Result<Notice, WebhookError> {
    let webhooks = Webhooks::new(vec![SECRET.into()], None, Some(false));
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(signature) {
        headers.insert(HeaderName::from_static("stripe-signature"), value);
    }
    webhooks.verify(&headers, body, now())
}

fn genuine(body: &[u8]) -> Result<Notice, WebhookError> {
    verify(stripe_sim::sign(SECRET, NOW, body).as_bytes(), body)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// An event of ours in which one thing is another.
fn nearly_an_event() -> impl Strategy<Value = Value> {
    const PLACES: [&str; 14] = [
        "/id",
        "/type",
        "/created",
        "/livemode",
        "/account",
        "/request",
        "/request/idempotency_key",
        "/data",
        "/data/object",
        "/data/object/id",
        "/data/object/address",
        "/data/object/metadata",
        "/data/object/name",
        "/data/previous_attributes",
    ];
    (prop::sample::select(&PLACES[..]), any_json()).prop_map(|(place, other)| {
        let mut event = json!({
            "id": "evt_1", "object": "event", "api_version": "2026-09-30.endive", "created": NOW, "account": null,
            "data": {
                "object": { "id": "cus_1", "object": "customer", "name": "Ada", "address": {}, "metadata": {} },
                "previous_attributes": { "name": "Eda" }
            },
            "livemode": false, "request": { "id": "req_1", "idempotency_key": "key" }, "type": "customer.updated"
        });
        if let Some(found) = event.pointer_mut(place) {
            *found = other;
        }
        event
    })
}

fn any_field() -> impl Strategy<Value = Field> {
    prop_oneof![
        prop::sample::select(vec![Field::Name, Field::Email, Field::Phone]),
        "[^\\[\\]]{1,40}".prop_map(Field::Metadata),
    ]
}

proptest! {
    #[test]
    fn a_signature_of_anything_is_refused(signature: Vec<u8>, body: Vec<u8>) {
        prop_assert!(verify(&signature, &body).is_err());
    }

    #[test]
    fn a_signature_that_looks_like_one_is_refused(parts in prop::collection::vec("(t|v1|v0|)=?[0-9a-fx-]{0,70}", 0..6), body: Vec<u8>) {
        prop_assert!(verify(parts.join(",").as_bytes(), &body).is_err());
    }

    #[test]
    fn a_genuine_body_of_any_bytes_is_malformed(body: Vec<u8>) {
        prop_assert!(genuine(&body).is_err());
    }

    #[test]
    fn a_genuine_body_of_any_json_is_read_or_refused(body in any_json()) {
        let _ = genuine(body.to_string().as_bytes());
    }

    #[test]
    fn a_genuine_event_with_anything_in_it_is_read_or_refused(event in nearly_an_event()) {
        let _ = genuine(event.to_string().as_bytes());
    }

    #[test]
    fn an_answer_of_anything_is_an_error(status in 400u16..600, body: Vec<u8>, error in any_json()) {
        let status = StatusCode::from_u16(status).unwrap();
        for body in [body, json!({ "error": error }).to_string().into_bytes()] {
            let _ = Refusal::read(status, &HeaderMap::new(), &body).into_error(true);
        }
    }

    #[test]
    fn a_form_holds_what_was_put_into_it(values in prop::collection::btree_map(any_field(), any::<String>(), 0..8), id: u128) {
        let patch: Patch = values.iter().fold(Patch::default(), |patch, (field, text)| {
            patch.with(field.clone(), Some(tandem_domain::Value::Text(text.clone())))
        });
        let remote_id = CustomerId(Uuid::from_u128(id)).to_string().into();
        let body = form::of(&Write::Update { remote_id, patch }, &tandem_domain::Profile::default());
        let read: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        prop_assert_eq!(read.len(), values.len());
        for ((param, text), (field, sent)) in read.iter().zip(&values) {
            prop_assert_eq!(form::field_of(param), field.to_string());
            prop_assert_eq!(text, sent);
        }
    }

    #[test]
    fn a_parameter_of_any_name_is_named(param: String) {
        let _ = form::field_of(&param);
    }
}

#[test]
fn a_body_nested_without_end_is_refused() {
    for open in ["[", "{\"a\":"] {
        let deep = open.repeat(100_000);
        assert!(genuine(deep.as_bytes()).is_err());
        let event = format!(r#"{{"id":"evt_1","type":"customer.updated","livemode":false,"data":{deep}"#);
        assert!(genuine(event.as_bytes()).is_err());
        let _ = Refusal::read(StatusCode::BAD_REQUEST, &HeaderMap::new(), deep.as_bytes()).into_error(true);
    }
}
