//! Pausing a direction, and the guard that does it when too much changes at once.

use serde_json::{Value, json};
use stripe_sim::Fault;
use tandem_tests::{Customer, Setup, Tandem};

async fn with(env: &[(&'static str, &str)]) -> Tandem {
    let env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Tandem::start_with(Setup { env, ..Setup::default() }).await
}

pub(super) async fn linked(tandem: &Tandem, count: usize) -> Vec<(Customer, String)> {
    let mut all = vec![];
    for n in 0..count {
        all.push(tandem.create(&format!("c{n}"), &format!("c{n}@x.example")).await);
    }
    tandem.settled().await;
    let mut linked = vec![];
    for one in all {
        let remote = tandem.remote_id(&one.id).await;
        linked.push((one, remote));
    }
    linked
}

/// A shell in which nobody has set Stripe's key.
const KEYLESS: [(&str, &str); 1] = [("TANDEM_STRIPE__SECRET_KEY", "")];

async fn paused(tandem: &Tandem) -> Vec<Value> {
    tandem.get_json("/gateways").await["data"][0]["pauses"].as_array().unwrap().clone()
}

pub(super) async fn ask(tandem: &Tandem, what: &str, body: Value) {
    assert_eq!(tandem.post(&format!("/gateways/stripe/{what}"), body).await.status(), 204);
}

/// Until every link that is due stands still.
pub(super) async fn at_rest(tandem: &Tandem) {
    tandem.stripe.webhooks_idle().await.unwrap();
    let at_work = "due_seq > done_seq AND (due_seq > paused_seq OR lease_token IS NOT NULL)";
    tandem.until("rest", || async { tandem.rows("links", at_work).await == 0 }).await;
}

async fn living_there(tandem: &Tandem) -> usize {
    tandem.stripe.customers().await.unwrap().iter().filter(|customer| !customer.deleted).count()
}

#[tokio::test]
async fn outbound_edits_wait_and_go_as_one_call() {
    let mut tandem = Tandem::start().await;
    let (ada, remote) = linked(&tandem, 1).await.remove(0);
    ask(&tandem, "pause", json!({"direction": "outbound", "reason": "an audit"})).await;
    tandem.stripe.clear_calls().await.unwrap();
    for phone in ["1", "2", "3"] {
        tandem.patch(&ada.id, json!({"phone": phone})).await;
    }
    tandem.until("the pause", || async { tandem.rows("links", "paused_seq = due_seq").await == 1 }).await;
    at_rest(&tandem).await;
    // The other direction goes on, and a kill changes nothing.
    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.until("the edit there", || async { tandem.get(&ada.id).await.name.as_deref() == Some("Countess") }).await;
    tandem.kill();
    tandem.start_again().await;
    at_rest(&tandem).await;
    let writes = async || tandem.stripe.calls().await.unwrap().into_iter().filter(|call| call.is_write()).count();
    assert_eq!(writes().await, 0);
    assert_eq!(paused(&tandem).await[0]["reason"], "an audit");
    tandem.until("the measure", || async { tandem.measured("tandem_gateway_paused").await > 0.0 }).await;

    let (code, said) = tandem.command(&["status"]).await;
    assert!(code == Some(0) && said.contains("paused      stripe: outbound, by a person: an audit"), "{said}");
    let (code, said) = tandem.command_with(&KEYLESS, &["resume", "stripe"]).await;
    assert!(code == Some(0) && said.contains("outbound"), "{said}");
    tandem.settled().await;
    assert_eq!(writes().await, 1);
    tandem.assert_equal(&ada.id).await;
}

#[tokio::test]
async fn inbound_changes_wait_and_go_on_together() {
    let tandem = Tandem::start().await;
    let (ada, remote) = linked(&tandem, 1).await.remove(0);
    let (code, said) = tandem.command(&["pause", "stripe", "--direction", "inbound"]).await;
    assert_eq!(code, Some(0), "{said}");
    tandem.stripe.edit(&remote, &[("phone", "1")]).await.unwrap();
    let bob = tandem.stripe.create(&[("name", "Bob")]).await.unwrap().id;
    tandem.until("both waiting", || async { tandem.rows("links", "paused_seq = due_seq").await == 2 }).await;
    at_rest(&tandem).await;
    assert_eq!(tandem.get(&ada.id).await.phone, None);
    assert_eq!(tandem.customers().await.len(), 1);

    // A push meanwhile would write over what nobody has seen: it waits for that.
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    at_rest(&tandem).await;
    ask(&tandem, "resume", json!({})).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.phone.as_deref(), Some("1"));
    assert_eq!(tandem.rows("links", &format!("remote_id = '{bob}' AND base IS NOT NULL")).await, 1);
}

/// Fails if only the beginning of a run looks whether the direction is paused.
#[tokio::test]
async fn what_is_told_while_a_call_is_out_waits_too() {
    let tandem = Tandem::start().await;
    let (ada, remote) = linked(&tandem, 1).await.remove(0);
    ask(&tandem, "pause", json!({"direction": "inbound"})).await;
    let out = tandem.stripe.fault(Fault::HangReply.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"phone": "1"})).await;
    tandem.stripe.fault_reached(out, 1).await.unwrap();
    tandem.stripe.customer_when(&remote, |there| there.phone.as_deref() == Some("1")).await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.stripe.webhooks_idle().await.unwrap();
    tandem.stripe.release_fault(out).await.unwrap();

    tandem.until("the call's end", || async { tandem.rows("intents", "state = 'open'").await == 0 }).await;
    at_rest(&tandem).await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("c0"));

    ask(&tandem, "resume", json!({})).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));
}

