//! Objects in Stripe that carry the id of a customer that is dead: copied with their metadata, or left of a merge.

use serde_json::{Value, json};
use tandem_tests::{Customer, Setup, Tandem};

/// A Tandem whose one customer is dead on both sides; it hears of Stripe by webhooks alone.
async fn with_a_dead_one() -> (Tandem, Customer, String) {
    let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "86400000".to_owned())];
    let tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    tandem.stripe.calls_when(1, |call| call.path == "/v1/events" && call.status == Some(200)).await.unwrap();
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let object = tandem.remote_id(&ada.id).await;
    tandem.delete(&ada.id).await;
    tandem.settled().await;
    assert!(tandem.stripe.get(&object).await.unwrap().deleted);
    (tandem, ada, object)
}

async fn copy(tandem: &Tandem, of: &Customer, name: &str) -> String {
    tandem.stripe.create(&[("name", name), ("metadata[tandem_id]", &of.id)]).await.unwrap().id
}

/// The same, of which no webhook tells.
async fn untold_copy(tandem: &Tandem, of: &Customer, name: &str) -> String {
    tandem.stripe.drop_webhooks(1).await.unwrap();
    copy(tandem, of, name).await
}

/// It is a customer of its own, and its object says so.
async fn is_its_own(tandem: &Tandem, object: &str, dead: &Customer) -> String {
    let id = tandem.local_id(object).await;
    tandem.settled().await;
    assert_ne!(id, dead.id);
    let there = tandem.stripe.get(object).await.unwrap();
    assert_eq!(there.metadata.get("tandem_id"), Some(&id));
    tandem.assert_equal(&id).await;
    assert_eq!(tandem.status_of(&dead.id).await, 410);
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
    id
}

/// Variant: parked as a duplicate of somebody who is dead, for ever.
#[tokio::test]
async fn a_copy_of_a_dead_customer_is_one_of_its_own() {
    let (tandem, ada, object) = with_a_dead_one().await;
    let copied = copy(&tandem, &ada, "Copy").await;
    let id = is_its_own(&tandem, &copied, &ada).await;
    assert_eq!(tandem.history(&id).await, ["created", "linked"]);

    // What is told of the dead one late, and of the copy before it had an id of its own, brings nobody back.
    for event in tandem.stripe.events().await.unwrap() {
        tandem.stripe.deliver(&event.id).await.unwrap();
    }
    sqlx::query("DELETE FROM inbox").execute(&tandem.database).await.unwrap();
    for event in tandem.stripe.events().await.unwrap() {
        tandem.stripe.deliver(&event.id).await.unwrap();
    }
    tandem.settled().await;
    assert_eq!(tandem.customers().await.len(), 1);
    assert!(tandem.stripe.get(&object).await.unwrap().deleted);
    is_its_own(&tandem, &copied, &ada).await;

    // And it is in step from then on.
    tandem.stripe.edit(&copied, &[("name", "Countess")]).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.get(&id).await.name.as_deref(), Some("Countess"));
}

#[tokio::test]
async fn two_copies_of_a_dead_customer_are_two_even_where_their_metadata_are_full() {
    let (tandem, ada, _) = with_a_dead_one().await;
    let keys: Vec<String> = (0..49).map(|n| format!("metadata[key{n}]")).collect();
    let mut fields: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "1")).collect();
    fields.extend([("name", "One"), ("metadata[tandem_id]", ada.id.as_str())]);
    tandem.stripe.hold().await.unwrap();
    let one = tandem.stripe.create(&fields).await.unwrap().id;
    let two = copy(&tandem, &ada, "Two").await;
    tandem.stripe.release(stripe_sim::Order::Fifo).await.unwrap();
    tandem.settled().await;
    let (one, two) = (is_its_own(&tandem, &one, &ada).await, is_its_own(&tandem, &two, &ada).await);
    assert_ne!(one, two);
    assert_eq!(tandem.customers().await.len(), 2);
}

/// As where two are merged in Stripe: one is deleted, the other goes on with the first one's id.
#[tokio::test]
async fn the_copy_of_a_customer_that_dies_is_a_question_no_longer() {
    let (tandem, _, _) = with_a_dead_one().await;
    let eve = tandem.create("Eve", "eve@old.example").await;
    tandem.settled().await;
    let copied = copy(&tandem, &eve, "Copy").await;
    tandem.until("parked", || async { tandem.parked().await.len() == 1 }).await;
    tandem.stripe.delete(&tandem.remote_id(&eve.id).await).await.unwrap();
    tandem.settled().await;
    is_its_own(&tandem, &copied, &eve).await;
}

