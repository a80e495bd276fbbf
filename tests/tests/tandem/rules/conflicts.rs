//! Edits on both sides that have not seen each other.

use std::time::Duration;

use serde_json::{Value, json};
use stripe_sim::{Call, ClockChange, Fault, Order, Settings};
use tandem_tests::{Setup, Tandem, others_change};

use super::{ada_at, conflicts, with_ada};

const HOUR_MS: i64 = 3_600_000;

/// Variant: append first and move `base` later, or origin suppresses a push: the value that was changed back returns.
#[tokio::test]
async fn a_value_changed_back_while_the_call_was_out_is_changed_back_there_too() {
    let (tandem, ada, _) = with_ada().await;
    let slow = tandem.stripe.fault(Fault::HangReply.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.fault_reached(slow, 1).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Ada"})).await;
    tandem.stripe.release_fault(slow).await.unwrap();
    tandem.settled().await;

    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Ada"));
    tandem.assert_equal(&ada.id).await;
}

/// Variant: origin suppresses a push. What came from Stripe and was changed there meanwhile must be told again.
#[tokio::test]
async fn a_value_from_stripe_that_a_user_reverts_here_is_reverted_there() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.settled().await;
    tandem.patch(&ada.id, json!({"name": "Ada"})).await;
    tandem.settled().await;
    assert_eq!(tandem.remote(&ada.id).await.name.as_deref(), Some("Ada"));
}

/// Variant: echoes are dropped unchecked. The edit that nobody here had seen is gone without a trace.
#[tokio::test]
async fn an_edit_that_our_push_overwrote_is_found_by_its_echo() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
    tandem.until_next_second().await;
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem
        .until("our push", || async { tandem.stripe.get(&remote).await.unwrap().name.as_deref() == Some("Countess") })
        .await;
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;

    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"), "the later edit");
    let conflicts = conflicts(&tandem, &ada).await;
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(conflicts[0]["remote"]["value"], "Lady Lovelace");
    assert_eq!(conflicts[0]["catalog"]["value"], "Countess");
    assert_eq!(conflicts[0]["winner"], "catalog");
}

/// The same, where the overwritten edit was the later one: it is taken back, however many others were made meanwhile, and
/// whatever Stripe's clock says.
#[tokio::test]
async fn a_later_edit_that_our_slow_push_overwrote_is_restored() {
    for (others, ahead_ms) in [(0, 0), (150, 0), (0, HOUR_MS), (0, -HOUR_MS)] {
        later_edit_overwritten(others, ahead_ms).await;
    }
}

