//! Deletions that are asked about: on one side a customer is deleted, and nothing happens on the other before a person has
//! said so.

use serde_json::{Value, json};
use stripe_sim::{Call, ClockChange, Fault, Order};
use tandem_tests::{Customer, Setup, Tandem};

const POLICIES: [&str; 2] = ["TANDEM_STRIPE__DELETES_INBOUND", "TANDEM_STRIPE__DELETES_OUTBOUND"];

async fn asking(more: &[(&'static str, &str)]) -> Tandem {
    let mut env: Vec<_> = POLICIES.map(|name| (name, "ask".to_owned())).into();
    env.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Tandem::start_with(Setup { env, ..Setup::default() }).await
}

/// One customer who is in step.
async fn ada_of(tandem: &Tandem) -> (Customer, String) {
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let remote = tandem.remote_id(&ada.id).await;
    tandem.stripe.clear_calls().await.unwrap();
    (ada, remote)
}

async fn with_ada() -> (Tandem, Customer, String) {
    let tandem = asking(&[]).await;
    let (ada, remote) = ada_of(&tandem).await;
    (tandem, ada, remote)
}

/// The deletion that waits, if it is the only thing that does.
async fn waiting(tandem: &Tandem) -> Value {
    let parked = tandem.parked().await;
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert_eq!(parked[0]["kind"], "deletion", "{parked:?}");
    parked[0].clone()
}

/// Says something of what is parked, and returns what that was answered.
async fn say(tandem: &Tandem, parked: &Value, what: &str) -> (u16, Value) {
    let answer = tandem.post(&format!("/parked/{}/{what}", parked["id"]), json!({})).await;
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

/// Says something that is carried out.
async fn decide(tandem: &Tandem, parked: &Value, what: &str) {
    assert_eq!(say(tandem, parked, what).await.0, 204);
    tandem.settled().await;
}

async fn writes(tandem: &Tandem) -> Vec<Call> {
    tandem.stripe.calls().await.unwrap().into_iter().filter(Call::is_write).collect()
}

/// The calls that name an object.
async fn asked_of(tandem: &Tandem, remote: &str) -> Vec<Call> {
    let calls = tandem.stripe.calls().await.unwrap();
    calls.into_iter().filter(|call| call.path == format!("/v1/customers/{remote}")).collect()
}

async fn state(tandem: &Tandem, customer: &Customer) -> Value {
    tandem.get_json(&format!("/customers/{}/links", customer.id)).await["data"][0].clone()
}

async fn conflicts(tandem: &Tandem, customer: &Customer) -> Vec<Value> {
    let events = tandem.events(&customer.id).await;
    events.into_iter().filter(|event| event["type"] == "conflict_resolved").map(|it| it["conflict"].clone()).collect()
}

/// The kinds of what `tandem verify` tells.
async fn verified(tandem: &Tandem) -> Vec<String> {
    let told = tandem.run(&["verify", "stripe", "--format", "json"]).await.json();
    told["rows"].as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect()
}

async fn is_deleted_there(tandem: &Tandem, remote: &str) -> bool {
    tandem.stripe.get(remote).await.unwrap().deleted
}

#[tokio::test]
async fn a_deletion_in_stripe_waits_and_is_shown_everywhere() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.delete(&remote).await.unwrap();
    tandem.settled().await;

    let shown = waiting(&tandem).await;
    assert_eq!((&shown["customer_id"], &shown["remote_id"]), (&json!(ada.id), &json!(remote)));
    assert_eq!(shown["deleted_side"], "gateway");
    assert!(shown["deleted_at"].is_string(), "{shown}");
    let link = state(&tandem, &ada).await;
    assert_eq!((&link["in_sync"], &link["parked"], &link["state"]), (&json!(false), &shown["id"], &json!("active")));
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Ada"));

    let (code, said) = tandem.command(&["status"]).await;
    assert!(code == Some(3) && said.contains("1 parked"), "{said}");
    tandem.until("the measurement", || async { tandem.measured("tandem_gateway_parked").await == 1.0 }).await;
    assert_eq!(verified(&tandem).await, ["deletion_waits"]);
    let (_, said) = tandem.command(&["verify", "stripe", "--repair"]).await;
    assert!(said.contains("waits for a person") && said.contains("1 left to a person"), "{said}");
    tandem.settled().await;
    assert_eq!(waiting(&tandem).await, shown, "a repair decides nothing");
    let plan = tandem.run(&["plan", "stripe"]).await;
    assert!(plan.code == Some(0) && plan.stdout.contains("1 customers are linked already"), "{plan:?}");
    assert!(!plan.stdout.contains("create_"), "{plan:?}");
}

#[tokio::test]
async fn when_it_was_deleted_in_stripe_is_told_by_our_clock() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.clock(ClockChange::OffsetMs(3_600_000)).await.unwrap();
    // Its reply tells what Stripe's clock says.
    tandem.patch(&ada.id, json!({"phone": "1"})).await;
    tandem.settled().await;
    tandem.stripe.delete(&remote).await.unwrap();
    tandem.settled().await;

    waiting(&tandem).await;
    assert_eq!(
        tandem.rows("parked", "deleted_at BETWEEN now() - interval '5 min' AND now() + interval '5 min'").await,
        1
    );
}

#[tokio::test]
async fn a_deletion_in_stripe_is_carried_out_when_a_person_says_so() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.delete(&remote).await.unwrap();
    tandem.settled().await;
    let shown = waiting(&tandem).await;
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.settled().await;
    assert!(asked_of(&tandem, &remote).await.is_empty(), "nothing goes to what is deleted");

    decide(&tandem, &shown, "delete").await;
    assert_eq!(tandem.status_of(&ada.id).await, 410);
    assert!(writes(&tandem).await.is_empty());
    assert!(tandem.parked().await.is_empty());
    assert_eq!(state(&tandem, &ada).await["state"], "deleted");
    let lost = conflicts(&tandem, &ada).await;
    assert_eq!(
        (lost.len(), &lost[0]["catalog"]["value"], &lost[0]["winner"]),
        (1, &json!("Countess"), &json!("deletion"))
    );
    assert!(verified(&tandem).await.is_empty());

    assert_eq!(say(&tandem, &shown, "delete").await.0, 204, "the same once more");
    let (status, problem) = say(&tandem, &shown, "keep").await;
    assert_eq!((status, &problem["detail"]), (409, &json!("it is decided already: it is carried out")));
    tandem.settled().await;
    assert_eq!(tandem.history(&ada.id).await.iter().filter(|event| *event == "deleted").count(), 1);
}

