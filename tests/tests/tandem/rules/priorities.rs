//! Live before bulk: what somebody waits for goes before what nobody in particular does, however much of that there is.

use serde_json::json;
use stripe_sim::{Call, Fault};
use tandem_tests::{Setup, Tandem};

use crate::pause::{ask, at_rest, linked};

/// Of sixteen turns, as many as may go to links for which nobody waits.
const IN_BULK: u32 = 12;

/// Many edits that waited for a resume, and calls for as many of them as there are turns for such, which Stripe does not answer:
/// no other of them begins.
async fn stuck_in_bulk() -> (Tandem, Vec<String>, u64) {
    // Longer than this takes: a call that is given up frees its turn.
    let patient = [("TANDEM_STRIPE__TIMEOUT_MS", "250000"), ("TANDEM_GATEWAYS__LEASE_MS", "600000")];
    let env = [("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "86400000")].into_iter().chain(patient);
    let env = env.map(|(name, value)| (name, value.to_owned())).collect();
    let tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    let all: Vec<String> = linked(&tandem, 40).await.into_iter().map(|(customer, _)| customer.id).collect();
    ask(&tandem, "pause", json!({"direction": "outbound"})).await;
    for id in &all[1..] {
        tandem.patch(id, json!({"phone": "1"})).await;
    }
    tandem.until("all wait", || async { tandem.rows("links", "paused_seq = due_seq").await == 39 }).await;
    at_rest(&tandem).await;
    tandem.stripe.clear_calls().await.unwrap();
    let out = tandem.stripe.fault(Fault::Hang.on("POST", "/v1/customers/*").times(IN_BULK)).await.unwrap();
    ask(&tandem, "resume", json!({})).await;
    tandem.stripe.fault_reached(out, IN_BULK).await.unwrap();
    (tandem, all, out)
}

async fn writes(tandem: &Tandem) -> usize {
    tandem.stripe.calls().await.unwrap().iter().filter(|call| Call::is_write(call)).count()
}

/// Variant: all stand in one line, and the longest waiting goes first, whatever it waits for.
#[tokio::test]
async fn an_edit_here_passes_those_that_a_resume_let_go() {
    let (tandem, all, out) = stuck_in_bulk().await;

    tandem.patch(&all[0], json!({"name": "Countess"})).await;

    let there = tandem.remote_id(&all[0]).await;
    tandem.stripe.customer_when(&there, |there| there.name.as_deref() == Some("Countess")).await.unwrap();
    // And who is among those that wait is one of them no longer.
    let waits = "SELECT customer_id::text FROM links WHERE bulk AND due_seq > done_seq AND lease_token IS NULL LIMIT 1";
    let waits: String = sqlx::query_scalar(waits).fetch_one(&tandem.database).await.unwrap();
    tandem.patch(&waits, json!({"name": "Lovelace"})).await;
    let there = tandem.remote_id(&waits).await;
    tandem.stripe.customer_when(&there, |there| there.name.as_deref() == Some("Lovelace")).await.unwrap();
    assert_eq!(writes(&tandem).await, IN_BULK as usize + 2);
    tandem.stripe.release_fault(out).await.unwrap();
    tandem.settled().await;
    for id in &all {
        tandem.assert_equal(id).await;
    }
}

#[tokio::test]
async fn an_edit_in_stripe_passes_them_too() {
    let (tandem, all, out) = stuck_in_bulk().await;

    let there = tandem.remote_id(&all[0]).await;
    tandem.stripe.edit(&there, &[("name", "Countess")]).await.unwrap();
    tandem.until("the name", || async { tandem.get(&all[0]).await.name.as_deref() == Some("Countess") }).await;
    let born = tandem.stripe.create(&[("name", "Grace")]).await.unwrap().id;
    tandem.local_id(&born).await;

    assert_eq!(writes(&tandem).await, IN_BULK as usize);
    tandem.stripe.release_fault(out).await.unwrap();
    tandem.settled().await;
    for id in &all {
        tandem.assert_equal(id).await;
    }
}