async fn later_edit_overwritten(others: u32, ahead_ms: i64) {
    let tandem = Tandem::start().await;
    tandem.stripe.clock(ClockChange::OffsetMs(ahead_ms)).await.unwrap();
    let (tandem, ada, remote) = ada_at(tandem).await;
    let slow = tandem.stripe.fault(Fault::Hang.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.stripe.hold().await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.fault_reached(slow, 1).await.unwrap();
    tandem.until_next_second().await;
    tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
    others_change(&tandem.stripe, others).await;
    tandem.stripe.release_fault(slow).await.unwrap();
    tandem
        .until("our push", || async { tandem.stripe.get(&remote).await.unwrap().name.as_deref() == Some("Countess") })
        .await;
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;

    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Lady Lovelace"));
    tandem.assert_equal(&ada.id).await;
    assert_eq!(conflicts(&tandem, &ada).await[0]["winner"], "gateway");
}

#[tokio::test]
async fn edits_of_different_fields_on_both_sides_both_stay() {
    let (tandem, ada, remote) = with_ada().await;
    let slow = tandem.stripe.fault(Fault::Hang.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.fault_reached(slow, 1).await.unwrap();
    tandem.stripe.edit(&remote, &[("phone", "2"), ("metadata[plan]", "pro")]).await.unwrap();
    tandem.stripe.release_fault(slow).await.unwrap();
    tandem.settled().await;

    let here = tandem.get(&ada.id).await;
    assert_eq!((here.name.as_deref(), here.phone.as_deref()), (Some("Countess"), Some("2")));
    assert_eq!(here.metadata["plan"], "pro");
    tandem.assert_equal(&ada.id).await;
    assert_eq!(conflicts(&tandem, &ada).await, Vec::<Value>::new());
}

/// Variant: one policy for all. The setting decides.
#[tokio::test]
async fn the_policy_decides_a_conflict() {
    for (policy, wins) in [("catalog", "Countess"), ("gateway", "Lady Lovelace")] {
        let env = vec![("TANDEM_STRIPE__POLICY", policy.to_owned())];
        let (tandem, ada, remote) = ada_at(Tandem::start_with(Setup { env, ..Setup::default() }).await).await;
        // The webhook of the edit there is at the door when the edit here is made: neither has seen the other.
        let slow = tandem.stripe.fault(Fault::DropRequest.on("POST", "/v1/customers/*").always()).await.unwrap();
        tandem.stripe.hold().await.unwrap();
        tandem.patch(&ada.id, json!({"name": "Countess"})).await;
        tandem.stripe.fault_reached(slow, 1).await.unwrap();
        tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
        tandem.stripe.release(Order::Fifo).await.unwrap();
        tandem.stripe.clear_faults().await.unwrap();
        tandem.settled().await;
        assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some(wins), "policy {policy}");
        tandem.assert_equal(&ada.id).await;
        assert!(!conflicts(&tandem, &ada).await.is_empty());
    }
}

/// Variant: append first and move `base` later, with or without Stripe's event id as the command's key. A crash between
/// the two brings back what a user had seen and reverted.
#[tokio::test]
async fn what_came_from_stripe_and_its_base_are_stored_together_or_not_at_all() {
    let tandem = Tandem::start().await;
    tandem.stripe.clock(ClockChange::Freeze).await.unwrap();
    let (mut tandem, ada, remote) = ada_at(tandem).await;
    // Of the same second as the call before: it is asked for.
    let asking = tandem.stripe.fault(Fault::Hang.on("GET", "/v1/customers/*")).await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.stripe.fault_reached(asking, 1).await.unwrap();
    let mut held = tandem.database.begin().await.unwrap();
    sqlx::query("SELECT FROM links FOR UPDATE").execute(&mut *held).await.unwrap();
    tandem.stripe.release_fault(asking).await.unwrap();
    tandem.until("it waits for its link", || tandem.somebody_waits_for_a_lock()).await;

    // Whoever sees the new name here changes it back; and the process is killed.
    tandem.patch(&ada.id, json!({"name": "Ada"})).await;
    tandem.kill();
    held.rollback().await.unwrap();
    tandem.start_again().await;
    tandem.settled().await;

    assert_eq!(tandem.history(&ada.id).await, ["created", "linked", "updated"]);
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));
    tandem.assert_equal(&ada.id).await;
}

/// Variant: what the remote made of X is taken over Y, which a user has chosen since.
#[tokio::test]
async fn a_newer_edit_here_is_not_taken_for_the_remotes_spelling_of_the_old() {
    let stripe = Settings { normalise_email: true, ..Settings::default() };
    let tandem = Tandem::start_with(Setup { stripe, ..Setup::default() }).await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let slow = tandem.stripe.fault(Fault::HangReply.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"email": "X@New.Example"})).await;
    tandem.stripe.fault_reached(slow, 1).await.unwrap();
    tandem.patch(&ada.id, json!({"email": "y@other.example"})).await;
    tandem.stripe.release_fault(slow).await.unwrap();
    tandem.settled().await;

    assert_eq!(tandem.get(&ada.id).await.email.as_deref(), Some("y@other.example"));
    tandem.assert_equal(&ada.id).await;
}

/// Variant: what a look finds is dated by the look, or not at all. Stripe's list of events says when it was edited, though no
/// webhook came.
#[tokio::test]
async fn edits_that_only_a_look_finds_are_dated_by_the_list_of_events() {
    for ahead_ms in [0, HOUR_MS, -HOUR_MS] {
        found_by_a_look(ahead_ms).await;
    }
}