/// An edit here and a deletion there meet in one run.
#[tokio::test]
async fn an_edit_that_was_under_way_is_not_sent_to_what_is_deleted() {
    let (tandem, ada, remote) = with_ada().await;
    assert_eq!(tandem.post("/gateways/stripe/pause", json!({"reason": "a test"})).await.status(), 204);
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.delete(&remote).await.unwrap();
    tandem.until("the webhook", || async { tandem.rows("inbox", "state = 'waiting'").await == 1 }).await;
    tandem.until("the pause", || async { tandem.rows("links", "paused_seq = due_seq").await == 1 }).await;
    assert_eq!(tandem.post("/gateways/stripe/resume", json!({})).await.status(), 204);
    tandem.settled().await;
    assert!(asked_of(&tandem, &remote).await.is_empty());
    assert_eq!(waiting(&tandem).await["deleted_side"], "gateway");
}

#[tokio::test]
async fn a_customer_is_kept_whose_object_is_deleted() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.delete(&remote).await.unwrap();
    tandem.settled().await;
    let shown = waiting(&tandem).await;
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.settled().await;

    decide(&tandem, &shown, "keep").await;
    assert_eq!(state(&tandem, &ada).await["state"], "unlinked");
    assert_eq!(tandem.history(&ada.id).await, ["created", "linked", "updated", "unlinked"]);
    tandem.patch(&ada.id, json!({"phone": "1"})).await;
    tandem.settled().await;
    assert_eq!(tandem.get(&ada.id).await.phone.as_deref(), Some("1"));
    assert!(writes(&tandem).await.is_empty());
    assert!(tandem.parked().await.is_empty() && verified(&tandem).await.is_empty());
    assert_eq!(say(&tandem, &shown, "keep").await.0, 204);
    assert_eq!(say(&tandem, &shown, "delete").await.0, 409);

    // Her deletion later is none of the object's.
    tandem.delete(&ada.id).await;
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty() && writes(&tandem).await.is_empty());
}

