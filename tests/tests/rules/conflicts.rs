//! Edits on both sides that have not seen each other.

use serde_json::{Value, json};
use stripe_sim::{Fault, Order};
use tandem_tests::{Setup, Tandem};

use crate::{conflicts, with_ada};

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

/// The same, where the overwritten edit was the later one: it is taken back.
#[tokio::test]
async fn a_later_edit_that_our_slow_push_overwrote_is_restored() {
    let (tandem, ada, remote) = with_ada().await;
    let slow = tandem.stripe.fault(Fault::Hang.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.stripe.hold().await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.fault_reached(slow, 1).await.unwrap();
    tandem.until_next_second().await;
    tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
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

/// Variant: last write wins over whole records: the field that only one side changed is lost.
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
        let tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
        let ada = tandem.create("Ada", "ada@old.example").await;
        tandem.settled().await;
        let remote = tandem.remote_id(&ada.id).await;
        // The webhook of the edit there is at the door when the edit here is made: neither has seen the other.
        let slow = tandem.stripe.fault(Fault::DropRequest.on("POST", "/v1/customers/*")).await.unwrap();
        tandem.stripe.hold().await.unwrap();
        tandem.patch(&ada.id, json!({"name": "Countess"})).await;
        tandem.stripe.fault_reached(slow, 1).await.unwrap();
        tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
        tandem.stripe.release(Order::Fifo).await.unwrap();
        tandem.settled().await;
        assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some(wins), "policy {policy}");
        tandem.assert_equal(&ada.id).await;
        assert!(!conflicts(&tandem, &ada).await.is_empty());
    }
}
