//! Calls whose end is not known, and what is sent again.

use std::time::Duration;

use serde_json::{Value, json};
use stripe_sim::{Call, ClockChange, Fault, Order, Settings};
use tandem_local::test;
use tandem_tests::{Customer, KEY, Setup, Tandem};

use super::{ada_at, conflicts, no_twins, with_ada};

/// In seconds.
const DAY: u64 = 24 * 60 * 60;

/// Variant: a replayed reply is taken for a sight of now, and the edit made since is overwritten or lost.
#[tokio::test]
async fn an_edit_in_stripe_after_a_lost_reply_survives_the_repeat() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.hold().await.unwrap();
    // Every reply, or the repeat might come before the edit there.
    let lost = tandem.stripe.fault(Fault::DropReply.on("POST", "/v1/customers/*").always()).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.fault_reached(lost, 1).await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
    tandem.stripe.clear_faults().await.unwrap();
    // Seen by the GET that follows a replayed reply: its webhook is still held.
    tandem
        .until("the edit in Stripe", || async { tandem.get(&ada.id).await.name.as_deref() == Some("Lady Lovelace") })
        .await;
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;

    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Lady Lovelace"));
    tandem.assert_equal(&ada.id).await;
    let writes: Vec<_> =
        tandem.stripe.calls().await.unwrap().into_iter().filter(|call| call.method == "POST").collect();
    assert_eq!(writes[0].idempotency_key, writes[1].idempotency_key, "the same call again");
    assert_eq!(writes[0].params, writes[1].params);
    assert!(writes[1].replayed);
}

