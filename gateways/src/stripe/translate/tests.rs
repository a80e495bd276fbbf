//! Stripe's own sample objects, and the shapes that its documentation names.

use serde_json::{Value as Json, json};

use super::*;

/// The sample customer of Stripe's OpenAPI fixtures (MIT).
fn sample() -> Json {
    json!({
        "address": {
            "city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null
        },
        "balance": 0,
        "created": 1234567890,
        "currency": "usd",
        "default_source": null,
        "delinquent": false,
        "description": null,
        "discount": {
            "checkout_session": null, "customer": null, "end": null, "id": "obj_123", "invoice": null,
            "invoice_item": null, "object": "discount", "promotion_code": null, "start": 109757538,
            "subscription": null, "subscription_item": null,
            "source": { "coupon": null, "type": "coupon" }, "customer_account": null
        },
        "email": null,
        "id": "cus_QXg1o8vcGmoR32",
        "invoice_prefix": "7FE1103",
        "invoice_settings": {
            "custom_fields": null, "default_payment_method": null, "footer": null,
            "rendering_options": { "amount_tax_display": null, "template": null }
        },
        "livemode": false,
        "metadata": {},
        "name": null,
        "next_invoice_sequence": 1,
        "object": "customer",
        "phone": null,
        "preferred_locales": [],
        "shipping": {},
        "tax_exempt": "none",
        "test_clock": null
    })
}

/// The sample with these members instead of its own.
fn customer(members: Json) -> Json {
    let mut customer = sample();
    for (name, value) in members.as_object().unwrap() {
        customer[name] = value.clone();
    }
    customer
}

fn read(customer: &Json) -> Object {
    object(&wire::Customer::read(&json::from_str(&customer.to_string()).unwrap()).unwrap()).unwrap()
}

fn profile_of(customer: &Json) -> Json {
    match read(customer) {
        Object::Present { profile, .. } => serde_json::to_value(profile).unwrap(),
        Object::Gone { .. } => panic!("it lives"),
    }
}

fn event(kind: &str, object: Json, previous: Json) -> RemoteChange {
    let event = json!({
        "id": "evt_1Pgc76B7WZ01zgkWwyRHS12y",
        "object": "event",
        "api_version": "2026-09-30.endive",
        "created": 1234567890,
        "data": { "object": object, "previous_attributes": previous },
        "livemode": false,
        "pending_webhooks": 0,
        "request": { "id": "req_1", "idempotency_key": "key-1" },
        "type": kind
    });
    change(json::from_str(&event.to_string()).unwrap()).unwrap()
}

fn previous_of(object: Json, previous: Json) -> Json {
    serde_json::to_value(event("customer.updated", object, previous).previous).unwrap()
}

#[test]
fn an_empty_customer_has_no_field_set() {
    assert_eq!(profile_of(&sample()), json!({}));
    assert_eq!(profile_of(&customer(json!({ "email": "", "metadata": { "plan": "" } }))), json!({}));
}

#[test]
fn every_field_is_read() {
    let full = customer(json!({
        "name": "Ada", "email": "ada@old.example", "phone": "+44 20",
        "address": { "line1": "1 Main St", "line2": "", "city": "London", "country": "GB" },
        "metadata": { "plan": "pro", "seats": "3" }
    }));
    assert_eq!(
        profile_of(&full),
        json!({
            "name": "Ada", "email": "ada@old.example", "phone": "+44 20",
            "address": { "line1": "1 Main St", "city": "London", "country": "GB" },
            "metadata.plan": "pro", "metadata.seats": "3"
        })
    );
}

#[test]
fn our_id_is_read_and_kept_out_of_the_profile() {
    let id = "0192d3a4-0000-7000-8000-000000000001";
    let ours = customer(json!({ "metadata": { "tandem_id": id, "plan": "pro" } }));
    let Object::Present { customer: whose, .. } = read(&ours) else { panic!("it lives") };
    assert_eq!(whose.unwrap().to_string(), id);
    assert_eq!(profile_of(&ours), json!({ "metadata.plan": "pro" }));

    let not_an_id = customer(json!({ "metadata": { "tandem_id": "ada" } }));
    let Object::Present { customer: whose, .. } = read(&not_an_id) else { panic!("it lives") };
    assert_eq!((whose, profile_of(&not_an_id)), (None, json!({})));
}

#[test]
fn a_deleted_customer_is_gone() {
    let deleted = json!({ "deleted": true, "id": "cus_QXg1o8vcGmoR32", "object": "customer" });
    assert_eq!(read(&deleted), Object::Gone { remote_id: "cus_QXg1o8vcGmoR32".to_owned().into() });
}

