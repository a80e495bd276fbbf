//! What waits for a person, and holds up nobody else.

use serde_json::json;
use stripe_sim::{ClockChange, Fault, Order};
use tandem_tests::{Customer, Setup, Tandem};

use super::{ada_at, no_twins, with_ada};

/// Variant: one refused field holds up all others.
#[tokio::test]
async fn a_rejected_field_does_not_hold_up_the_others() {
    let (tandem, ada, remote) = with_ada().await;
    let no = Fault::status(400).code("email_invalid").param("email");
    tandem.stripe.fault(no.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"email": "ada@bad.example", "name": "Countess"})).await;
    tandem.settled().await;

    let parked = tandem.parked().await;
    assert_eq!((parked.len(), &parked[0]["field"]), (1, &json!("email")));
    let there = tandem.stripe.get(&remote).await.unwrap();
    assert_eq!((there.email.as_deref(), there.name.as_deref()), (Some("ada@old.example"), Some("Countess")));

    tandem.patch(&ada.id, json!({"email": "ada@old.example"})).await;
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty(), "nothing is left for a person to do");
    tandem.assert_equal(&ada.id).await;
}

/// A rejected push is parked, and only it. Variant: the later sight wins over whole records, and the edit here is gone.
#[tokio::test]
async fn a_rejected_push_is_parked_and_a_new_edit_tries_again() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.fault(Fault::status(400).code("email_invalid").on("POST", "/v1/customers/*").always()).await.unwrap();
    tandem.patch(&ada.id, json!({"email": "odd@odd.example"})).await;
    tandem.settled().await;

    let parked = tandem.parked().await;
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert_eq!((parked[0]["kind"].as_str(), parked[0]["code"].as_str()), (Some("rejected"), Some("email_invalid")));
    assert_eq!(parked[0]["customer_id"], ada.id);
    assert!(!parked[0]["reason"].as_str().unwrap().contains("odd@odd.example"));

    // Observing goes on, and others do not notice.
    tandem.stripe.edit(&remote, &[("phone", "2")]).await.unwrap();
    let bob = tandem.create("Bob", "bob@old.example").await;
    tandem.settled().await;
    let here = tandem.get(&ada.id).await;
    assert_eq!((here.phone.as_deref(), here.email.as_deref()), (Some("2"), Some("odd@odd.example")));
    tandem.assert_equal(&bob.id).await;

    tandem.stripe.clear_faults().await.unwrap();
    tandem.patch(&ada.id, json!({"email": "ada@new.example"})).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert!(tandem.parked().await.is_empty());
}

#[tokio::test]
async fn a_parked_push_is_retried_or_dismissed_by_a_person() {
    let (tandem, ada, _) = with_ada().await;
    tandem.stripe.fault(Fault::status(400).code("email_invalid").on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"email": "odd@odd.example"})).await;
    tandem.settled().await;
    let id = tandem.parked().await[0]["id"].as_i64().unwrap();
    assert!(tandem.post(&format!("/parked/{id}/retry"), json!({})).await.status().is_success());
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert!(tandem.parked().await.is_empty());

    tandem.stripe.fault(Fault::status(400).code("email_invalid").on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"email": "odder@odd.example"})).await;
    tandem.settled().await;
    let id = tandem.parked().await[0]["id"].as_i64().unwrap();
    assert!(tandem.post(&format!("/parked/{id}/dismiss"), json!({})).await.status().is_success());
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty());
    assert_eq!(tandem.post(&format!("/parked/{id}/dismiss"), json!({})).await.status(), 404);
}

/// Variant: the second object with one tandem_id is linked, or imported.
#[tokio::test]
async fn a_second_object_with_one_tandem_id_is_parked_as_a_duplicate() {
    let (tandem, ada, _) = with_ada().await;
    tandem.stripe.create(&[("name", "Copy"), ("metadata[tandem_id]", &ada.id)]).await.unwrap();
    tandem.until("parked", || async { tandem.parked().await.len() == 1 }).await;
    tandem.settled().await;
    assert_eq!(tandem.parked().await[0]["kind"], "duplicate");
    assert_eq!(tandem.customers().await.len(), 1);
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Ada"));
}