/// Variant: writes without the lease's token. What the late worker knew is taken for what is so, against a later edit.
#[tokio::test]
async fn a_worker_that_lost_its_lease_writes_nothing_however_late_it_wakes() {
    // It must not give its call up before the reply comes.
    let patient = [("TANDEM_STRIPE__TIMEOUT_MS", "600000"), ("TANDEM_GATEWAYS__LEASE_MS", "1800000")];
    let env = patient.map(|(name, value)| (name, value.to_owned())).into();
    let (mut tandem, ada, remote) = ada_at(Tandem::start_with(Setup { env, ..Setup::default() }).await).await;
    let late = tandem.stripe.fault(Fault::HangReply.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.fault_reached(late, 1).await.unwrap();

    // Its lease runs out while its call is under way, and another process takes over.
    tandem.start_another();
    sqlx::query("UPDATE links SET lease_until = clock_timestamp() - interval '1 s'")
        .execute(&tandem.database)
        .await
        .unwrap();
    tandem
        .until("another worker settles the call", || async {
            let open: i64 = sqlx::query_scalar("SELECT count(*) FROM intents WHERE state = 'open'")
                .fetch_one(&tandem.database)
                .await
                .unwrap();
            open == 0
        })
        .await;
    tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
    tandem
        .until("the edit in Stripe", || async { tandem.get(&ada.id).await.name.as_deref() == Some("Lady Lovelace") })
        .await;
    tandem.settled().await;
    let before = tandem.measured("tandem_reconciles_total").await;
    tandem.stripe.release_fault(late).await.unwrap();
    tandem.until("the late worker ends", || async { tandem.measured("tandem_reconciles_total").await > before }).await;
    tandem.settled().await;

    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Lady Lovelace"));
    tandem.assert_equal(&ada.id).await;
    assert_eq!(
        conflicts(&tandem, &ada).await,
        Vec::<Value>::new(),
        "both edits were made by people who had seen it all"
    );
    let posts = tandem.stripe.calls().await.unwrap().into_iter().filter(|call| call.method == "POST").count();
    assert_eq!(posts, 2, "the call, and its repeat by the other worker");
}

/// Variant: drop every event that carries a key of ours. A send that arrives late writes over a newer edit, unnoticed.
#[tokio::test]
async fn a_send_that_arrives_after_it_was_given_up_is_put_right() {
    let (tandem, ada, remote, late) = given_up_call().await;
    arrives(&tandem, &remote, late).await;
    tandem.settled().await;

    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Lady Lovelace"));
    tandem.assert_equal(&ada.id).await;
}

/// Variant: what a late send of ours set counts as edited when it arrived. It comes back over the newer edit that wrote over it.
#[tokio::test]
async fn a_late_send_that_a_newer_one_wrote_over_is_as_old_as_its_edit() {
    let (tandem, ada, remote, late) = given_up_call().await;
    let outbound = json!({"direction": "outbound"});
    assert_eq!(tandem.post("/gateways/stripe/pause", outbound.clone()).await.status(), 204);
    tandem.patch(&ada.id, json!({"name": "Enchantress"})).await;
    tandem.until_next_second().await;
    tandem.stripe.hold().await.unwrap();
    arrives(&tandem, &remote, late).await;
    assert_eq!(tandem.post("/gateways/stripe/resume", outbound).await.status(), 204);
    tandem.settled().await;
    tandem.stripe.release(Order::Reversed).await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Enchantress"));
}

/// Ada is "Lady Lovelace" on both sides, and a call that would make her "Countess" was given up and is still on its way.
async fn given_up_call() -> (Tandem, Customer, String, u64) {
    let (mut tandem, ada, remote) = with_ada().await;
    let late = tandem.stripe.fault(Fault::Hang.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.fault_reached(late, 1).await.unwrap();
    tandem.kill();
    sqlx::query("UPDATE intents SET created_at = created_at - interval '24 hours'")
        .execute(&tandem.database)
        .await
        .unwrap();
    tandem.start_again().await;
    tandem.settled().await;
    tandem.patch(&ada.id, json!({"name": "Lady Lovelace"})).await;
    tandem.settled().await;
    (tandem, ada, remote, late)
}

async fn arrives(tandem: &Tandem, remote: &str, late: u64) {
    let told = tandem.stripe.events_of(remote).await.unwrap().len();
    tandem.stripe.release_fault(late).await.unwrap();
    tandem.until("it arrives", || async { tandem.stripe.events_of(remote).await.unwrap().len() > told }).await;
}

/// Variant: every event of a call whose reply told us is dropped. Stripe forgets a key after a day: what the network
/// repeats after that is carried out once more, over a newer edit.
#[tokio::test]
async fn a_call_that_is_carried_out_once_more_after_its_key_is_forgotten_is_put_right() {
    let (tandem, ada, remote, call) = forgotten_call().await;
    // Until its webhook comes nobody puts it right.
    tandem.stripe.hold().await.unwrap();
    repeat(&tandem, &call).await;
    assert_eq!(tandem.stripe.get(&remote).await.unwrap().name.as_deref(), Some("Countess"));
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;

    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Lady Lovelace"));
    tandem.assert_equal(&ada.id).await;
    assert_eq!(conflicts(&tandem, &ada).await, Vec::<Value>::new(), "nobody edited there");
}

/// Variant: what a repeat wrote over is not looked at. An edit that nobody had seen is gone without a trace.
#[tokio::test]
async fn an_unseen_edit_that_a_call_wrote_over_when_it_was_carried_out_once_more_is_taken_back() {
    for within_one_second in [true, false] {
        let (tandem, ada, remote, call) = forgotten_call().await;
        // Stripe tells whole seconds: an edit of the second in which the catalog's was made may count as the older one.
        tandem.until_next_second().await;
        tandem.stripe.hold().await.unwrap();
        tandem.stripe.edit(&remote, &[("name", "Enchantress")]).await.unwrap();
        if !within_one_second {
            tandem.until_next_second().await;
        }
        repeat(&tandem, &call).await;
        tandem.stripe.release(Order::Reversed).await.unwrap();
        tandem.settled().await;

        let told = conflicts(&tandem, &ada).await;
        assert!(told.iter().any(|conflict| conflict["remote"]["value"] == "Enchantress"), "{told:?}");
        assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Enchantress"), "written last");
        tandem.assert_equal(&ada.id).await;
    }
}

/// Ada is "Lady Lovelace" on both sides, and the call that made her "Countess" before is one whose key Stripe has forgotten.
async fn forgotten_call() -> (Tandem, Customer, String, Call) {
    let (tandem, ada, remote) = with_ada().await;
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.settled().await;
    let call = tandem.stripe.calls_when(1, |call| call.method == "POST").await.unwrap().remove(0);
    tandem.patch(&ada.id, json!({"name": "Lady Lovelace"})).await;
    tandem.settled().await;
    tandem.stripe.advance(Duration::from_secs(DAY + 3600)).await.unwrap();
    (tandem, ada, remote, call)
}

/// The network delivers a copy of a call.
async fn repeat(tandem: &Tandem, call: &Call) {
    let request = tandem.http().post(format!("{}{}", tandem.stripe.url(), call.path)).bearer_auth(KEY);
    let key = call.idempotency_key.as_deref().unwrap();
    let repeated = request.header("Idempotency-Key", key).form(&call.params).send().await.unwrap();
    assert!(repeated.status().is_success(), "{repeated:?}");
}

/// Variant: a webhook is answered before it is stored: what Stripe then forgets is lost with the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_cannot_be_stored_is_not_acknowledged() {
    let mut postgres = test::own_postgres().await;
    let setup = Setup { database_url: Some(postgres.url("postgres")), ..Setup::default() };
    let tandem = Tandem::start_with(setup).await;
    tandem.stripe.hold().await.unwrap();
    let born = tandem.stripe.create(&[("name", "Grace")]).await.unwrap();
    tokio::task::block_in_place(|| postgres.kill());
    let told = tandem.stripe.release(Order::Fifo).await.unwrap();
    assert_eq!(told[0].status, Some(503), "{told:?}");
    tokio::task::block_in_place(|| postgres.restart().unwrap());
    tandem.local_id(&born.id).await;
}

/// Variant: a webhook is answered as soon as others see it, before it is on disk: a crash of PostgreSQL takes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_on_disk_before_it_is_acknowledged() {
    let mut postgres = test::own_forgetful_postgres().await;
    let setup = Setup { database_url: Some(postgres.url("postgres")), ..Setup::default() };
    let tandem = Tandem::start_with(setup).await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let remote = tandem.remote_id(&ada.id).await;
    // Nobody can act on it, which would write it, too.
    let mut held = tandem.database.begin().await.unwrap();
    sqlx::query("SELECT FROM links FOR UPDATE").execute(&mut *held).await.unwrap();
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Grace")]).await.unwrap();
    let told = tandem.stripe.release(Order::Fifo).await.unwrap();
    assert_eq!(told[0].status, Some(200), "{told:?}");
    tokio::task::block_in_place(|| {
        postgres.kill();
        postgres.restart().unwrap();
    });
    tandem.settled().await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Grace"));
}

