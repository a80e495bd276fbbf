//! What is done is forgotten after a while, and nothing that is still needed.

use serde_json::json;
use tandem_tests::{Customer, Tandem};

async fn linked(tandem: &Tandem, name: &str) -> (Customer, String) {
    let customer = tandem.create(name, &format!("{name}@x.example")).await;
    tandem.settled().await;
    let remote = tandem.remote_id(&customer.id).await;
    (customer, remote)
}

/// Everything that is there so far was days ago.
async fn days_pass(tandem: &Tandem, days: i32) {
    for (table, column) in [("inbox", "received_at"), ("intents", "created_at"), ("parked", "closed_at")] {
        sqlx::query(&format!("UPDATE {table} SET {column} = {column} - make_interval(days => $1)"))
            .bind(days)
            .execute(&tandem.database)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_was_done_long_ago_is_forgotten_and_what_waits_is_not() {
    let mut tandem = Tandem::start().await;
    let ((ada, ada_there), (eve, eve_there)) = (linked(&tandem, "ada").await, linked(&tandem, "eve").await);
    // A second object of Ada's, which a person let be: a row that was parked.
    tandem.stripe.create(&[("metadata[tandem_id]", &ada.id)]).await.unwrap();
    tandem.until("parked", || async { tandem.parked().await.len() == 1 }).await;
    let dismiss = format!("/parked/{}/dismiss", tandem.parked().await[0]["id"]);
    assert_eq!(tandem.post(&dismiss, json!({})).await.status(), 204);
    // Eve's edit was called for; its echo and another edit there wait for a person to resume.
    tandem.settled().await;
    let called = tandem.rows("intents", "state = 'executed'").await;
    assert_eq!(tandem.post("/gateways/stripe/pause", json!({"direction": "inbound"})).await.status(), 204);
    tandem.patch(&eve.id, json!({"phone": "1"})).await;
    tandem.until("the call", || async { tandem.rows("intents", "state = 'executed'").await == called + 1 }).await;
    tandem.stripe.webhooks_idle().await.unwrap();
    tandem.stripe.edit(&eve_there, &[("name", "Eve of Stripe")]).await.unwrap();
    tandem.until("waiting", || async { tandem.rows("inbox", "state = 'waiting'").await > 0 }).await;
    tandem.stripe.webhooks_idle().await.unwrap();

    tandem.stop();
    days_pass(&tandem, 34).await;
    // One that is older than the others, so that it shows when these were looked at.
    let oldest = "UPDATE intents SET created_at = created_at - interval '30 days'
                  WHERE key = (SELECT min(key) FROM intents WHERE link_id = (SELECT id FROM links WHERE customer_id = $1::uuid))";
    sqlx::query(oldest).bind(&ada.id).execute(&tandem.database).await.unwrap();
    let all = [tandem.rows("inbox", "true").await, tandem.rows("intents", "true").await];
    tandem.start_again().await;
    tandem.until("the oldest is gone", || async { tandem.rows("intents", "true").await < all[1] }).await;
    let left = [tandem.rows("inbox", "true").await, tandem.rows("intents", "true").await];
    assert_eq!(left, [all[0], all[1] - 1], "not old enough");

    tandem.stop();
    days_pass(&tandem, 2).await;
    tandem.start_again().await;
    let kept = "id IN (SELECT inbox_id FROM parked)";
    let done = format!("state = 'done' AND NOT {kept}");
    tandem.until("nothing done", || async { tandem.rows("inbox", &done).await == 0 }).await;
    let hers = format!("link_id IN (SELECT id FROM links WHERE customer_id = '{}')", eve.id);
    tandem.until("no calls but Eve's", || async { tandem.rows("intents", &format!("NOT {hers}")).await == 0 }).await;
    assert!(tandem.rows("inbox", "state = 'waiting'").await > 0);
    assert!(tandem.rows("intents", &hers).await > 0, "by these her echoes are known");

    assert_eq!(tandem.post("/gateways/stripe/resume", json!({})).await.status(), 204);
    tandem.stripe.edit(&ada_there, &[("name", "Countess")]).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));
    for id in [&ada.id, &eve.id] {
        tandem.assert_equal(id).await;
    }
    assert_eq!(tandem.customers().await.len(), 2, "nothing is imported twice");
    assert_eq!(tandem.rows("parked", "state = 'dismissed'").await, 1, "what a person let be is known for ever");
    let verified = tandem.run(&["verify", "stripe"]).await;
    assert_eq!(verified.code, Some(0), "a person let the second object be: {verified:?}");
}