#[tokio::test]
async fn many_deletions_there_do_not_empty_the_catalog() {
    let tandem = with(&[("TANDEM_STRIPE__GUARD_DELETES", "3")]).await;
    let all = linked(&tandem, 8).await;
    for (_, remote) in &all {
        tandem.stripe.delete(remote).await.unwrap();
    }
    tandem.until("the guard", || async { !paused(&tandem).await.is_empty() }).await;
    at_rest(&tandem).await;
    assert_eq!(tandem.rows("events", "event_type = 'deleted'").await, 3);
    tandem.until("three are seen to be gone", || async { tandem.customers().await.len() == 5 }).await;
    let pause = paused(&tandem).await.remove(0);
    assert_eq!((&pause["direction"], &pause["paused_by"]), (&json!("inbound"), &json!("guard")));
    for env in [&[][..], &KEYLESS] {
        let (code, said) = tandem.command_with(env, &["status"]).await;
        assert!(code == Some(3) && said.contains("paused      stripe: inbound, by the guard"), "{said}");
    }
    let told = tandem.command_with(&KEYLESS, &["status", "--json"]).await.1;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["gateways"][0]["name"], &told["pauses"][0]["paused_by"]), (&json!("stripe"), &json!("guard")));

    // A person looked, and lets it happen: three at a time.
    ask(&tandem, "resume", json!({"direction": "inbound"})).await;
    tandem
        .until("the guard again", || async { tandem.customers().await.len() == 2 && !paused(&tandem).await.is_empty() })
        .await;
    ask(&tandem, "resume", json!({})).await;
    tandem.settled().await;
    assert_eq!(tandem.customers().await.len(), 0);
}

#[tokio::test]
async fn many_deletions_here_do_not_empty_stripe() {
    let tandem = with(&[("TANDEM_STRIPE__GUARD_DELETES", "3")]).await;
    let all = linked(&tandem, 8).await;
    for (one, _) in &all {
        tandem.delete(&one.id).await;
    }
    tandem.until("the guard", || async { !paused(&tandem).await.is_empty() }).await;
    at_rest(&tandem).await;
    assert_eq!(living_there(&tandem).await, 5);
    assert_eq!(paused(&tandem).await[0]["direction"], "outbound");
}

#[tokio::test]
async fn a_field_that_changes_everywhere_stops_the_direction() {
    let tandem =
        with(&[("TANDEM_STRIPE__GUARD_CHANGES_PERCENT", "50"), ("TANDEM_STRIPE__GUARD_CHANGES_AT_LEAST", "4")]).await;
    let all = linked(&tandem, 8).await;
    for (one, _) in &all {
        tandem.patch(&one.id, json!({"phone": "0"})).await;
    }
    tandem.until("the guard", || async { !paused(&tandem).await.is_empty() }).await;
    let pause = paused(&tandem).await.remove(0);
    assert_eq!((&pause["direction"], &pause["paused_by"]), (&json!("outbound"), &json!("guard")));
    assert!(pause["reason"].as_str().unwrap().contains("phone"), "{pause}");

    ask(&tandem, "resume", json!({})).await;
    tandem.settled().await;
    for (one, _) in &all {
        tandem.assert_equal(&one.id).await;
    }
    // One customer edited often is no storm.
    for n in 0..20 {
        tandem.patch(&all[0].0.id, json!({"phone": n.to_string()})).await;
    }
    tandem.settled().await;
    assert!(paused(&tandem).await.is_empty());
}

