//! Kills and cuts in the middle: nothing lost, nothing doubled, nothing stuck.

use serde_json::{Value, json};
use stripe_sim::Fault;
use tandem_local::Postgres;
use tandem_local::test::{self, Own};
use tandem_tests::{Customer, Setup, Tandem};

/// Edits on both sides, one after the other, however the servers fare; returns the customers' ids.
async fn edit_both_sides(tandem: &Tandem, ids: &[String], round: usize) {
    for (n, id) in ids.iter().enumerate() {
        let name = format!("name {round} {n}");
        let patch = tandem.http().patch(tandem.at(&format!("/customers/{id}"))).json(&json!({"name": name}));
        // A server that is away answers nothing: such an edit was never taken, and nobody was told that it was.
        let _ = patch.send().await;
        let remote: Option<String> = sqlx::query_scalar("SELECT remote_id FROM links WHERE customer_id = $1::uuid")
            .bind(id)
            .fetch_one(&tandem.database)
            .await
            .unwrap_or_default();
        if let Some(remote) = remote {
            tandem.stripe.edit(&remote, &[("phone", &format!("{round}{n}"))]).await.unwrap();
        }
    }
}

async fn assert_all_equal(tandem: &Tandem, ids: &[String]) {
    for id in ids {
        tandem.assert_equal(id).await;
    }
    assert_eq!(tandem.customers().await.len(), ids.len(), "nothing lost, nothing doubled");
    assert_eq!(tandem.stripe.customers().await.unwrap().len(), ids.len(), "nothing lost, nothing doubled");
    assert_eq!(tandem.rows("intents", "state = 'open'").await, 0);
}

async fn some_customers(tandem: &Tandem) -> Vec<String> {
    let mut ids = vec![];
    for n in 0..8 {
        ids.push(tandem.create(&format!("name {n}"), &format!("c{n}@old.example")).await.id);
    }
    ids
}

#[tokio::test]
async fn tandem_killed_again_and_again_loses_nothing() {
    let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "500".to_owned())];
    let mut tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    let ids = some_customers(&tandem).await;
    for round in 0..4 {
        edit_both_sides(&tandem, &ids, round).await;
        tandem.kill();
        edit_both_sides(&tandem, &ids, 10 + round).await;
        tandem.start_again().await;
    }
    tandem.settled().await;
    assert_all_equal(&tandem, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_in_the_middle_loses_nothing() {
    let mut postgres = test::own_postgres().await;
    let setup = Setup { database_url: Some(postgres.url("postgres")), ..Setup::default() };
    let mut tandem = Tandem::start_with(setup).await;
    let ids = some_customers(&tandem).await;
    for round in 0..3 {
        edit_both_sides(&tandem, &ids, round).await;
        tokio::task::block_in_place(|| {
            postgres.kill();
            postgres.restart().unwrap();
        });
        tandem.ready().await;
    }
    edit_both_sides(&tandem, &ids, 9).await;
    tandem.settled().await;
    assert_all_equal(&tandem, &ids).await;
}

/// A PostgreSQL that forgets what nobody waited for, and a Tandem on it with a gate at that point and a customer in step.
async fn with_a_gate_at(point: &str) -> (Own<Postgres>, Tandem, Customer) {
    let postgres = test::own_forgetful_postgres().await;
    let env = vec![("TANDEM_TEST_WAIT_AT", point.to_owned())];
    let setup = Setup { database_url: Some(postgres.url("postgres")), env, ..Setup::default() };
    let tandem = Tandem::start_with(setup).await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    (postgres, tandem, ada)
}

/// Variant: whoever holds the lease goes on although a crash of PostgreSQL took what it had just stored. What Stripe told then
/// counts as taken in, and is in no customer.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_step_a_crash_of_postgres_took_has_lost_its_lease() {
    let (mut postgres, mut tandem, ada) = with_a_gate_at("merge-committed").await;
    let remote = tandem.remote_id(&ada.id).await;
    // No relay writes it to disk by a commit of its own.
    let mut numbering = tandem.database.begin().await.unwrap();
    sqlx::query("SELECT FROM feed FOR UPDATE").execute(&mut *numbering).await.unwrap();
    tandem.close_gate();
    tandem.stripe.edit(&remote, &[("name", "Grace")]).await.unwrap();
    tandem.gate_reached().await;
    tandem.stripe.webhooks_idle().await.unwrap();
    tokio::task::block_in_place(|| {
        postgres.kill();
        postgres.restart().unwrap();
    });
    tandem.ready().await;
    // When it leases again, the connections of before are gone, and nothing else tells the run that there was a crash.
    tandem
        .until("links are leased again", || async {
            let leasing = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'WITH live AS (%'";
            sqlx::query_scalar::<_, i64>(leasing).fetch_one(&tandem.database).await.is_ok_and(|sessions| sessions > 0)
        })
        .await;
    tandem.open_gate();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Grace"));
}