/// Variant: the route names the link in its inbox rows before it locks it. It then waits for the run that stores our
/// create's reply, and that run for it: PostgreSQL ends one of them a second later.
#[tokio::test]
async fn the_webhook_of_our_create_does_not_stand_in_the_way_of_its_reply() {
    let tandem = Tandem::start_with(no_twins()).await;
    tandem.stripe.hold().await.unwrap();
    let slow = tandem.stripe.fault(Fault::HangReply.on("POST", "/v1/customers")).await.unwrap();
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.stripe.fault_reached(slow, 1).await.unwrap();
    // As a run does: first it holds the link, then it says which object that is.
    let mut run = tandem.database.begin().await.unwrap();
    let hold = "UPDATE links SET lease_until = lease_until WHERE customer_id = $1::uuid";
    sqlx::query(hold).bind(&ada.id).execute(&mut *run).await.unwrap();
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.until("the route waits", || tandem.somebody_waits_for_a_lock()).await;
    let naming = "SELECT FROM links WHERE customer_id = $1::uuid FOR UPDATE NOWAIT";
    sqlx::query(naming).bind(&ada.id).execute(&mut *run).await.unwrap();
    run.rollback().await.unwrap();
    tandem.stripe.release_fault(slow).await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
}

/// Variant: a link for a new object is made, and others are waited for: a run that holds one of them, and is about to say that
/// this object is its own, waits for that.
#[tokio::test]
async fn what_is_new_is_imported_once_nobody_must_be_waited_for() {
    let tandem = Tandem::start_with(no_twins()).await;
    tandem.stripe.hold().await.unwrap();
    let slow = tandem.stripe.fault(Fault::HangReply.on("POST", "/v1/customers")).await.unwrap();
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.stripe.fault_reached(slow, 1).await.unwrap();
    let stranger = tandem.stripe.create(&[("name", "Bob")]).await.unwrap().id;
    // Both are routed together.
    let mut router = tandem.database.begin().await.unwrap();
    let alone = "SELECT pg_advisory_xact_lock(hashtextextended('inbox stripe', 0))";
    sqlx::query(alone).execute(&mut *router).await.unwrap();
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.until("both are told", || async { tandem.rows("inbox", "state = 'new'").await == 2 }).await;
    let mut run = tandem.database.begin().await.unwrap();
    let hold = "UPDATE links SET lease_until = lease_until WHERE customer_id = $1::uuid";
    sqlx::query(hold).bind(&ada.id).execute(&mut *run).await.unwrap();
    router.rollback().await.unwrap();
    tandem.until("the route waits", || tandem.somebody_waits_for_a_lock()).await;
    sqlx::query("SET LOCAL lock_timeout = '500ms'").execute(&mut *run).await.unwrap();
    let claims = "INSERT INTO links (gateway, customer_id, remote_id) VALUES ('stripe', gen_random_uuid(), $1)";
    sqlx::query(claims).bind(&stranger).execute(&mut *run).await.unwrap();
    run.rollback().await.unwrap();
    tandem.stripe.release_fault(slow).await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.customers().await.len(), 2);
}

