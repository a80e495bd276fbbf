//! Edits here go to Stripe while inbound stands still; what nobody here has seen waits, however it comes to light.

use serde_json::json;
use stripe_sim::Fault;
use tandem_tests::{Customer, Tandem};

use super::pause::{ask, at_rest, linked};

/// A customer in step, at a gateway that takes nothing in.
async fn ada_while_paused() -> (Tandem, Customer, String) {
    let tandem = Tandem::start().await;
    let (ada, remote) = linked(&tandem, 1).await.remove(0);
    ask(&tandem, "pause", json!({"direction": "inbound"})).await;
    (tandem, ada, remote)
}

/// Until what was told is taken in, and no link waits for a resume.
async fn nothing_waits(tandem: &Tandem) {
    tandem.stripe.webhooks_idle().await.unwrap();
    tandem.until("all told", || async { tandem.rows("inbox", "state <> 'done'").await == 0 }).await;
    at_rest(tandem).await;
    assert_eq!(tandem.rows("links", "paused_seq >= 0").await, 0);
}

/// Until a link waits for a resume.
async fn waits(tandem: &Tandem) {
    tandem.until("the pause", || async { tandem.rows("links", "paused_seq = due_seq").await == 1 }).await;
    at_rest(tandem).await;
}

async fn resumed(tandem: &Tandem) {
    ask(tandem, "resume", json!({})).await;
    tandem.settled().await;
}

/// Fails if what Stripe tells of our own calls waits like news: the next push would wait for it.
#[tokio::test]
async fn pushes_go_on_while_inbound_stands_still() {
    let tandem = Tandem::start().await;
    ask(&tandem, "pause", json!({"direction": "inbound"})).await;
    let ada = tandem.create("Ada", "ada@x.example").await;
    let remote = tandem.remote_id(&ada.id).await;
    for phone in ["1", "2", "3"] {
        nothing_waits(&tandem).await;
        tandem.patch(&ada.id, json!({"phone": phone})).await;
        tandem.stripe.customer_when(&remote, |there| there.phone.as_deref() == Some(phone)).await.unwrap();
    }
    nothing_waits(&tandem).await;
}

/// Fails if what is told of every call of ours is let through: of an edit there that it wrote over nobody here has known.
#[tokio::test]
async fn an_edit_there_that_a_push_wrote_over_is_news_and_waits() {
    let (tandem, ada, remote) = ada_while_paused().await;
    let conflicts = async || {
        let events = tandem.events(&ada.id).await;
        events.into_iter().filter(|event| event["type"] == "conflict_resolved").count()
    };
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.edit(&remote, &[("phone", "9")]).await.unwrap();
    tandem.patch(&ada.id, json!({"phone": "1"})).await;
    tandem.stripe.customer_when(&remote, |there| there.phone.as_deref() == Some("1")).await.unwrap();
    waits(&tandem).await;
    assert_eq!(conflicts().await, 0);

    resumed(&tandem).await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(conflicts().await, 1);
}

/// Fails if what is told of a call whose reply was lost waits: the call would stay open, and each later edit wait for it.
#[tokio::test]
async fn a_push_whose_reply_was_lost_ends_all_the_same() {
    let (tandem, ada, remote) = ada_while_paused().await;
    tandem.stripe.fault(Fault::DropReply.on("POST", "/v1/customers/*")).await.unwrap();
    for phone in ["1", "2"] {
        tandem.patch(&ada.id, json!({"phone": phone})).await;
        tandem.stripe.customer_when(&remote, |there| there.phone.as_deref() == Some(phone)).await.unwrap();
        nothing_waits(&tandem).await;
    }
    assert_eq!(tandem.rows("intents", "state = 'open'").await, 0);
}

/// Fails if all that a call's reply shows is taken in.
#[tokio::test]
async fn an_edit_there_that_only_a_reply_shows_waits() {
    let (tandem, ada, remote) = ada_while_paused().await;
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.patch(&ada.id, json!({"phone": "1"})).await;
    waits(&tandem).await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("c0"));

    resumed(&tandem).await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));
}

/// Fails for a guard that counts deletions, and lets those pass that a push comes upon once it has stopped the others.
#[tokio::test]
async fn a_deletion_there_that_only_a_push_meets_waits() {
    let (tandem, ada, remote) = ada_while_paused().await;
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.delete(&remote).await.unwrap();
    tandem.patch(&ada.id, json!({"phone": "1"})).await;
    waits(&tandem).await;
    assert_eq!(tandem.customers().await.len(), 1);

    resumed(&tandem).await;
    assert_eq!(tandem.customers().await.len(), 0);
}

/// Fails if the end of an object that we deleted is news: the customer could not be erased before inbound is resumed.
#[tokio::test]
async fn a_deletion_here_ends_while_inbound_stands_still() {
    let (tandem, ada, remote) = ada_while_paused().await;
    tandem.delete(&ada.id).await;
    tandem.stripe.customer_when(&remote, |there| there.deleted).await.unwrap();
    nothing_waits(&tandem).await;
}