#[tokio::test]
async fn a_deletion_here_waits_and_is_carried_out_when_a_person_says_so() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.delete(&ada.id).await;
    tandem.settled().await;
    let shown = waiting(&tandem).await;
    assert_eq!((&shown["deleted_side"], &shown["remote_id"]), (&json!("catalog"), &json!(remote)));
    assert!(shown["deleted_at"].is_string());
    assert_eq!(verified(&tandem).await, ["deletion_waits"]);

    // Who edits it there meanwhile finds the edit in the history, and the object as it was left.
    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.settled().await;
    assert!(writes(&tandem).await.is_empty());
    assert_eq!(waiting(&tandem).await["id"], shown["id"]);

    decide(&tandem, &shown, "delete").await;
    assert!(is_deleted_there(&tandem, &remote).await);
    assert_eq!(writes(&tandem).await.len(), 1);
    assert_eq!(conflicts(&tandem, &ada).await[0]["remote"]["value"], "Countess");
    assert_eq!(state(&tandem, &ada).await["state"], "deleted");
    assert!(tandem.parked().await.is_empty() && verified(&tandem).await.is_empty());
    assert_eq!(say(&tandem, &shown, "delete").await.0, 204);
    assert_eq!(say(&tandem, &shown, "keep").await.0, 409);
    tandem.settled().await;
    assert_eq!(writes(&tandem).await.len(), 1);
}

#[tokio::test]
async fn an_object_is_kept_whose_customer_is_deleted() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.delete(&ada.id).await;
    tandem.settled().await;
    decide(&tandem, &waiting(&tandem).await, "keep").await;
    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.settled().await;
    assert!(!is_deleted_there(&tandem, &remote).await);
    assert!(writes(&tandem).await.is_empty() && tandem.parked().await.is_empty());
    assert_eq!(state(&tandem, &ada).await["state"], "unlinked");
    assert!(tandem.customers().await.is_empty(), "it is not imported again");
    assert!(verified(&tandem).await.is_empty());
}

/// Told twice, late, and out of order, before and after the decision.
#[tokio::test]
async fn webhooks_that_come_meanwhile_neither_carry_it_out_nor_get_lost() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
    tandem.stripe.edit(&remote, &[("phone", "1")]).await.unwrap();
    tandem.stripe.delete(&remote).await.unwrap();
    let held = tandem.stripe.webhooks().await.unwrap().held;
    let (name, phone, deletion) = (&held[0], &held[1], &held[2]);
    tandem.stripe.release(Order::Given(vec![deletion.clone()])).await.unwrap();
    tandem.settled().await;
    let shown = waiting(&tandem).await;
    tandem.stripe.release(Order::Given(vec![phone.clone()])).await.unwrap();
    tandem.stripe.deliver(deletion).await.unwrap();
    tandem.settled().await;
    assert_eq!(waiting(&tandem).await, shown);
    assert_eq!(tandem.history(&ada.id).await, ["created", "linked"]);
    assert_eq!(tandem.rows("inbox", "state = 'held'").await, 2);

    decide(&tandem, &shown, "delete").await;
    tandem.stripe.release(Order::Given(vec![name.clone()])).await.unwrap();
    tandem.stripe.deliver(deletion).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.status_of(&ada.id).await, 410);
    assert_eq!(tandem.rows("inbox", "state <> 'done'").await, 0);
    let lost = conflicts(&tandem, &ada).await;
    let fields: Vec<_> =
        lost.iter().map(|it| (it["field"].as_str().unwrap(), it["remote"]["value"].as_str())).collect();
    assert_eq!(fields, [("name", Some("Lady Lovelace")), ("phone", Some("1"))]);
}