/// Variant: import without looking at `metadata.tandem_id`: the customer is there twice.
#[tokio::test]
async fn the_webhook_of_our_create_may_come_before_its_reply() {
    let tandem = Tandem::start_with(no_twins()).await;
    let slow = tandem.stripe.fault(Fault::HangReply.on("POST", "/v1/customers")).await.unwrap();
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.stripe.fault_reached(slow, 1).await.unwrap();
    tandem.stripe.webhooks_idle().await.unwrap();
    tandem.until("the webhook is routed", || async { tandem.rows("inbox", "state = 'waiting'").await == 1 }).await;
    tandem.stripe.release_fault(slow).await.unwrap();
    tandem.settled().await;

    assert_eq!(tandem.customers().await.len(), 1);
    assert_eq!(tandem.stripe.customers().await.unwrap().len(), 1);
    assert_eq!(tandem.history(&ada.id).await, ["created", "linked"]);
}

/// Variant: create again after a lost reply.
#[tokio::test]
async fn a_create_whose_reply_was_lost_is_not_made_twice() {
    let tandem = Tandem::start_with(no_twins()).await;
    tandem.stripe.fault(Fault::DropReply.on("POST", "/v1/customers").times(3)).await.unwrap();
    tandem.stripe.hold().await.unwrap();
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.remote_id(&ada.id).await;
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.stripe.customers().await.unwrap().len(), 1);
    tandem.assert_equal(&ada.id).await;
}

/// Variant: resend after a saved 500: Stripe repeats the 500 for a day. Or a new key without looking: made twice.
#[tokio::test]
async fn after_a_saved_500_it_looks_and_goes_on() {
    for (done, ahead_h) in [(true, 0), (false, 0), (true, -2), (true, 2)] {
        let (fault, creates) = if done { (Fault::Fail500AfterWork, 1) } else { (Fault::Fail500BeforeWork, 2) };
        let tandem = Tandem::start_with(no_twins()).await;
        tandem.stripe.clock(ClockChange::OffsetMs(ahead_h * 3_600_000)).await.unwrap();
        tandem.stripe.fault(fault.on("POST", "/v1/customers")).await.unwrap();
        // Looking fails at first, too: only the stored mark keeps the key from being sent again.
        tandem.stripe.fault(Fault::DropRequest.on("GET", "/v1/events").times(2)).await.unwrap();
        tandem.stripe.hold().await.unwrap();
        let ada = tandem.create("Ada", "ada@old.example").await;
        tandem.remote_id(&ada.id).await;
        tandem.stripe.release(Order::Fifo).await.unwrap();
        tandem.settled().await;

        assert_eq!(tandem.stripe.customers().await.unwrap().len(), 1);
        tandem.assert_equal(&ada.id).await;
        let calls = tandem.stripe.calls().await.unwrap();
        let posts = calls.iter().filter(|call| call.method == "POST");
        let keys: Vec<_> = posts.map(|call| &call.idempotency_key).collect();
        let spoilt = keys.iter().filter(|key| **key == keys[0]).count();
        assert_eq!(spoilt, 1, "a spoilt key is never sent again: {calls:?}");
        // A new one may be, if its reply is lost.
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), creates, "{calls:?}");
    }
}

/// The same of an update, whose work was done, and which somebody changed since.
#[tokio::test]
async fn an_update_that_was_answered_500_is_not_sent_again() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.fault(Fault::Fail500AfterWork.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.settled().await;
    assert_eq!(tandem.remote(&ada.id).await.name.as_deref(), Some("Countess"));
    assert_eq!(tandem.stripe.calls().await.unwrap().iter().filter(|call| call.method == "POST").count(), 1);
    tandem.stripe.edit(&remote, &[("name", "Ada")]).await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
}

