//! What is told of a link at rest: taken in with the webhook itself, if that is all there is to do.

use std::time::Duration;

use serde_json::json;
use stripe_sim::{Order, Settings};
use tandem_tests::{Customer, Setup, Tandem};

use super::{ada_at, with_ada};

const MINUTE: Duration = Duration::from_secs(60);

async fn taken_at_once(tandem: &Tandem) -> f64 {
    tandem.measured("tandem_changes_taken_at_once_total").await
}

async fn named(tandem: &Tandem, customer: &Customer, name: &str) {
    tandem.until("the name", || async { tandem.get(&customer.id).await.name.as_deref() == Some(name) }).await;
}

#[tokio::test]
async fn news_of_a_link_at_rest_is_taken_in_with_the_webhook_and_once() {
    let env = vec![("TANDEM_GATEWAYS__WORKERS", "1".to_owned())];
    let stripe = Settings { sign_by_clock: true, ..Settings::default() };
    let (tandem, ada, remote) = ada_at(Tandem::start_with(Setup { env, stripe, ..Setup::default() }).await).await;
    let bob = tandem.create("Bob", "bob@old.example").await;
    tandem.settled().await;
    let of_bob = tandem.remote_id(&bob.id).await;
    tandem.stripe.clear_calls().await.unwrap();
    for (nth, name) in ["Countess", "Lady Lovelace", "Countess"].into_iter().enumerate() {
        // A run ends a moment after its lease, and with that the process remembers the link. The one worker takes Bob's after it.
        tandem.patch(&bob.id, json!({"phone": format!("{nth}")})).await;
        tandem.settled().await;
        // So that Stripe's whole seconds tell before from after.
        tandem.pass(MINUTE).await;
        tandem.told_a_minute_later(tandem.stripe.edit(&remote, &[("name", name)])).await.unwrap();
        named(&tandem, &ada, name).await;
        let event = tandem.stripe.events_of(&remote).await.unwrap().pop().unwrap();
        tandem.stripe.webhooks_idle().await.unwrap();
        tandem.stripe.deliver(&event.id).await.unwrap();
        tandem.settled().await;
        assert_eq!(taken_at_once(&tandem).await, nth as f64 + 1.0);
        // What follows on it finds both as they are.
        let phone = format!("{nth}");
        tandem.patch(&ada.id, json!({"phone": phone})).await;
        tandem.settled().await;
        tandem.assert_equal(&ada.id).await;
    }
    let edited_twice = ["updated"; 6];
    assert_eq!(tandem.history(&ada.id).await, [&["created", "linked"], edited_twice.as_slice()].concat());
    assert_eq!(tandem.rows("inbox", "state <> 'done'").await, 0);
    let mut calls = tandem.stripe.calls().await.unwrap();
    calls.retain(|call| call.customer.as_ref() != Some(&of_bob));
    assert_eq!(calls.iter().filter(|call| call.is_write()).count(), 3, "one for each edit here");
    assert_eq!(calls.len(), 3, "and nobody asked Stripe");
}

/// Variant: the link is taken for what it was when this process left it. What another has seen of it since is forgotten, and an
/// edit that was taken back long ago comes in.
#[tokio::test]
async fn what_another_process_saw_meanwhile_is_not_forgotten() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.hold().await.unwrap();
    for name in ["Countess", "Ada"] {
        tandem.pass(MINUTE).await;
        tandem.stripe.edit(&remote, &[("name", name)]).await.unwrap();
    }
    // As a look by another process leaves it: it found what was known.
    sqlx::query("UPDATE links SET base_from = base_from + $1, base_until = base_until + $1")
        .bind(3 * MINUTE)
        .execute(&tandem.database)
        .await
        .unwrap();
    let first = tandem.stripe.webhooks().await.unwrap().held[0].clone();
    tandem.stripe.release(Order::Given(vec![first])).await.unwrap();
    tandem.until("the first is told", || async { tandem.rows("inbox", "state = 'done'").await == 2 }).await;
    tandem.settled().await;
    assert_eq!(tandem.history(&ada.id).await, ["created", "linked"]);
    assert_eq!(taken_at_once(&tandem).await, 0.0);

    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
}

#[tokio::test]
async fn what_is_told_while_inbound_is_paused_waits() {
    let (tandem, ada, remote) = with_ada().await;
    let inbound = json!({"direction": "inbound"});
    assert_eq!(tandem.post("/gateways/stripe/pause", inbound.clone()).await.status(), 204);
    tandem.pass(MINUTE).await;
    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.until("the pause", || async { tandem.rows("links", "paused_seq = due_seq").await == 1 }).await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Ada"));

    assert_eq!(tandem.post("/gateways/stripe/resume", inbound).await.status(), 204);
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));
}

/// An edit of the same field here waits to be sent, and Stripe's came first: it loses, and is told so.
#[tokio::test]
async fn news_that_a_newer_edit_here_outdoes_is_written_over_there() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.pass(MINUTE).await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.pass(MINUTE).await;
    let outbound = json!({"direction": "outbound"});
    assert_eq!(tandem.post("/gateways/stripe/pause", outbound.clone()).await.status(), 204);
    tandem.patch(&ada.id, json!({"name": "Lady Lovelace"})).await;
    tandem.until("the pause", || async { tandem.rows("links", "paused_seq = due_seq").await == 1 }).await;
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.stripe.webhooks_idle().await.unwrap();
    assert_eq!(tandem.post("/gateways/stripe/resume", outbound).await.status(), 204);
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Lady Lovelace"));
}