/// The lock by which one at a time decides about a direction, as whoever resumes takes it.
async fn guard(tandem: &Tandem, direction: &str) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut resuming = tandem.database.begin().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('guard stripe ' || $1, 0))";
    sqlx::query(lock).bind(direction).execute(&mut *resuming).await.unwrap();
    resuming
}

/// Somebody waits for the guard, and holds no link: whoever resumes locks them next.
async fn waits_with_free_hands(tandem: &Tandem, mut resuming: sqlx::Transaction<'static, sqlx::Postgres>) {
    let waits = "datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'";
    tandem.until("the guard is waited for", || async { tandem.rows("pg_stat_activity", waits).await == 1 }).await;
    sqlx::query("SELECT FROM links FOR UPDATE NOWAIT").execute(&mut *resuming).await.unwrap();
    resuming.rollback().await.unwrap();
}

/// Variant: links first, then the guard, and who resumes the other way round: each waits for the other.
#[tokio::test]
async fn who_counts_what_the_feed_tells_waits_for_the_guard_before_it_marks_links() {
    let tandem =
        with(&[("TANDEM_STRIPE__GUARD_CHANGES_PERCENT", "25"), ("TANDEM_STRIPE__GUARD_CHANGES_AT_LEAST", "1")]).await;
    let all = linked(&tandem, 3).await;
    // The feed is read once all else is done, so that nobody else locks a link then.
    let mut behind = tandem.database.begin().await.unwrap();
    let stop = "SELECT FROM checkpoints WHERE name = 'gateway.stripe' FOR UPDATE";
    sqlx::query(stop).execute(&mut *behind).await.unwrap();
    for (one, remote) in &all {
        tandem.patch(&one.id, json!({"phone": "1"})).await;
        tandem.stripe.customer_when(remote, |there| there.phone.is_some()).await.unwrap();
    }
    at_rest(&tandem).await;
    tandem.until("the echoes", || async { tandem.rows("inbox", "state <> 'done'").await == 0 }).await;
    at_rest(&tandem).await;
    let resuming = guard(&tandem, "outbound").await;
    behind.rollback().await.unwrap();
    waits_with_free_hands(&tandem, resuming).await;
    tandem.until("the guard", || async { !paused(&tandem).await.is_empty() }).await;
}

#[tokio::test]
async fn a_deletion_waits_for_the_guard_before_it_holds_its_link() {
    let tandem = Tandem::start().await;
    let (_, remote) = linked(&tandem, 1).await.remove(0);
    let resuming = guard(&tandem, "inbound").await;
    tandem.stripe.delete(&remote).await.unwrap();
    waits_with_free_hands(&tandem, resuming).await;
    tandem.settled().await;
    assert!(tandem.customers().await.is_empty());
}

/// Variant: whoever marks many links waits for each that somebody names, from another table.
#[tokio::test]
async fn a_link_that_is_only_named_is_not_waited_for() {
    let tandem = Tandem::start().await;
    let (ada, _) = linked(&tandem, 1).await.remove(0);
    ask(&tandem, "pause", json!({"direction": "outbound"})).await;
    tandem.patch(&ada.id, json!({"phone": "1"})).await;
    tandem.until("the pause", || async { tandem.rows("links", "paused_seq = due_seq").await == 1 }).await;
    let mut naming = tandem.database.begin().await.unwrap();
    sqlx::query("SELECT FROM links FOR KEY SHARE").execute(&mut *naming).await.unwrap();
    ask(&tandem, "resume", json!({})).await;
    naming.rollback().await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let tandem = Tandem::start().await;
    let status = async |path: &str, body| tandem.post(path, body).await.status().as_u16();
    assert_eq!(status("/gateways/salesforce/pause", json!({})).await, 404);
    assert_eq!(status("/gateways/stripe/pause", json!({"direction": "sideways"})).await, 422);
    assert_eq!(status("/gateways/stripe/pause", json!({"reason": "x".repeat(201)})).await, 422);
    let (code, said) = tandem.command(&["pause", "salesforce"]).await;
    assert!(code == Some(1) && said.contains("no gateway salesforce"), "{said}");
    // A name that the database knows will do, whatever this shell has set.
    linked(&tandem, 1).await;
    for arguments in [&["pause", "stripe"][..], &["resume", "stripe"]] {
        let (code, said) = tandem.command_with(&KEYLESS, arguments).await;
        assert_eq!(code, Some(0), "{said}");
    }
}
