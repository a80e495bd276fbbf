//! One test a rule of two-way sync. Each names the variant that looked right, and that it is there to catch.

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do, in its helper functions neither")]

use serde_json::{Value, json};
use stripe_sim::{Fault, Order};
use tandem_tests::{Customer, Setup, Tandem};

/// A Tandem with one customer who is in step, and her id in Stripe.
async fn with_ada() -> (Tandem, Customer, String) {
    let tandem = Tandem::start().await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let remote = tandem.remote_id(&ada.id).await;
    tandem.stripe.clear_calls().await.unwrap();
    (tandem, ada, remote)
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

/// Variant: take every snapshot as it comes, or order by `created` with `<`.
#[tokio::test]
async fn an_edit_and_its_reversal_delivered_in_the_wrong_order_end_reversed() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Ada")]).await.unwrap();
    tandem.stripe.release(Order::Reversed).await.unwrap();
    tandem.settled().await;

    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Ada"));
    tandem.assert_equal(&ada.id).await;
}

/// Variant: of edits within one second the first, or the last to arrive, stays.
#[tokio::test]
async fn of_three_edits_within_a_second_in_any_order_the_last_made_stays() {
    let (tandem, ada, remote) = with_ada().await;
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        tandem.stripe.hold().await.unwrap();
        for name in ["A", "B", "C"] {
            tandem.stripe.edit(&remote, &[("name", name)]).await.unwrap();
        }
        let held = tandem.stripe.webhooks().await.unwrap().held;
        let order = order.map(|n| held[n].clone()).to_vec();
        tandem.stripe.release(Order::Given(order)).await.unwrap();
        tandem.stripe.release(Order::Fifo).await.unwrap();
        tandem.settled().await;
        assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("C"));
        tandem.stripe.edit(&remote, &[("name", "Ada")]).await.unwrap();
        tandem.settled().await;
    }
}

/// Variant: `previous_attributes` decides what is newer. An edit away and back, and away again, looks like its first step.
#[tokio::test]
async fn a_value_used_again_is_not_taken_for_its_first_use() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.hold().await.unwrap();
    for name in ["B", "Ada", "B", "C"] {
        tandem.stripe.edit(&remote, &[("name", name)]).await.unwrap();
    }
    let held = tandem.stripe.webhooks().await.unwrap().held;
    tandem
        .stripe
        .release(Order::Given(vec![held[3].clone(), held[2].clone(), held[0].clone(), held[1].clone()]))
        .await
        .unwrap();
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("C"));
}

/// Variant: a replayed reply is taken for a sight of now, and the edit made since is overwritten or lost.
#[tokio::test]
async fn an_edit_in_stripe_after_a_lost_reply_survives_the_repeat() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.hold().await.unwrap();
    let lost = tandem.stripe.fault(Fault::DropReply.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.fault_reached(lost, 1).await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
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

/// Both sides end equal though a worker wakes late. Unfenced writes alone do not fail it yet: a GET heals what they store.
#[tokio::test]
async fn a_worker_that_lost_its_lease_writes_nothing_however_late_it_wakes() {
    let (mut tandem, ada, remote) = with_ada().await;
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
    tandem.stripe.release_fault(late).await.unwrap();
    tandem.settled().await;

    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Lady Lovelace"));
    tandem.assert_equal(&ada.id).await;
}

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

/// Variant: import without looking at `metadata.tandem_id`: the customer is there twice.
#[tokio::test]
async fn the_webhook_of_our_create_may_come_before_its_reply() {
    let tandem = Tandem::start().await;
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
    let tandem = Tandem::start().await;
    tandem.stripe.fault(Fault::DropReply.on("POST", "/v1/customers").times(3)).await.unwrap();
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    assert_eq!(tandem.stripe.customers().await.unwrap().len(), 1);
    tandem.assert_equal(&ada.id).await;
}

/// Variant: resend after a saved 500: Stripe repeats the 500 for a day. Or a new key without looking: made twice.
#[tokio::test]
async fn after_a_saved_500_it_looks_and_goes_on() {
    for (fault, creates) in [(Fault::Fail500AfterWork, 1), (Fault::Fail500BeforeWork, 2)] {
        let tandem = Tandem::start().await;
        tandem.stripe.fault(fault.on("POST", "/v1/customers")).await.unwrap();
        // Looking fails at first, too: only the stored mark keeps the key from being sent again.
        tandem.stripe.fault(Fault::DropRequest.on("GET", "/v1/events").times(2)).await.unwrap();
        let ada = tandem.create("Ada", "ada@old.example").await;
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

/// Variant: a key sent after 23 hours, which Stripe may have forgotten; or search instead of list, which lags.
#[tokio::test]
async fn a_create_too_old_for_its_key_is_looked_for_in_the_list() {
    let mut tandem = Tandem::start().await;
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

#[tokio::test]
async fn a_repeated_webhook_is_taken_in_once() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.duplicate(1).await.unwrap();
    tandem.stripe.edit(&remote, &[("phone", "2")]).await.unwrap();
    tandem.settled().await;
    let event = tandem.stripe.events_of(&remote).await.unwrap().pop().unwrap();
    tandem.stripe.deliver(&event.id).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.history(&ada.id).await, ["created", "linked", "updated"]);
    assert_eq!(tandem.rows("inbox", "true").await, 2);
}

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

/// A rejected push is parked, and only it.
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
    assert_eq!(tandem.get(&ada.id).await.phone.as_deref(), Some("2"));
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
