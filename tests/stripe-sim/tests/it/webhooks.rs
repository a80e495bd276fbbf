//! Webhooks: signed, sent again, held, doubled, dropped; and the endpoints that take them.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use stripe_sim::{Options, Order, WebhookRetry};

use crate::fixtures::{Endpoint, Received, SECRET, Stripe, stripe};

fn kinds(received: &[Received]) -> Vec<String> {
    received.iter().map(|received| received.event()["type"].as_str().unwrap().replace("customer.", "")).collect()
}

#[tokio::test]
async fn a_webhook_is_the_event_signed_over_time_and_body() {
    let endpoint = Endpoint::start(&[]).await;
    let stripe = Stripe::start(endpoint.options()).await;
    let created = stripe.post_with_key("k", "/v1/customers", &[("name", "Ada")]).await;
    let received = endpoint.received(1).await.remove(0);
    let event = received.event();
    assert_eq!((&event["type"], &event["data"]["object"]), (&json!("customer.created"), &created.body));
    assert_eq!((&event["pending_webhooks"], &event["request"]["idempotency_key"]), (&json!(1), &json!("k")));
    let (time, signature) = received.signature.split_once(",v1=").unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(time.strip_prefix("t=").unwrap().as_bytes());
    mac.update(b".");
    mac.update(&received.body);
    mac.verify_slice(&hex::decode(signature).unwrap()).unwrap();
    stripe.control.webhooks_idle().await.unwrap();
    let id = event["id"].as_str().unwrap();
    assert_eq!(stripe.get(&format!("/v1/events/{id}")).await.body["pending_webhooks"], 0);
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again() {
    let endpoint = Endpoint::start(&[500, 404, 302]).await;
    let retry = WebhookRetry { first: Duration::from_millis(1), ..WebhookRetry::default() };
    let stripe = Stripe::start(Options { webhook_retry: retry, ..endpoint.options() }).await;
    stripe.customer(&[]).await;
    let received = endpoint.received(4).await;
    stripe.control.webhooks_idle().await.unwrap();
    assert_eq!(endpoint.so_far().len(), 4);
    assert!(received.iter().all(|again| again.event()["id"] == received[0].event()["id"]));
    let deliveries = stripe.control.webhooks().await.unwrap().deliveries;
    let statuses: Vec<_> = deliveries.iter().map(|delivery| (delivery.attempt, delivery.status)).collect();
    assert_eq!(statuses, [(1, Some(500)), (2, Some(404)), (3, Some(302)), (4, Some(200))]);
}

#[tokio::test]
async fn held_webhooks_go_out_in_the_order_asked_for() {
    let endpoint = Endpoint::start(&[]).await;
    let stripe = Stripe::start(endpoint.options()).await;
    let change = async || {
        stripe.control.hold().await.unwrap();
        let id = stripe.customer(&[]).await;
        stripe.control.edit(&id, &[("name", "Ada")]).await.unwrap();
        stripe.control.delete(&id).await.unwrap();
    };
    change().await;
    assert_eq!(stripe.control.webhooks().await.unwrap().held.len(), 3);
    stripe.control.release(Order::Reversed).await.unwrap();
    assert_eq!(kinds(&endpoint.so_far()), ["deleted", "updated", "created"]);
    change().await;
    stripe.control.release(Order::Fifo).await.unwrap();
    assert_eq!(kinds(&endpoint.so_far()[3..]), ["created", "updated", "deleted"]);
    change().await;
    let held = stripe.control.webhooks().await.unwrap().held;
    let given = vec![held[1].clone(), held[0].clone(), held[1].clone()];
    let delivered = stripe.control.release(Order::Given(given)).await.unwrap();
    assert!(delivered.iter().all(|delivery| delivery.succeeded()));
    assert_eq!(kinds(&endpoint.so_far()[6..]), ["updated", "created", "updated"]);
    let left = stripe.control.webhooks().await.unwrap();
    assert!(left.holding && left.held == held[2..]);
}

#[tokio::test]
async fn events_are_doubled_dropped_and_delivered_again() {
    let endpoint = Endpoint::start(&[]).await;
    let stripe = Stripe::start(endpoint.options()).await;
    stripe.control.duplicate(1).await.unwrap();
    let id = stripe.customer(&[]).await;
    let twice = endpoint.received(2).await;
    assert_eq!(twice[0].event()["id"], twice[1].event()["id"]);
    stripe.control.drop_webhooks(1).await.unwrap();
    stripe.control.edit(&id, &[("name", "Ada")]).await.unwrap();
    stripe.control.edit(&id, &[("name", "Eve")]).await.unwrap();
    stripe.control.webhooks_idle().await.unwrap();
    let received = endpoint.so_far();
    assert_eq!((received.len(), &received[2].event()["data"]["object"]["name"]), (3, &json!("Eve")));
    let lost = stripe.control.events_of(&id).await.unwrap()[1].clone();
    assert_eq!(stripe.control.deliver(&lost.id).await.unwrap()[0].status, Some(200));
    assert_eq!(endpoint.so_far()[3].event()["data"]["object"]["name"], "Ada");
    stripe.post(&format!("/v1/events/{}/retry", lost.id), &[]).await;
    assert_eq!(endpoint.received(5).await[4].event()["id"], lost.id.as_str());
}

#[tokio::test]
async fn an_endpoint_registered_by_api_gets_what_it_asked_for() {
    let stripe = stripe().await;
    let endpoint = Endpoint::start(&[]).await;
    let form = [("url", endpoint.url.as_str()), ("enabled_events[]", "customer.updated"), ("description", "mine")];
    let created = stripe.post("/v1/webhook_endpoints", &form).await;
    assert!(created.body["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!((&created.body["status"], &created.body["object"]), (&json!("enabled"), &json!("webhook_endpoint")));
    let id = stripe.customer(&[]).await;
    stripe.post(&format!("/v1/customers/{id}"), &[("name", "Ada")]).await;
    assert_eq!(kinds(&endpoint.received(1).await), ["updated"]);
    let path = format!("/v1/webhook_endpoints/{}", created.id());
    let shown = stripe.get(&path).await.body;
    assert_eq!((&shown["description"], shown.get("secret")), (&json!("mine"), None));
    assert_eq!(stripe.get("/v1/webhook_endpoints").await.body["data"][0]["id"], created.id());
    assert_eq!(stripe.post(&path, &[("disabled", "true")]).await.body["status"], "disabled");
    stripe.control.edit(&id, &[("name", "Eve")]).await.unwrap();
    assert_eq!(stripe.delete(&path).await.body["deleted"], true);
    assert_eq!(stripe.get(&path).await.error(), "404 invalid_request_error resource_missing id");
    stripe.control.webhooks_idle().await.unwrap();
    assert_eq!(endpoint.so_far().len(), 1);
    let incomplete = stripe.post("/v1/webhook_endpoints", &[("url", "http://localhost/")]).await;
    assert_eq!(incomplete.error(), "400 invalid_request_error parameter_missing enabled_events");
    let nowhere = stripe.post("/v1/webhook_endpoints", &[("url", "localhost"), ("enabled_events[]", "*")]).await;
    assert_eq!(nowhere.error(), "400 invalid_request_error - url");
}

#[tokio::test]
async fn hundreds_of_webhooks_arrive_once_each() {
    let endpoint = Endpoint::start(&[]).await;
    let stripe = Stripe::start(endpoint.options()).await;
    let stripe = &stripe;
    futures::future::join_all((0..500).map(|_| async { stripe.customer(&[]).await })).await;
    stripe.control.webhooks_idle().await.unwrap();
    let ids: std::collections::BTreeSet<String> =
        endpoint.so_far().iter().map(|received| received.event()["id"].to_string()).collect();
    assert_eq!((ids.len(), endpoint.so_far().len()), (500, 500));
}