#[test]
fn a_customer_of_another_api_version_is_read_all_the_same() {
    let old = json!({ "id": "cus_1", "email": "ada@old.example", "sources": { "data": [] }, "tax_info": 7 });
    assert_eq!(profile_of(&old), json!({ "email": "ada@old.example" }));
}

#[test]
fn what_is_not_there_is_not_told_and_what_is_null_is() {
    let fields = |untold: &Untold| untold.fields.iter().map(ToString::to_string).collect::<Vec<_>>();
    let Object::Present { untold, .. } = read(&sample()) else { panic!("it lives") };
    assert!(untold.is_nothing(), "{untold:?}");
    let old = json!({ "id": "cus_1", "email": null, "name": 7 });
    let untold = event("customer.updated", old, Json::Null).untold;
    assert_eq!(
        (fields(&untold), untold.metadata),
        (vec!["name".to_owned(), "phone".to_owned(), "address".to_owned()], true)
    );
}

#[test]
fn an_object_without_an_id_is_nobodys() {
    let event = json!({ "id": "evt_1", "type": "customer.created", "created": 1, "data": { "object": { "id": 7 } } });
    assert_eq!(change(json::from_str(&event.to_string()).unwrap()), None);
}

#[test]
fn nul_characters_are_left_out() {
    let with_nul = customer(json!({ "name": "A\0da", "phone": "\0", "metadata": { "pl\0an": "p\0ro" } }));
    assert_eq!(profile_of(&with_nul), json!({ "name": "Ada", "metadata.plan": "pro" }));
}

#[test]
fn an_event_says_what_when_and_by_which_call() {
    let ada = customer(json!({ "name": "Ada" }));
    let updated = event("customer.updated", ada.clone(), json!({ "name": null }));
    assert_eq!(updated.event_id, "evt_1Pgc76B7WZ01zgkWwyRHS12y");
    assert_eq!(updated.kind, ChangeKind::Updated);
    assert_eq!(updated.created.timestamp(), 1_234_567_890);
    assert_eq!(updated.remote_id.as_str(), "cus_QXg1o8vcGmoR32");
    assert_eq!(updated.profile.text(&Field::Name), Some("Ada"));
    assert_eq!(updated.idempotency_key.as_deref(), Some("key-1"));
    assert_eq!(event("customer.deleted", ada, Json::Null).kind, ChangeKind::Deleted);
}

#[test]
fn an_event_without_a_call_has_no_key() {
    for request in [json!(null), json!("req_1"), json!({ "id": null, "idempotency_key": null })] {
        let old = json!({
            "id": "evt_1", "type": "customer.created", "created": 1, "data": { "object": sample() },
            "request": request
        });
        let change = change(json::from_str(&old.to_string()).unwrap()).unwrap();
        assert_eq!(change.idempotency_key, None);
    }
}

#[test]
fn old_values_are_told_field_by_field() {
    let after = customer(json!({ "name": "Ada", "metadata": { "plan": "pro", "new": "x" } }));
    let old = json!({
        "name": "Eda", "email": null, "description": "old", "invoice_settings": { "footer": null },
        "metadata": { "plan": "free", "new": null, "gone": "y", "tandem_id": "z" }
    });
    assert_eq!(
        previous_of(after, old),
        json!({ "name": "Eda", "email": null, "metadata.plan": "free", "metadata.new": null, "metadata.gone": "y" })
    );
}

#[test]
fn an_old_address_is_whole() {
    let after = customer(json!({ "address": { "line1": "2 Main St", "city": "London", "country": "GB" } }));
    assert_eq!(
        previous_of(after.clone(), json!({ "address": { "line1": "1 Main St", "country": null } })),
        json!({ "address": { "line1": "1 Main St", "city": "London" } })
    );
    let all_null = json!({ "line1": null, "city": null, "country": null });
    assert_eq!(previous_of(after.clone(), json!({ "address": all_null })), json!({ "address": null }));
    assert_eq!(previous_of(after, json!({ "address": null })), json!({ "address": null }));
    let cleared = customer(json!({ "address": null }));
    assert_eq!(
        previous_of(cleared, json!({ "address": { "line1": "1 Main St", "line2": "" } })),
        json!({ "address": { "line1": "1 Main St" } })
    );
}

#[test]
fn metadata_that_was_absent_had_none_of_its_keys() {
    let after = customer(json!({ "metadata": { "plan": "pro" } }));
    assert_eq!(previous_of(after, json!({ "metadata": null })), json!({ "metadata.plan": null }));
}