/// A customer whom the filter keeps away from Stripe.
async fn kept_away() -> (Tandem, Customer) {
    let env = vec![
        ("TANDEM_STRIPE__FILTER__FIELD", "metadata.region".to_owned()),
        ("TANDEM_STRIPE__FILTER__EQUALS", "eu".to_owned()),
    ];
    let tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    // The sweep at start would tell of what is to be missed.
    tandem.stripe.calls_when(1, |call| call.path == "/v1/events" && call.status == Some(200)).await.unwrap();
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    (tandem, ada)
}

/// Variant: of two that are told of together, before any is linked, the second waits for ever, for nobody.
#[tokio::test]
async fn of_two_new_objects_with_one_tandem_id_one_is_linked_and_one_parked() {
    let (tandem, ada) = kept_away().await;
    let mut held = tandem.database.begin().await.unwrap();
    sqlx::query("SELECT FROM links FOR UPDATE").execute(&mut *held).await.unwrap();
    for name in ["Ada", "Copy"] {
        tandem.stripe.create(&[("name", name), ("metadata[tandem_id]", &ada.id)]).await.unwrap();
    }
    tandem.stripe.webhooks_idle().await.unwrap();
    held.rollback().await.unwrap();
    tandem.until("parked", || async { tandem.parked().await.len() == 1 }).await;
    tandem.settled().await;

    assert_eq!(tandem.parked().await[0]["kind"], "duplicate");
    assert_eq!(tandem.rows("inbox", "state = 'waiting'").await, 0);
    assert_eq!(tandem.customers().await.len(), 1);
    tandem.assert_equal(&ada.id).await;
}

/// Variant: the object is taken as it was created. What became of it since is told by nobody any more.
#[tokio::test]
async fn an_object_that_says_whose_it_is_is_looked_at_before_it_is_linked() {
    let (tandem, ada) = kept_away().await;
    tandem.stripe.hold().await.unwrap();
    let object = tandem
        .stripe
        .create(&[("name", "Ada"), ("email", "ada@old.example"), ("metadata[tandem_id]", &ada.id)])
        .await
        .unwrap()
        .id;
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.edit(&object, &[("phone", "2")]).await.unwrap();
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;

    assert_eq!(tandem.remote_id(&ada.id).await, object);
    assert_eq!(tandem.get(&ada.id).await.phone.as_deref(), Some("2"));
    tandem.assert_equal(&ada.id).await;
}

/// Variant: what is corrected is created, and the question about it stays.
#[tokio::test]
async fn a_rejected_create_leaves_nothing_to_do_once_its_field_is_corrected() {
    let tandem = Tandem::start_with(no_twins()).await;
    let no = Fault::status(400).code("email_invalid").param("email");
    tandem.stripe.fault(no.on("POST", "/v1/customers")).await.unwrap();
    let ada = tandem.create("Ada", "ada@bad.example").await;
    tandem.settled().await;
    let parked = tandem.parked().await;
    assert_eq!((parked.len(), &parked[0]["field"]), (1, &json!("email")));

    tandem.patch(&ada.id, json!({"email": "ada@old.example"})).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
    assert_eq!(tandem.get_json(&format!("/customers/{}/links", ada.id)).await["data"][0]["in_sync"], true);
}

/// A second object with the id of a customer who has one, and which is parked.
async fn second_object(tandem: &Tandem, ada: &Customer) -> String {
    let second = tandem.stripe.create(&[("name", "Copy"), ("metadata[tandem_id]", &ada.id)]).await.unwrap().id;
    tandem.until("parked", || async { tandem.parked().await.len() == 1 }).await;
    tandem.settled().await;
    second
}

/// Variant: each edit of it asks anew.
#[tokio::test]
async fn a_second_object_that_a_person_let_be_stays_one() {
    let (tandem, ada, _) = with_ada().await;
    let second = second_object(&tandem, &ada).await;
    let dismiss = format!("/parked/{}/dismiss", tandem.parked().await[0]["id"]);
    assert!(tandem.post(&dismiss, json!({})).await.status().is_success());
    tandem.stripe.edit(&second, &[("name", "Another copy")]).await.unwrap();
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
    assert_eq!(tandem.rows("inbox", "state <> 'done'").await, 0);
    assert_eq!(tandem.customers().await.len(), 1);
}