/// Variant: a customer's history shows what others may see and the disk does not have yet. A crash of PostgreSQL takes it, and who
/// had read it knows of an event that there never was.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_history_has_shown_outlives_a_crash_of_postgres() {
    let (mut postgres, mut tandem, ada) = with_a_gate_at("command-appended").await;
    // Neither relay nor workers write it to disk by a commit of their own.
    let mut held = tandem.database.begin().await.unwrap();
    sqlx::query("SELECT FROM feed, links FOR UPDATE").execute(&mut *held).await.unwrap();
    tandem.close_gate();
    let (http, url) = (tandem.http().clone(), tandem.at(&format!("/customers/{}", ada.id)));
    let patching = tokio::spawn(http.patch(url).json(&json!({"phone": "1"})).send());
    tandem.gate_reached().await;
    let shown = tandem.events(&ada.id).await;
    assert_eq!(shown.last().unwrap()["type"], "updated", "the command is stored");
    tokio::task::block_in_place(|| {
        postgres.kill();
        postgres.restart().unwrap();
    });
    tandem.open_gate();
    // An answer or none: whoever sent it cannot tell.
    let _ = patching.await.unwrap();
    tandem.ready().await;
    tandem.settled().await;
    let ids = |events: Vec<Value>| events.iter().map(|event| event["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(tandem.events(&ada.id).await)[..shown.len()], ids(shown));
}

/// Variant: the process ends while a command runs whose caller has hung up. Nothing is stored, though it was accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_accepted_before_the_end_is_carried_out() {
    let env = vec![("TANDEM_TEST_WAIT_AT", "command-decided".to_owned())];
    let mut tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    tandem.close_gate();
    let (http, url) = (tandem.http().clone(), tandem.at("/customers"));
    let creating = tokio::spawn(http.post(url).json(&json!({"name": "Ada"})).send());
    tandem.gate_reached().await;
    creating.abort();
    assert!(creating.await.unwrap_err().is_cancelled(), "the caller hangs up");

    tandem.terminate();
    let waits = |log: &str| log.contains("waiting for commands and webhooks") || log.contains("stopped");
    tandem.until("the end of all other work", || async { waits(&tandem.log()) }).await;
    tandem.open_gate();
    tandem.ended_in_order().await;

    assert_eq!(tandem.rows("events", "event_type = 'created'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_killed_in_the_middle_loses_nothing() {
    let mut nats = test::own_nats().await;
    let tandem = Tandem::start_with(Setup { nats_url: Some(nats.url()), ..Setup::default() }).await;
    let ids = some_customers(&tandem).await;
    for round in 0..3 {
        edit_both_sides(&tandem, &ids, round).await;
        tokio::task::block_in_place(|| nats.kill());
        edit_both_sides(&tandem, &ids, 10 + round).await;
        tokio::task::block_in_place(|| nats.restart().unwrap());
    }
    tandem.settled().await;
    assert_all_equal(&tandem, &ids).await;
}

#[tokio::test]
async fn two_of_them_side_by_side_do_everything_once() {
    let mut tandem = Tandem::start().await;
    tandem.start_another();
    let ids = some_customers(&tandem).await;
    for round in 0..4 {
        edit_both_sides(&tandem, &ids, round).await;
    }
    tandem.settled().await;
    assert_all_equal(&tandem, &ids).await;
}

/// Variant: a run that panics is tried again when its lease is over, and nobody is told.
#[tokio::test]
async fn a_run_that_panics_is_tried_again_as_one_that_failed() {
    let mut tandem = Tandem::start().await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    tandem.stop();
    tandem.start_again_to_panic_at("call-answered").await;
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem
        .until("it waits, with the reason", || async {
            tandem.rows("links", "attempts > 1 AND last_error LIKE '%panic%' AND lease_token IS NULL").await == 1
        })
        .await;
    tandem.stop();
    tandem.start_again().await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
}

/// Variant: the task is gone for good, and the process looks well.
#[tokio::test]
async fn a_process_whose_task_panicked_ends() {
    let mut tandem = Tandem::start().await;
    for point in ["sweep-listed", "relay-acknowledged"] {
        tandem.stop();
        tandem.start_again_to_panic_at(point).await;
        if point == "relay-acknowledged" {
            tandem.create("Ada", "ada@old.example").await;
        }
        tandem.failed().await;
        assert!(tandem.log().contains("panicked"), "{}", tandem.log());
        tandem.start_again().await;
    }
    tandem.settled().await;
}

#[tokio::test]
async fn a_kill_while_a_call_is_out_is_mended_at_once() {
    let mut tandem = Tandem::start().await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let out = tandem.stripe.fault(Fault::HangReply.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.fault_reached(out, 1).await.unwrap();
    tandem.kill();
    tandem.stripe.release_fault(out).await.unwrap();
    tandem.start_again().await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    let posts = tandem
        .stripe
        .calls()
        .await
        .unwrap()
        .into_iter()
        .filter(|call| call.path.ends_with(&call.customer.clone().unwrap_or_default()) && call.method == "POST");
    let keys: Vec<_> = posts.filter_map(|call| call.idempotency_key).collect();
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "the same call again: {keys:?}");
}