/// Variant: it says that it was carried out, and nothing comes.
#[tokio::test]
async fn a_plan_imports_the_copy_of_a_dead_customer() {
    let (tandem, ada, _) = with_a_dead_one().await;
    let copied = untold_copy(&tandem, &ada, "Copy").await;
    let planned = tandem.ran_well(&["plan", "stripe"]).await.stdout;
    let number = planned.split_whitespace().nth(1).unwrap();
    let shown = tandem.ran_well(&["plan", "show", number, "--format", "json"]).await.json();
    assert_eq!(shown["rows"][0]["action"], "create_here", "{shown}");
    tandem.ran_well(&["apply", number]).await;
    is_its_own(&tandem, &copied, &ada).await;
}

#[tokio::test]
async fn a_verification_imports_the_copy_of_a_dead_customer() {
    let (tandem, ada, _) = with_a_dead_one().await;
    let copied = untold_copy(&tandem, &ada, "Copy").await;
    let ran = tandem.run(&["verify", "stripe", "--repair", "--format", "json"]).await;
    assert_eq!((ran.code, &ran.json()["rows"][0]["kind"]), (Some(2), &json!("missing_here")), "{ran:?}");
    is_its_own(&tandem, &copied, &ada).await;
    assert_eq!(tandem.run(&["verify", "stripe"]).await.code, Some(0));
}

/// Variant: `link` says that it is not ambiguous, and `retry` parks it again.
#[tokio::test]
async fn a_person_links_a_parked_copy_of_a_dead_customer_to_one_of_its_own() {
    let (tandem, _, _) = with_a_dead_one().await;
    for answer in ["link", "retry"] {
        let eve = tandem.create("Eve", "eve@old.example").await;
        tandem.settled().await;
        let copied = copy(&tandem, &eve, "Copy").await;
        tandem.until("parked", || async { tandem.parked().await.len() == 1 }).await;
        let id = tandem.parked().await[0]["id"].clone();
        assert_eq!(tandem.post(&format!("/parked/{id}/link"), json!({})).await.status(), 409, "it lives");
        // As it was parked by an older Tandem, which let it wait.
        let hide = async |kind: &str| {
            let statement = format!("UPDATE parked SET kind = '{kind}' WHERE id = {id}");
            sqlx::query(&statement).execute(&tandem.database).await.unwrap();
        };
        hide("rejected").await;
        tandem.delete(&eve.id).await;
        tandem.settled().await;
        hide("duplicate").await;
        let (status, said) = {
            let answered = tandem.post(&format!("/parked/{id}/{answer}"), json!({})).await;
            (answered.status(), answered.text().await.unwrap())
        };
        assert_eq!(status, 204, "{said}");
        let own = is_its_own(&tandem, &copied, &eve).await;
        tandem.delete(&own).await;
        tandem.settled().await;
    }
}

/// Variants: what cannot be told its id is told again for ever; or it holds up everything else.
#[tokio::test]
async fn a_claim_that_stripe_refuses_waits_for_a_person_and_holds_up_nothing() {
    let (tandem, ada, _) = with_a_dead_one().await;
    let no = stripe_sim::Fault::status(400).code("parameter_invalid").on("POST", "/v1/customers/*");
    tandem.stripe.fault(no).await.unwrap();
    let copied = copy(&tandem, &ada, "Copy").await;
    let id = tandem.local_id(&copied).await;
    tandem.settled().await;
    let parked: Vec<Value> = tandem.parked().await;
    assert_eq!((parked.len(), &parked[0]["field"]), (1, &json!("metadata.tandem_id")), "{parked:?}");
    tandem.patch(&id, json!({"name": "Countess"})).await;
    tandem.settled().await;
    tandem.assert_equal(&id).await;
    assert_eq!(tandem.parked().await.len(), 1);
    let retry = format!("/parked/{}/retry", parked[0]["id"]);
    assert!(tandem.post(&retry, json!({})).await.status().is_success());
    tandem.settled().await;
    is_its_own(&tandem, &copied, &ada).await;
}
