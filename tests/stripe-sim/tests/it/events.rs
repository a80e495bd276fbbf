//! `/v1/events`: what each change leaves behind.

use serde_json::{Value, json};
use stripe_sim::ClockChange;

use crate::fixtures::stripe;

#[tokio::test]
async fn each_change_makes_an_event_that_names_its_call() {
    let stripe = stripe().await;
    let created = stripe.post_with_key("key-1", "/v1/customers", &[("name", "Ada")]).await;
    let path = format!("/v1/customers/{}", created.id());
    stripe.post_with_key("key-2", &path, &[("name", "Eve"), ("metadata[tier]", "gold")]).await;
    stripe.delete(&path).await;
    let events = stripe.get("/v1/events").await.body;
    let [deleted, updated, first] = events["data"].as_array().unwrap().as_slice() else { panic!("{events}") };
    assert_eq!(first["type"], "customer.created");
    assert_eq!(first["api_version"], "2026-09-30.endive");
    assert_eq!(first["data"], json!({ "object": created.body }));
    let request_id = created.header("request-id").unwrap();
    assert_eq!(first["request"], json!({ "id": request_id, "idempotency_key": "key-1" }));
    assert_eq!((&first["livemode"], &first["pending_webhooks"]), (&json!(false), &json!(0)));
    assert_eq!(updated["type"], "customer.updated");
    assert_eq!(updated["data"]["previous_attributes"], json!({ "name": "Ada", "metadata": { "tier": null } }));
    assert_eq!(updated["request"]["idempotency_key"], "key-2");
    assert_eq!(deleted["type"], "customer.deleted");
    assert_eq!(deleted["data"]["object"]["name"], "Eve");
    assert_eq!(deleted["request"]["idempotency_key"], Value::Null);
    let id = first["id"].as_str().unwrap();
    assert!(id.starts_with("evt_1") && id.len() == 28, "{id}");
    assert_eq!(&stripe.get(&format!("/v1/events/{id}")).await.body, first);
    assert_eq!(stripe.get("/v1/events/evt_none").await.error(), "404 invalid_request_error resource_missing id");
}

#[tokio::test]
async fn setting_what_is_already_so_makes_no_event() {
    let stripe = stripe().await;
    let id = stripe.customer(&[("name", "Ada"), ("metadata[a]", "1")]).await;
    let path = format!("/v1/customers/{id}");
    assert_eq!(stripe.post(&path, &[("name", "Ada"), ("metadata[a]", "1"), ("phone", "")]).await.status, 200);
    assert_eq!(stripe.control.events_of(&id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_address_set_changed_and_unset_shows_its_past() {
    let stripe = stripe().await;
    let id = stripe.customer(&[]).await;
    for fields in [
        vec![("address[city]", "Paris"), ("address[line1]", "1 Rue")],
        vec![("address[city]", "Rome")],
        vec![("address", "")],
    ] {
        stripe.control.edit(&id, &fields).await.unwrap();
    }
    let events = stripe.control.events_of(&id).await.unwrap();
    let past: Vec<Value> = events[1..].iter().map(|event| event.previous["address"].clone()).collect();
    let last = json!({
        "city": "Rome", "country": null, "line1": "1 Rue", "line2": null, "postal_code": null, "state": null,
    });
    assert_eq!(past, [Value::Null, json!({ "city": "Paris" }), last]);
}

#[tokio::test]
async fn created_is_in_whole_seconds_of_the_clock() {
    let stripe = stripe().await;
    stripe.control.clock(ClockChange::FreezeAtMs(1_900_000_000_999)).await.unwrap();
    let created = stripe.post("/v1/customers", &[]).await;
    assert_eq!(created.body["created"], 1_900_000_000);
    assert_eq!(created.header("date"), Some("Sun, 17 Mar 2030 17:46:40 GMT"));
    stripe.control.clock(ClockChange::AdvanceMs(1)).await.unwrap();
    let updated = stripe.control.edit(&created.id(), &[("name", "Ada")]).await.unwrap();
    assert_eq!(updated.created, 1_900_000_000);
    let events = stripe.control.events().await.unwrap();
    assert_eq!([events[0].created, events[1].created], [1_900_000_000, 1_900_000_001]);
    assert_eq!(stripe.control.now_ms().await.unwrap(), 1_900_000_001_000);
}

#[tokio::test]
async fn events_are_found_by_type_and_time_for_thirty_days() {
    let stripe = stripe().await;
    stripe.control.clock(ClockChange::FreezeAtMs(1_900_000_000_000)).await.unwrap();
    let id = stripe.customer(&[]).await;
    stripe.control.clock(ClockChange::AdvanceMs(10_000)).await.unwrap();
    stripe.control.edit(&id, &[("name", "Ada")]).await.unwrap();
    stripe.control.delete(&id).await.unwrap();
    for (query, expected) in [
        ("type=customer.updated", "customer.updated"),
        ("type=customer.*", "customer.deleted customer.updated customer.created"),
        ("types[]=customer.created&types[]=customer.deleted", "customer.deleted customer.created"),
        ("created[gt]=1900000000", "customer.deleted customer.updated"),
        ("created[gte]=1900000000&created[lt]=1900000010", "customer.created"),
        ("created=1900000010&limit=1", "customer.deleted"),
        ("delivery_success=false", ""),
    ] {
        let found = stripe.get(&format!("/v1/events?{query}")).await.body;
        let kinds: Vec<&str> = found["data"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!(kinds.join(" "), expected, "{query}");
    }
    let both = stripe.get("/v1/events?type=a.b&types[]=c.d").await;
    assert_eq!(both.error(), "400 invalid_request_error parameters_exclusive type");
    stripe.control.clock(ClockChange::AdvanceMs(30 * 24 * 3_600_000 - 10_000)).await.unwrap();
    assert_eq!(stripe.get("/v1/events").await.body["data"].as_array().unwrap().len(), 2);
}