/// Variant: what is told of it meanwhile waits for ever, for nobody.
#[tokio::test]
async fn of_a_second_object_only_what_was_told_last_waits() {
    let (tandem, ada, _) = with_ada().await;
    let second = second_object(&tandem, &ada).await;
    for name in ["One", "Two"] {
        tandem.stripe.edit(&second, &[("name", name)]).await.unwrap();
        // Webhooks keep no order by themselves.
        tandem.settled().await;
    }
    assert_eq!(tandem.parked().await.len(), 1);
    let last = "state = 'parked' AND change->'profile'->>'name' = 'Two' AND id IN (SELECT inbox_id FROM parked)";
    assert_eq!((tandem.rows("inbox", last).await, tandem.rows("inbox", "state = 'parked'").await), (1, 1));
}

/// Variants: its death is imported and the question stays; and so it is with one that no longer says whose it is.
#[tokio::test]
async fn a_second_object_that_is_none_any_more_is_no_question() {
    let (tandem, ada, _) = with_ada().await;
    let second = second_object(&tandem, &ada).await;
    tandem.stripe.delete(&second).await.unwrap();
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);

    let third = second_object(&tandem, &ada).await;
    tandem.stripe.edit(&third, &[("metadata[tandem_id]", "")]).await.unwrap();
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
    tandem.local_id(&third).await;
    assert_eq!((tandem.customers().await.len(), tandem.rows("inbox", "state <> 'done'").await), (2, 0));
}

/// Variant: it waits for ever, of a customer that is dead.
#[tokio::test]
async fn of_an_unlinked_customer_that_is_deleted_nothing_waits_for_a_person() {
    let (tandem, ada, _) = with_ada().await;
    // As where the object was imported as another customer's before ours knew of it.
    for statement in [
        "UPDATE links SET state = 'unlinked'",
        "INSERT INTO parked (gateway, link_id, kind, field, reason)
         SELECT 'stripe', id, 'rejected', 'metadata.tandem_id', 'it is linked to another customer' FROM links",
    ] {
        sqlx::query(statement).execute(&tandem.database).await.unwrap();
    }
    assert_eq!(tandem.parked().await.len(), 1);
    tandem.delete(&ada.id).await;
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
}

/// Variant: what can never be read is tried twice a minute for ever, and nobody is told.
#[tokio::test]
async fn an_object_that_the_gateway_does_not_know_is_parked_and_is_no_deletion() {
    let (tandem, ada, _) = with_ada().await;
    tandem.stripe.fault(Fault::Fail500AfterWork.on("POST", "/v1/customers/*")).await.unwrap();
    let missing = Fault::status(404).code("resource_missing");
    tandem.stripe.fault(missing.on("GET", "/v1/customers/*").always()).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.until("it is parked", || async { !tandem.parked().await.is_empty() }).await;
    tandem.until("nobody tries", || async { tandem.rows("links", "due_seq > done_seq").await == 0 }).await;

    let parked = tandem.parked().await;
    assert_eq!((&parked[0]["kind"], &parked[0]["code"]), (&json!("rejected"), &json!("resource_missing")));
    assert_eq!(parked[0]["customer_id"], ada.id);
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"), "it is no deletion");

    // Once it is there again, a person tries again.
    tandem.stripe.clear_faults().await.unwrap();
    let retry = format!("/parked/{}/retry", parked[0]["id"]);
    assert!(tandem.post(&retry, json!({})).await.status().is_success());
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty());
    tandem.assert_equal(&ada.id).await;
}

#[tokio::test]
async fn what_can_be_read_again_leaves_nothing_for_a_person_to_do() {
    let tandem = Tandem::start().await;
    tandem.stripe.clock(ClockChange::Freeze).await.unwrap();
    let (tandem, ada, remote) = ada_at(tandem).await;
    let refused = Fault::status(400).code("parameter_unknown");
    tandem.stripe.fault(refused.on("GET", "/v1/customers/*").always()).await.unwrap();
    // Two changes within a second, in which order nobody knows without asking.
    tandem.stripe.edit(&remote, &[("phone", "2")]).await.unwrap();
    tandem.stripe.edit(&remote, &[("phone", "3")]).await.unwrap();
    tandem.stripe.edit(&remote, &[("phone", "4")]).await.unwrap();
    tandem.until("it is parked", || async { !tandem.parked().await.is_empty() }).await;
    assert!(tandem.parked().await[0]["reason"].as_str().unwrap().contains("be read"));

    tandem.stripe.clear_faults().await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty());
    tandem.assert_equal(&ada.id).await;
}
