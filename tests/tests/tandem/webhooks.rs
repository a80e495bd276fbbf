//! Signed webhooks that tell of no customer of ours.

use serde_json::{Value, json};
use stripe_sim::sign;
use tandem_tests::{Tandem, WEBHOOK_SECRET};

/// Sends it as Stripe would; the status, and the answer.
async fn told(tandem: &Tandem, event: &Value) -> (u16, Value) {
    let body = event.to_string();
    let now = tandem.stripe.now_ms().await.unwrap() / 1000;
    let request = tandem.http().post(tandem.at("/webhooks/stripe")).body(body.clone());
    let signed = request.header("stripe-signature", sign(WEBHOOK_SECRET, now, body.as_bytes()));
    let answer = signed.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn created(more: Value) -> Value {
    let mut event = json!({
        "id": "evt_1", "object": "event", "type": "customer.created", "created": 1_700_000_000, "livemode": false,
        "data": { "object": { "id": "cus_1", "object": "customer", "name": "Ada" } }
    });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

/// Variant: refused, Stripe sends each again for days, and then switches the endpoint off.
#[tokio::test]
async fn events_of_others_are_taken_counted_and_shown() {
    let tandem = Tandem::start().await;
    let others = [
        created(json!({ "account": "acct_other" })),
        created(json!({ "livemode": true })),
        created(json!({ "livemode": true, "type": "invoice.paid" })),
    ];
    for other in &others {
        assert_eq!(told(&tandem, other).await, (200, json!({ "outcome": "foreign" })));
    }
    let unsigned = tandem.http().post(tandem.at("/webhooks/stripe")).body(others[0].to_string()).send().await.unwrap();
    assert_eq!(unsigned.status(), 400);
    tandem.until("they are counted", || async { tandem.get_json("/gateways").await["data"][0]["foreign"] == 3 }).await;
    tandem.settled().await;

    let gateway = &tandem.get_json("/gateways").await["data"][0];
    assert_eq!(gateway["foreign_whose"], json!(["another_account", "live_mode"]));
    assert!(gateway["foreign_at"].is_string(), "{gateway}");
    let said = tandem.run(&["status"]).await.stdout;
    assert!(said.contains("3 signed webhooks were of another_account, live_mode"), "{said}");
    let log = tandem.log();
    assert_eq!(log.matches("ignored a signed webhook").count(), 1, "once an hour: {log}");
    assert!(tandem.customers().await.is_empty());
    assert_eq!((tandem.rows("inbox", "true").await, tandem.rows("links", "true").await), (0, 0));
}

/// Variant: the webhook by which the Dashboard tries an endpoint becomes a customer without a field.
#[tokio::test]
async fn what_stripe_sends_to_try_the_endpoint_makes_no_customer() {
    let tandem = Tandem::start().await;
    let zeros = json!({ "id": "evt_00000000000000", "data": { "object": { "id": "cus_00000000000000", "object": "customer" } } });
    assert_eq!(told(&tandem, &created(zeros)).await, (200, json!({ "outcome": "test" })));
    tandem.settled().await;
    assert!(tandem.customers().await.is_empty());
    let shown = tandem.http().get(tandem.at("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(shown.lines().any(|line| line.contains("tandem_webhooks_total") && line.contains("\"test\"")), "{shown}");
}

#[tokio::test]
async fn of_an_event_that_cannot_be_read_it_is_said_which_member_is_wrong() {
    let tandem = Tandem::start().await;
    let event = created(json!({ "data": { "object": { "id": ["cus_1"], "email": "ada@old.example" } } }));
    let (status, problem) = told(&tandem, &event).await;
    let said = problem.to_string();
    assert_eq!(status, 400, "{said}");
    assert!(said.contains("`data.object.id` is a list, and must be a text"), "{said}");
    assert!(!said.contains("ada@old.example"), "{said}");
}