/// Variant: a key sent after 23 hours, which Stripe may have forgotten.
#[tokio::test]
async fn a_create_too_old_for_its_key_is_looked_for_in_the_list() {
    let mut tandem = Tandem::start_with(no_twins()).await;
    let lost = tandem.stripe.fault(Fault::DropReply.on("POST", "/v1/customers").always()).await.unwrap();
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.stripe.fault_reached(lost, 1).await.unwrap();
    tandem.kill();
    sqlx::query("UPDATE intents SET created_at = created_at - interval '24 hours'")
        .execute(&tandem.database)
        .await
        .unwrap();
    tandem.stripe.clear_faults().await.unwrap();
    tandem.stripe.clear_calls().await.unwrap();
    tandem.start_again().await;
    tandem.settled().await;

    assert_eq!(tandem.stripe.customers().await.unwrap().len(), 1);
    tandem.assert_equal(&ada.id).await;
    assert!(tandem.stripe.calls().await.unwrap().iter().all(|call| call.method == "GET"));
}

/// Variant: search instead of list, which lags behind writes: the customer is made twice.
#[tokio::test]
async fn a_create_too_old_for_the_list_of_events_is_looked_for_in_the_list_of_customers() {
    let stripe = Settings { search_lag_ms: 40 * DAY * 1000, ..Settings::default() };
    let mut tandem = Tandem::start_with(Setup { stripe, ..no_twins() }).await;
    tandem.stripe.drop_webhooks(1).await.unwrap();
    let lost = tandem.stripe.fault(Fault::DropReply.on("POST", "/v1/customers").always()).await.unwrap();
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.stripe.fault_reached(lost, 1).await.unwrap();
    tandem.kill();
    sqlx::query("UPDATE intents SET created_at = created_at - interval '32 days'")
        .execute(&tandem.database)
        .await
        .unwrap();
    // A sweep of so long a time lists what was created since. Here nobody but the create's own look is to find it.
    let swept = "INSERT INTO sweeps (gateway, swept_until) VALUES ('stripe', now() + interval '31 days')
                 ON CONFLICT (gateway) DO UPDATE SET swept_until = excluded.swept_until";
    sqlx::query(swept).execute(&tandem.database).await.unwrap();
    tandem.stripe.advance(Duration::from_secs(31 * DAY)).await.unwrap();
    tandem.stripe.clear_faults().await.unwrap();
    tandem.start_again().await;
    tandem.settled().await;

    assert_eq!(tandem.stripe.customers().await.unwrap().len(), 1);
    tandem.assert_equal(&ada.id).await;
}

/// Variant: a key made of the version: two pushes of one version meet in Stripe's memory of keys.
#[tokio::test]
async fn every_push_has_a_key_of_its_own_and_one_body() {
    let (tandem, ada, remote) = with_ada().await;
    for name in ["A", "B", "A", "B"] {
        tandem.patch(&ada.id, json!({"name": name})).await;
        tandem.settled().await;
        tandem.stripe.edit(&remote, &[("name", "C")]).await.unwrap();
        tandem.settled().await;
    }
    let calls = tandem.stripe.calls().await.unwrap();
    let mut keys: Vec<_> =
        calls.iter().filter(|call| call.method == "POST").map(|call| &call.idempotency_key).collect();
    assert_eq!(keys.len(), 4);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4);
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("C"));
}

/// Only the changed fields are sent.
#[tokio::test]
async fn a_push_carries_only_what_changed() {
    let (tandem, ada, _) = with_ada().await;
    tandem.patch(&ada.id, json!({"phone": "1"})).await;
    tandem.settled().await;
    let calls = tandem.stripe.calls().await.unwrap();
    let sent: Vec<_> = calls.iter().filter(|call| call.method == "POST").flat_map(|call| call.params.keys()).collect();
    assert_eq!(sent, ["phone"]);
}

/// Waiting edits make one call.
#[tokio::test]
async fn edits_that_wait_for_a_call_go_out_together() {
    let (tandem, ada, _) = with_ada().await;
    let slow = tandem.stripe.fault(Fault::Hang.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "A"})).await;
    tandem.stripe.fault_reached(slow, 1).await.unwrap();
    for n in 0..5 {
        tandem.patch(&ada.id, json!({"name": format!("B{n}"), "metadata": {format!("k{n}"): "v"}})).await;
    }
    tandem.stripe.release_fault(slow).await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.stripe.calls().await.unwrap().iter().filter(|call| call.method == "POST").count(), 2);
}

#[tokio::test]
async fn being_told_to_slow_down_loses_nothing() {
    let (tandem, ada, _) = with_ada().await;
    let slow =
        Fault::status(429).header("Stripe-Rate-Limited-Reason", "endpoint-rate").on("POST", "/v1/customers/*").times(2);
    tandem.stripe.fault(slow).await.unwrap();
    tandem.stripe.fault(Fault::status(409).code("lock_timeout").on("POST", "/v1/customers/*").skip(2)).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));
}
