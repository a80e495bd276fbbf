//! Once for each idempotency key: what a person decides, too.

use reqwest::Response;
use serde_json::{Value, json};
use stripe_sim::Fault;
use tandem_tests::Tandem;

use super::with_ada;

async fn keyed(tandem: &Tandem, path: &str, key: &str, body: Value) -> Response {
    tandem.http().post(tandem.at(path)).header("Idempotency-Key", key).json(&body).send().await.unwrap()
}

/// It was done, now or before.
fn done(answer: &Response) -> &'static str {
    assert_eq!(answer.status(), 204);
    if answer.headers().get("idempotent-replayed").is_some_and(|value| value == "true") { "before" } else { "now" }
}

async fn refused_as_reused(answer: Response) {
    assert_eq!(answer.status(), 422);
    assert_eq!(answer.json::<Value>().await.unwrap()["type"], "urn:tandem:problem:idempotency-key-reused");
}

/// One rejected push of her email, and its number.
async fn rejected(tandem: &Tandem, ada: &str, email: &str) -> i64 {
    tandem.stripe.fault(Fault::status(400).code("email_invalid").on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(ada, json!({"email": email})).await;
    tandem.settled().await;
    tandem.parked().await[0]["id"].as_i64().unwrap()
}

/// Variant: the repeat is another retry, and finds nothing parked.
#[tokio::test]
async fn a_repeated_retry_or_dismissal_is_answered_as_the_first_was() {
    let (tandem, ada, _) = with_ada().await;
    let first = rejected(&tandem, &ada.id, "odd@odd.example").await;
    let retry = format!("/parked/{first}/retry");
    let all = futures::future::join_all((0..8).map(|_| keyed(&tandem, &retry, "k1", json!({})))).await;
    assert_eq!(all.iter().filter(|answer| done(answer) == "now").count(), 1);
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(done(&keyed(&tandem, &retry, "k1", json!({})).await), "before");

    let second = rejected(&tandem, &ada.id, "odder@odd.example").await;
    refused_as_reused(keyed(&tandem, &format!("/parked/{second}/retry"), "k1", json!({})).await).await;
    refused_as_reused(keyed(&tandem, &format!("/parked/{second}/dismiss"), "k1", json!({})).await).await;
    assert_eq!(tandem.parked().await.len(), 1, "what is refused does nothing");

    // What is refused leaves its key free.
    let dismiss = format!("/parked/{second}/dismiss");
    assert_eq!(keyed(&tandem, "/parked/999999/dismiss", "k2", json!({})).await.status(), 404);
    assert_eq!(done(&keyed(&tandem, &dismiss, "k2", json!({})).await), "now");
    assert_eq!(done(&keyed(&tandem, &dismiss, "k2", json!({})).await), "before");
    assert_eq!(keyed(&tandem, &dismiss, "k3", json!({})).await.status(), 404);
    // One key is one request, of customers, too.
    refused_as_reused(keyed(&tandem, "/customers", "k2", json!({"name": "Bob"})).await).await;
}

/// Variant: the repeat pauses again what a person has resumed since.
#[tokio::test]
async fn a_late_repeat_of_a_pause_does_not_pause_what_was_resumed_since() {
    let tandem = Tandem::start().await;
    let paused = async || tandem.get_json("/gateways").await["data"][0]["pauses"].as_array().unwrap().len();
    let outbound = json!({"direction": "outbound"});
    let [pause, resume] = ["pause", "resume"].map(|what| format!("/gateways/stripe/{what}"));

    assert_eq!(done(&keyed(&tandem, &pause, "k1", outbound.clone()).await), "now");
    assert_eq!(paused().await, 1);
    assert_eq!(done(&keyed(&tandem, &resume, "k2", json!({})).await), "now");
    assert_eq!(done(&keyed(&tandem, &pause, "k1", outbound).await), "before");
    assert_eq!(paused().await, 0);
    refused_as_reused(keyed(&tandem, &pause, "k1", json!({"direction": "inbound"})).await).await;

    assert_eq!(done(&keyed(&tandem, &pause, "k3", json!({})).await), "now");
    assert_eq!(done(&keyed(&tandem, &resume, "k2", json!({})).await), "before");
    assert_eq!(paused().await, 2, "nor does a late repeat of a resume let go what was paused since");
}

/// Variant: the repeat finds nothing parked.
#[tokio::test]
async fn a_repeated_link_is_answered_as_the_first_was() {
    let tandem = Tandem::start().await;
    // The first sweep would tell of what is a moment old.
    tandem.stripe.calls_when(1, |call| call.path == "/v1/events" && call.status == Some(200)).await.unwrap();
    tandem.stripe.drop_webhooks(1).await.unwrap();
    let there = tandem.stripe.create(&[("email", "ada@old.example")]).await.unwrap().id;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;

    let link = format!("/parked/{}/link", tandem.parked().await[0]["id"]);
    let chosen = json!({"candidate": there});
    assert_eq!(done(&keyed(&tandem, &link, "k1", chosen.clone()).await), "now");
    assert_eq!(done(&keyed(&tandem, &link, "k1", chosen).await), "before");
    refused_as_reused(keyed(&tandem, &link, "k1", json!({})).await).await;
    assert_eq!(tandem.remote_id(&ada.id).await, there);
}