/// What was edited there and deleted before anybody here had seen it, where the customer lives on.
#[tokio::test]
async fn an_unseen_edit_of_a_deleted_object_stays_readable() {
    for policy in ["ask", "unlink"] {
        let tandem = asking(&[(POLICIES[0], policy)]).await;
        let (ada, remote) = ada_of(&tandem).await;
        tandem.stripe.hold().await.unwrap();
        tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
        tandem.stripe.delete(&remote).await.unwrap();
        let held = tandem.stripe.webhooks().await.unwrap().held;
        for event in held.iter().rev() {
            tandem.stripe.release(Order::Given(vec![event.clone()])).await.unwrap();
            tandem.settled().await;
        }
        if policy == "ask" {
            decide(&tandem, &waiting(&tandem).await, "keep").await;
        }
        assert_eq!(state(&tandem, &ada).await["state"], "unlinked");
        assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Ada"));
        let lost = conflicts(&tandem, &ada).await;
        assert_eq!(lost.len(), 1, "{policy}: {lost:?}");
        assert_eq!((&lost[0]["remote"]["value"], &lost[0]["winner"]), (&json!("Lady Lovelace"), &json!("catalog")));
    }
}

/// That it is gone is seen by asking Stripe, and only the deletion, told late, says what it held.
#[tokio::test]
async fn what_a_deletion_tells_late_of_unseen_edits_stays_readable() {
    let tandem = asking(&[(POLICIES[0], "unlink"), ("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "86400000")]).await;
    let (ada, remote) = ada_of(&tandem).await;
    tandem.stripe.hold().await.unwrap();
    for name in ["Countess", "Lady Lovelace"] {
        tandem.stripe.edit(&remote, &[("name", name)]).await.unwrap();
    }
    tandem.stripe.delete(&remote).await.unwrap();
    let held = tandem.stripe.webhooks().await.unwrap().held;
    // Two at once are never clear without a look.
    assert_eq!(tandem.post("/gateways/stripe/pause", json!({"reason": "a test"})).await.status(), 204);
    tandem.stripe.release(Order::Given(held[..2].to_vec())).await.unwrap();
    tandem.until("both edits", || async { tandem.rows("inbox", "state = 'waiting'").await == 2 }).await;
    assert_eq!(tandem.post("/gateways/stripe/resume", json!({})).await.status(), 204);
    tandem.settled().await;
    assert_eq!(state(&tandem, &ada).await["state"], "unlinked");
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;
    let lost = conflicts(&tandem, &ada).await;
    assert_eq!((&lost[0]["remote"]["value"], &lost[0]["winner"]), (&json!("Lady Lovelace"), &json!("catalog")));
    assert_eq!(tandem.history(&ada.id).await, ["created", "linked", "unlinked", "conflict_resolved"]);
}

/// Told after all was over: the echo of a call of ours that wrote over an edit, of an object that is unlinked by now.
#[tokio::test]
async fn an_unseen_edit_that_is_told_of_after_the_unlinking_links_nothing_again() {
    let tandem = asking(&[(POLICIES[0], "unlink")]).await;
    let (ada, remote) = ada_of(&tandem).await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Lady Lovelace")]).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.customer_when(&remote, |it| it.name.as_deref() == Some("Countess")).await.unwrap();
    tandem.stripe.delete(&remote).await.unwrap();
    let held = tandem.stripe.webhooks().await.unwrap().held;
    for event in held.iter().rev() {
        tandem.stripe.release(Order::Given(vec![event.clone()])).await.unwrap();
        tandem.settled().await;
    }
    assert_eq!(tandem.history(&ada.id).await, ["created", "linked", "updated", "unlinked", "conflict_resolved"]);
    let lost = &conflicts(&tandem, &ada).await[0];
    assert_eq!((&lost["remote"]["value"], &lost["winner"]), (&json!("Lady Lovelace"), &json!("catalog")));
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));
}

#[tokio::test]
async fn a_deletion_met_by_a_push_waits_as_one_that_was_told() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.delete(&remote).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.settled().await;
    let shown = waiting(&tandem).await;
    let met = writes(&tandem).await.len();
    tandem.patch(&ada.id, json!({"phone": "1"})).await;
    tandem.settled().await;
    assert_eq!(writes(&tandem).await.len(), met);
    decide(&tandem, &shown, "keep").await;
    assert_eq!(state(&tandem, &ada).await["state"], "unlinked");
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));
    assert_eq!(writes(&tandem).await.len(), met);
}

