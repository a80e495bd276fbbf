//! One test a rule of two-way sync. Each names the variant that looked right, and that it is there to catch.

mod at_once;
mod calls;
mod conflicts;
mod deletes;
mod keys;
mod order;
mod parked;
mod priorities;
mod zoo;

use serde_json::Value;
use tandem_tests::{Customer, Setup, Tandem};

/// A Tandem with one customer who is in step, and her id in Stripe.
async fn with_ada() -> (Tandem, Customer, String) {
    ada_at(Tandem::start().await).await
}

/// The same, in that Tandem.
async fn ada_at(tandem: Tandem) -> (Tandem, Customer, String) {
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let remote = tandem.remote_id(&ada.id).await;
    tandem.stripe.clear_calls().await.unwrap();
    (tandem, ada, remote)
}

/// Nobody looks for a twin before a create: that would find our own copy, too, where only the rule may save the day.
fn no_twins() -> Setup {
    Setup { env: vec![("TANDEM_STRIPE__MATCH", "never".to_owned())], ..Setup::default() }
}

/// What the customer's history says of conflicts.
async fn conflicts(tandem: &Tandem, customer: &Customer) -> Vec<Value> {
    let events = tandem.events(&customer.id).await;
    events
        .into_iter()
        .filter(|event| event["type"] == "conflict_resolved")
        .map(|event| event["conflict"].clone())
        .collect()
}
