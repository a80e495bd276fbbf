//! Deletions: final, both ways, and never by mistake.

use serde_json::json;
use stripe_sim::{Fault, Order};
use tandem_tests::{Setup, Tandem};

use super::{conflicts, with_ada};

/// Variant: an older event of a deleted customer, delivered last, imports it again.
#[tokio::test]
async fn a_creation_told_after_its_deletion_imports_nothing() {
    let tandem = Tandem::start().await;
    tandem.stripe.hold().await.unwrap();
    let born = tandem.stripe.create(&[("name", "Grace")]).await.unwrap();
    tandem.stripe.edit(&born.id, &[("name", "Grace H.")]).await.unwrap();
    tandem.stripe.delete(&born.id).await.unwrap();
    let held = tandem.stripe.webhooks().await.unwrap().held;
    for event in held.iter().rev() {
        tandem.stripe.release(Order::Given(vec![event.clone()])).await.unwrap();
        tandem.settled().await;
    }
    assert!(tandem.customers().await.is_empty());
}

/// Variant: a deletion loses to a later edit, or ends in silence.
#[tokio::test]
async fn a_deletion_is_final_and_keeps_what_the_deleter_had_not_seen() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.delete(&remote).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;

    assert_eq!(tandem.status_of(&ada.id).await, 410);
    let conflicts = conflicts(&tandem, &ada).await;
    assert_eq!(conflicts[0]["catalog"]["value"], "Countess");
    assert_eq!(conflicts[0]["winner"], "deletion");
}

#[tokio::test]
async fn an_edit_there_that_our_deletion_overtook_is_kept() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
    tandem.delete(&ada.id).await;
    tandem.until("the deletion there", || async { tandem.stripe.get(&remote).await.unwrap().deleted }).await;
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;
    assert_eq!(conflicts(&tandem, &ada).await[0]["remote"]["value"], "Lady Lovelace");
}

/// Variant: a 404 is taken for a deletion. A key of another account would delete the catalog, one customer at a time.
#[tokio::test]
async fn an_object_that_the_gateway_never_heard_of_deletes_nothing() {
    let (tandem, ada, remote) = with_ada().await;
    let missing = Fault::status(404).code("resource_missing");
    tandem.stripe.fault(missing.clone().on("POST", "/v1/customers/*").always()).await.unwrap();
    tandem.stripe.fault(missing.on("GET", "/v1/customers/*").always()).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.settled().await;
    assert_eq!(tandem.parked().await[0]["code"], "resource_missing");
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));

    tandem.stripe.clear_faults().await.unwrap();
    let id = tandem.parked().await[0]["id"].as_i64().unwrap();
    tandem.post(&format!("/parked/{id}/retry"), json!({})).await;
    tandem.settled().await;
    assert_eq!(tandem.stripe.get(&remote).await.unwrap().name.as_deref(), Some("Countess"));
}

/// Where deletions are set to unlink, the other side stays, untouched from then on.
#[tokio::test]
async fn a_deletion_may_unlink_instead() {
    let env =
        ["TANDEM_STRIPE__DELETES_INBOUND", "TANDEM_STRIPE__DELETES_OUTBOUND"].map(|name| (name, "unlink".to_owned()));
    let tandem = Tandem::start_with(Setup { env: env.into(), ..Setup::default() }).await;
    let (ada, bob) = (tandem.create("Ada", "ada@old.example").await, tandem.create("Bob", "bob@old.example").await);
    tandem.settled().await;
    let (there_ada, there_bob) = (tandem.remote_id(&ada.id).await, tandem.remote_id(&bob.id).await);
    tandem.delete(&ada.id).await;
    tandem.stripe.delete(&there_bob).await.unwrap();
    tandem.settled().await;
    assert!(!tandem.stripe.get(&there_ada).await.unwrap().deleted);
    assert_eq!(tandem.history(&bob.id).await, ["created", "linked", "unlinked"]);

    tandem.stripe.edit(&there_ada, &[("name", "Countess")]).await.unwrap();
    tandem.patch(&bob.id, json!({"name": "Robert"})).await;
    tandem.settled().await;
    assert_eq!(tandem.history(&ada.id).await, ["created", "linked", "deleted"]);
    assert_eq!(tandem.customers().await.len(), 1);
}

/// Variant: a call to delete what Stripe does not know is parked, and waits for a person who has nothing to decide.
#[tokio::test]
async fn what_is_not_there_is_deleted_enough() {
    let (tandem, ada, remote) = with_ada().await;
    let unknown = || Fault::status(404).code("resource_missing");
    tandem.stripe.fault(unknown().on("DELETE", "/v1/customers/*")).await.unwrap();
    tandem.stripe.fault(unknown().on("GET", "/v1/customers/*")).await.unwrap();
    tandem.delete(&ada.id).await;
    tandem.settled().await;

    assert!(tandem.parked().await.is_empty());
    let link = tandem.get_json(&format!("/customers/{}/links", ada.id)).await["data"][0].clone();
    assert_eq!((&link["state"], &link["remote_id"]), (&json!("deleted"), &json!(remote)));
}