/// Deleted there before our create's reply came: it is no reason to create it again, nor to forget what it held.
#[tokio::test]
async fn a_deletion_before_the_reply_of_our_create_waits_too() {
    for verdict in ["delete", "keep"] {
        let tandem = asking(&[("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "86400000")]).await;
        tandem.stripe.hold().await.unwrap();
        let lost = tandem.stripe.fault(Fault::DropReply.on("POST", "/v1/customers").always()).await.unwrap();
        let ada = tandem.create("Ada", "ada@old.example").await;
        tandem.stripe.fault_reached(lost, 1).await.unwrap();
        let born = tandem.stripe.any_customer_when(|it| it.name.as_deref() == Some("Ada")).await.unwrap();
        tandem.stripe.delete(&born.id).await.unwrap();
        tandem.stripe.clear_faults().await.unwrap();
        let shown = tandem
            .find("the question", || async { tandem.parked().await.into_iter().find(|it| it["kind"] == "deletion") })
            .await;
        decide(&tandem, &shown, verdict).await;
        tandem.stripe.release(Order::Fifo).await.unwrap();
        tandem.settled().await;
        assert_eq!(tandem.status_of(&ada.id).await, if verdict == "delete" { 410 } else { 200 });
        assert_eq!(conflicts(&tandem, &ada).await, Vec::<Value>::new(), "everything had been seen");
        assert_eq!(tandem.stripe.customers().await.unwrap().iter().filter(|it| !it.deleted).count(), 0);
        assert!(tandem.parked().await.is_empty());
    }
}

#[tokio::test]
async fn a_question_and_its_answer_survive_kills_and_other_settings() {
    let mut tandem = asking(&[]).await;
    let (ada, there_ada) = ada_of(&tandem).await;
    let bob = tandem.create("Bob", "bob@old.example").await;
    tandem.settled().await;
    let there_bob = tandem.remote_id(&bob.id).await;
    tandem.stripe.delete(&there_ada).await.unwrap();
    tandem.delete(&bob.id).await;
    tandem.settled().await;
    let parked = tandem.parked().await;
    assert_eq!(parked.len(), 2);

    // What was asked stays asked, though deletions are to be carried out by now.
    tandem.kill();
    for policy in POLICIES {
        tandem.set_env(policy, "delete");
    }
    tandem.start_again().await;
    tandem.start_another();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.edit(&there_bob, &[("name", "Robert")]).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.parked().await, parked);
    assert_eq!(tandem.status_of(&ada.id).await, 200);
    assert!(!is_deleted_there(&tandem, &there_bob).await);

    for one in &parked {
        assert_eq!(say(&tandem, one, "delete").await.0, 204);
    }
    tandem.kill();
    tandem.start_again().await;
    tandem.settled().await;
    assert_eq!(tandem.status_of(&ada.id).await, 410);
    assert!(is_deleted_there(&tandem, &there_bob).await);
}

#[tokio::test]
async fn what_is_deleted_on_both_sides_by_now_is_no_question() {
    let tandem = asking(&[]).await;
    let (ada, there_ada) = ada_of(&tandem).await;
    let bob = tandem.create("Bob", "bob@old.example").await;
    tandem.settled().await;
    let there_bob = tandem.remote_id(&bob.id).await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&there_ada, &[("name", "Lady Lovelace")]).await.unwrap();
    tandem.stripe.delete(&there_ada).await.unwrap();
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.delete(&bob.id).await;
    tandem.settled().await;
    let parked = tandem.parked().await;
    assert_eq!(parked.len(), 2);

    tandem.delete(&ada.id).await;
    tandem.stripe.delete(&there_bob).await.unwrap();
    // At once: whoever deleted her knows better than the question.
    let of_ada = parked.iter().find(|it| it["customer_id"] == json!(ada.id)).unwrap();
    assert_eq!(say(&tandem, of_ada, "keep").await.0, 409);
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty());
    for one in &parked {
        let (status, problem) = say(&tandem, one, "delete").await;
        assert_eq!(status, 409);
        assert!(problem["detail"].as_str().unwrap().contains("both sides are deleted"), "{problem}");
    }
    for one in [&ada, &bob] {
        assert_eq!(state(&tandem, one).await["state"], "deleted");
    }
    assert_eq!(tandem.rows("inbox", "state <> 'done'").await, 0);
    assert!(writes(&tandem).await.iter().all(|call| call.method != "DELETE"));
}