/// By this Stripe's clock, which is so far ahead of ours.
async fn found_by_a_look(ahead_ms: i64) {
    let tandem = Tandem::start().await;
    tandem.stripe.clock(ClockChange::OffsetMs(ahead_ms)).await.unwrap();
    let (tandem, ada, remote) = ada_at(tandem).await;
    assert_eq!(tandem.post("/gateways/stripe/pause", json!({"direction": "outbound"})).await.status(), 204);
    tandem.stripe.drop_webhooks(2).await.unwrap();
    // Of the name the later edit is there, of the phone it is here.
    tandem.stripe.edit(&remote, &[("phone", "1")]).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    for _ in 0..2 {
        tandem.until_next_second().await;
    }
    tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
    tandem.patch(&ada.id, json!({"phone": "2"})).await;
    sqlx::query("UPDATE links SET look = true, due_seq = due_seq + 1").execute(&tandem.database).await.unwrap();
    assert_eq!(tandem.post("/gateways/stripe/resume", json!({})).await.status(), 204);
    tandem.settled().await;

    let ada = tandem.get(&ada.id).await;
    assert_eq!((ada.name.as_deref(), ada.phone.as_deref()), (Some("Lady Lovelace"), Some("2")));
    tandem.assert_equal(&ada.id).await;
}

/// Variant: an edit of before all that the list is asked for counts as made when it was seen.
#[tokio::test]
async fn an_edit_that_the_list_no_longer_tells_is_older_than_the_edit_here() {
    let stripe = Settings { sign_by_clock: true, ..Settings::default() };
    let (tandem, ada, remote) = ada_at(Tandem::start_with(Setup { stripe, ..Setup::default() }).await).await;
    assert_eq!(tandem.post("/gateways/stripe/pause", json!({"direction": "outbound"})).await.status(), 204);
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.edit(&remote, &[("phone", "1")]).await.unwrap();
    others_change(&tandem.stripe, 1_050).await;
    tandem.pass(Duration::from_secs(600)).await;
    tandem.patch(&ada.id, json!({"phone": "2"})).await;
    sqlx::query("UPDATE links SET look = true, due_seq = due_seq + 1").execute(&tandem.database).await.unwrap();
    assert_eq!(tandem.post("/gateways/stripe/resume", json!({})).await.status(), 204);
    tandem.settled().await;

    assert_eq!(tandem.get(&ada.id).await.phone.as_deref(), Some("2"));
    tandem.assert_equal(&ada.id).await;
    assert_eq!(conflicts(&tandem, &ada).await[0]["winner"], "catalog");
}

/// Variant: Stripe's list of changes, which is of the whole account, is read for what a webhook, a look after one, or the reply
/// to our own call has told.
#[tokio::test]
async fn what_is_told_is_not_looked_for_in_the_list() {
    let stripe = Settings { normalise_email: true, sign_by_clock: true, ..Settings::default() };
    let tandem = Tandem::start_with(Setup { stripe, ..Setup::default() }).await;
    let is_list = |call: &Call| call.path == "/v1/events" && call.status == Some(200);
    // The sweep at start reads it.
    tandem.stripe.calls_when(1, is_list).await.unwrap();
    let (tandem, ada, remote) = ada_at(tandem).await;
    let later = Duration::from_secs(60);

    tandem.pass(later).await;
    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.settled().await;
    tandem.pass(later).await;
    // Told of together, so that the object is looked at.
    assert_eq!(tandem.post("/gateways/stripe/pause", json!({"direction": "inbound"})).await.status(), 204);
    for phone in ["1", "2"] {
        tandem.stripe.edit(&remote, &[("phone", phone)]).await.unwrap();
        tandem.stripe.webhooks_idle().await.unwrap();
    }
    assert_eq!(tandem.post("/gateways/stripe/resume", json!({})).await.status(), 204);
    tandem.settled().await;
    tandem.pass(later).await;
    tandem.patch(&ada.id, json!({"email": "X@New.Example"})).await;
    tandem.settled().await;

    let here = tandem.get(&ada.id).await;
    assert_eq!((here.phone.as_deref(), here.email.as_deref()), (Some("2"), Some("x@new.example")));
    let calls = tandem.stripe.calls().await.unwrap();
    assert!(!calls.iter().any(is_list), "{calls:?}");
    assert!(calls.iter().any(|call| call.method == "GET" && call.path == format!("/v1/customers/{remote}")));
}