#[tokio::test]
async fn only_a_deletion_is_decided_and_only_so() {
    let (tandem, ada, remote) = with_ada().await;
    tandem.stripe.fault(Fault::status(400).code("email_invalid").on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.settled().await;
    let rejected = tandem.parked().await[0].clone();
    assert_eq!(rejected["kind"], "rejected");
    for what in ["delete", "keep"] {
        let (status, problem) = say(&tandem, &rejected, what).await;
        assert_eq!((status, &problem["detail"]), (409, &json!("it is no deletion")));
        assert_eq!(say(&tandem, &json!({"id": 4711}), what).await.0, 404);
    }
    tandem.stripe.delete(&remote).await.unwrap();
    tandem.settled().await;
    let parked = tandem.parked().await;
    let deletion = parked.iter().find(|it| it["kind"] == "deletion").unwrap();
    for what in ["retry", "dismiss", "link"] {
        assert_eq!(say(&tandem, deletion, what).await.0, 409, "{what}");
    }
    assert_eq!(say(&tandem, &rejected, "retry").await.0, 204);
    tandem.settled().await;
    assert_eq!(waiting(&tandem).await, *deletion);
}

/// A pause holds what is decided, and the guard counts what is carried out, not what is asked.
#[tokio::test]
async fn the_guard_counts_what_is_carried_out() {
    let tandem = asking(&[("TANDEM_STRIPE__GUARD_DELETES", "1")]).await;
    let mut there = vec![];
    for name in ["Ada", "Bob", "Eve"] {
        let customer = tandem.create(name, &format!("{name}@old.example")).await;
        tandem.settled().await;
        there.push(tandem.remote_id(&customer.id).await);
    }
    for remote in &there {
        tandem.stripe.delete(remote).await.unwrap();
    }
    tandem.settled().await;
    let parked = tandem.parked().await;
    assert_eq!(parked.len(), 3);
    let paused = async || !tandem.get_json("/gateways").await["data"][0]["pauses"].as_array().unwrap().is_empty();
    assert!(!paused().await);
    for one in &parked[..2] {
        assert_eq!(say(&tandem, one, "delete").await.0, 204);
    }
    tandem.until("the guard", || async { paused().await }).await;
    tandem
        .until("rest", || async { tandem.rows("links", "due_seq > done_seq AND due_seq > paused_seq").await == 0 })
        .await;
    tandem.until("one is gone", || async { tandem.customers().await.len() == 2 }).await;
    assert_eq!(tandem.post("/gateways/stripe/resume", json!({})).await.status(), 204);
    tandem.settled().await;
    assert_eq!(tandem.customers().await.len(), 1);
    assert_eq!(tandem.parked().await.len(), 1);
}

/// A script decides about many at once, as many as there are connections to the database and more.
#[tokio::test]
async fn many_are_decided_at_once() {
    let tandem = asking(&[]).await;
    let mut there = vec![];
    for n in 0..30 {
        there.push(tandem.stripe.create(&[("name", &format!("born {n}"))]).await.unwrap().id);
    }
    tandem.settled().await;
    for remote in &there {
        tandem.stripe.delete(remote).await.unwrap();
    }
    tandem.settled().await;
    let parked = tandem.parked().await;
    assert_eq!(parked.len(), 30);
    let said = futures::future::join_all(parked.iter().map(|one| say(&tandem, one, "delete"))).await;
    assert!(said.iter().all(|(status, _)| *status == 204), "{said:?}");
    tandem.settled().await;
    assert_eq!(tandem.customers().await.len(), 0);
}

/// That it is gone was met by a push, and unlinked as the policy said then; the policy has changed when Stripe tells.
#[tokio::test]
async fn nobody_is_asked_about_what_is_unlinked_already() {
    let mut tandem = asking(&[(POLICIES[0], "unlink"), ("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "86400000")]).await;
    let (ada, remote) = ada_of(&tandem).await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.delete(&remote).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.settled().await;
    assert_eq!(state(&tandem, &ada).await["state"], "unlinked");
    tandem.kill();
    tandem.set_env(POLICIES[0], "ask");
    tandem.start_again().await;
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.parked().await, Vec::<Value>::new());
    assert_eq!(state(&tandem, &ada).await["state"], "unlinked");
}
