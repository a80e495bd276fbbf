//! Several Stripe accounts: a change at one reaches the others through the catalog, and then there is rest.

use std::time::Duration;

use serde_json::json;
use stripe_sim::{Fault, Order, Settings};
use tandem_tests::{Account, Customer, Setup, Tandem, others_change};

async fn with(accounts: Vec<Account>) -> Tandem {
    Tandem::start_with(Setup { accounts, ..Setup::default() }).await
}

async fn two() -> Tandem {
    with(vec![Account::new("eu")]).await
}

async fn ada(tandem: &Tandem) -> Customer {
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    ada
}

/// The calls that change something, made so far at all gateways.
async fn writes(tandem: &Tandem) -> usize {
    let mut writes = 0;
    for gateway in tandem.gateways() {
        let calls = tandem.stripe_of(gateway).calls().await.unwrap();
        writes += calls.iter().filter(|call| call.is_write()).count();
    }
    writes
}

/// Looks at every object anew: whatever was left to do would be done.
async fn look_at_everything(tandem: &Tandem) {
    sqlx::query("UPDATE links SET look = true, due_seq = due_seq + 1").execute(&tandem.database).await.unwrap();
    tandem.settled().await;
}

async fn assert_at_rest(tandem: &Tandem) {
    let (before, events) = (writes(tandem).await, tandem.rows("events", "true").await);
    look_at_everything(tandem).await;
    assert_eq!((writes(tandem).await, tandem.rows("events", "true").await), (before, events), "no ping-pong");
}

/// How many living customers each side has.
async fn alive(tandem: &Tandem) -> Vec<usize> {
    let mut alive = vec![tandem.customers().await.len()];
    for gateway in tandem.gateways() {
        let there = tandem.stripe_of(gateway).customers().await.unwrap();
        alive.push(there.iter().filter(|customer| !customer.deleted).count());
    }
    alive
}

#[tokio::test]
async fn a_customer_created_here_is_once_in_every_account() {
    let tandem = two().await;
    let ada = ada(&tandem).await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(alive(&tandem).await, [1, 1, 1]);
    assert_at_rest(&tandem).await;
}

#[tokio::test]
async fn a_customer_born_in_one_account_is_once_in_the_other() {
    let tandem = two().await;
    let born = tandem.stripe_of("eu").create(&[("name", "Grace"), ("email", "grace@old.example")]).await.unwrap();
    let id = tandem.local_id(&born.id).await;
    tandem.settled().await;
    tandem.assert_equal(&id).await;
    assert_eq!(alive(&tandem).await, [1, 1, 1]);
    assert_eq!(tandem.remote_at("stripe", &id).await.metadata["tandem_id"], id);
    assert_at_rest(&tandem).await;
}

#[tokio::test]
async fn an_edit_in_one_account_reaches_the_other() {
    let tandem = two().await;
    let ada = ada(&tandem).await;
    for (from, name) in [("eu", "Countess"), ("stripe", "Lovelace")] {
        let there = tandem.remote_id_at(from, &ada.id).await;
        tandem.stripe_of(from).edit(&there, &[("name", name), ("metadata[from]", from)]).await.unwrap();
        tandem.settled().await;
        assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some(name));
        tandem.assert_equal(&ada.id).await;
    }
    assert_at_rest(&tandem).await;
}

#[tokio::test]
async fn edits_in_three_accounts_and_here_at_once_end_equal() {
    let tandem = with(vec![Account::new("eu"), Account::new("us")]).await;
    let ada = ada(&tandem).await;
    let mut there = vec![];
    for gateway in tandem.gateways() {
        there.push((gateway, tandem.remote_id_at(gateway, &ada.id).await));
    }
    for n in 0..5 {
        for (gateway, id) in &there {
            let (name, key) = (format!("Ada of {gateway} {n}"), format!("metadata[{gateway}{n}]"));
            tandem.stripe_of(gateway).edit(id, &[("name", &name), (&key, "x")]).await.unwrap();
        }
        tandem.patch(&ada.id, json!({"name": format!("Ada {n}"), "metadata": {format!("here{n}"): "x"}})).await;
    }
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.metadata.len(), 20);
    assert_at_rest(&tandem).await;
}

#[tokio::test]
async fn an_account_that_spells_emails_its_own_way_and_one_that_does_not_come_to_rest() {
    let normalises = Settings { normalise_email: true, ..Settings::default() };
    let tandem = with(vec![Account::new("eu").behaving(normalises), Account::new("us")]).await;
    let ada = tandem.create("Ada", "Ada@Old.Example").await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.email.as_deref(), Some("ada@old.example"));

    for (gateway, email) in [("stripe", "Ada@New.Example"), ("us", "ADA@new.example"), ("eu", "ADA@newer.example")] {
        let there = tandem.remote_id_at(gateway, &ada.id).await;
        tandem.stripe_of(gateway).edit(&there, &[("email", email)]).await.unwrap();
        tandem.settled().await;
        let held = tandem.get(&ada.id).await.email;
        assert_eq!(held.unwrap().to_lowercase(), email.to_lowercase());
        assert_at_rest(&tandem).await;
    }
    tandem.assert_equal(&ada.id).await;
}

#[tokio::test]
async fn a_delete_in_one_account_deletes_everywhere() {
    let tandem = two().await;
    let ada = ada(&tandem).await;
    let there = tandem.remote_id_at("eu", &ada.id).await;
    tandem.stripe_of("eu").delete(&there).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.status_of(&ada.id).await, 410);
    assert!(tandem.remote_at("stripe", &ada.id).await.deleted);
    assert_eq!(alive(&tandem).await, [0, 0, 0]);
    assert_at_rest(&tandem).await;
}

#[tokio::test]
async fn an_account_that_is_away_holds_up_no_other() {
    let tandem = two().await;
    let ada = ada(&tandem).await;
    let eu = tandem.stripe_of("eu");
    eu.fault(Fault::DropRequest.on("POST", "/v1/customers/*").always()).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    let elsewhere = || async { tandem.remote_at("stripe", &ada.id).await.name.as_deref() == Some("Countess") };
    tandem.until("the edit at the other", elsewhere).await;
    assert_eq!(tandem.remote_at("eu", &ada.id).await.name.as_deref(), Some("Ada"));
    eu.clear_faults().await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
}

#[tokio::test]
async fn killed_in_the_middle_all_accounts_end_equal() {
    let sweeping = "sweep_interval_ms = 500";
    let accounts = vec![Account::new("eu").with(sweeping), Account::new("us").with(sweeping)];
    let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "500".to_owned())];
    let mut tandem = Tandem::start_with(Setup { accounts, env, ..Setup::default() }).await;
    let mut ids = vec![];
    for n in 0..4 {
        ids.push(tandem.create(&format!("name {n}"), &format!("c{n}@old.example")).await.id);
    }
    tandem.settled().await;
    for round in 0..3 {
        for (n, id) in ids.iter().enumerate() {
            let gateway = ["stripe", "eu", "us"][(n + round) % 3];
            tandem.patch(id, json!({"phone": format!("{round}{n}")})).await;
            let there = tandem.remote_id_at(gateway, id).await;
            tandem.stripe_of(gateway).edit(&there, &[("name", &format!("name {round} {n}"))]).await.unwrap();
        }
        tandem.stripe_of("us").create(&[("name", &format!("born {round}"))]).await.unwrap();
        tandem.kill();
        tandem.start_again().await;
    }
    tandem.settled().await;
    for customer in tandem.customers().await {
        tandem.assert_equal(&customer.id).await;
    }
    assert_eq!(alive(&tandem).await, [7; 4], "nothing lost, nothing doubled");
    assert_at_rest(&tandem).await;
}

#[tokio::test]
async fn connected_accounts_share_a_key_and_nothing_else() {
    let accounts = vec![
        Account::connected("eu", "acct_eu").with("filter = { field = \"metadata.region\", equals = \"eu\" }"),
        Account::connected("us", "acct_us"),
    ];
    let tandem = with(accounts).await;
    let ada = ada(&tandem).await;
    assert_eq!(alive(&tandem).await, [1, 1, 0, 1]);

    let there = tandem.remote_id_at("us", &ada.id).await;
    tandem.stripe_of("us").edit(&there, &[("name", "Countess"), ("metadata[region]", "eu")]).await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(alive(&tandem).await, [1, 1, 1, 1]);
    assert_at_rest(&tandem).await;
}

#[tokio::test]
async fn a_filter_says_who_is_created_there_and_nothing_else() {
    let tandem = with(vec![Account::new("eu").with("filter = { field = \"metadata.region\", equals = \"eu\" }")]).await;
    let ada = ada(&tandem).await;
    assert_eq!(alive(&tandem).await, [1, 1, 0], "she does not match");

    tandem.patch(&ada.id, json!({"metadata": {"region": "eu"}})).await;
    tandem.settled().await;
    assert_eq!(alive(&tandem).await, [1, 1, 1], "she begins to match");
    tandem.assert_equal(&ada.id).await;

    tandem.patch(&ada.id, json!({"name": "Countess", "metadata": {"region": "us"}})).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(alive(&tandem).await, [1, 1, 1], "she stays, and stays in step");

    let born = tandem.stripe_of("eu").create(&[("name", "Grace")]).await.unwrap();
    let grace = tandem.local_id(&born.id).await;
    tandem.settled().await;
    tandem.assert_equal(&grace).await;
    assert_eq!(alive(&tandem).await, [2, 2, 2], "what is born there is imported whatever its fields");
}

#[tokio::test]
async fn a_rolled_key_is_used_for_the_next_call_and_nothing_is_lost() {
    let mut tandem = two().await;
    let ada = ada(&tandem).await;
    let eu = tandem.stripe_of("eu").clone();
    let ends = |calls: Vec<stripe_sim::Call>| calls.into_iter().map(|call| call.key_end).collect::<Vec<_>>();
    assert!(ends(eu.calls().await.unwrap()).iter().all(|end| end == "ndem"));

    // The old one ends before anybody has told us of the new one.
    let expired = Settings { expired_keys: vec!["sk_test_tandem".to_owned()], ..Settings::default() };
    eu.set(&expired).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    eu.calls_when(1, |call| call.status == Some(401)).await.unwrap();
    eu.clear_calls().await.unwrap();

    tandem.roll_key("eu", "sk_test_rolled");
    eu.calls_when(1, |call| call.is_write() && call.status == Some(200)).await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    let last = ends(eu.calls().await.unwrap()).pop();
    assert_eq!(last.as_deref(), Some("lled"));

    // Settings that won't do are not taken.
    tandem.roll_key("eu", "sk_live_rolled");
    tandem.until("refused", || async { tandem.log().contains("those so far stay") }).await;
    tandem.patch(&ada.id, json!({"name": "Lovelace"})).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
}

/// Variant: only equal keys are noticed, and an account with two gateways gets every customer twice.
#[tokio::test]
async fn two_keys_of_one_account_end_the_start_and_both_are_named() {
    let tandem = Tandem::start().await;
    let env = [
        ("TANDEM_HTTP__BIND", "127.0.0.1:0"),
        ("TANDEM_GATEWAYS__EU__KIND", "stripe"),
        ("TANDEM_GATEWAYS__EU__API_BASE", tandem.stripe.url()),
        ("TANDEM_GATEWAYS__EU__SECRET_KEY", "rk_test_another"),
    ];
    let serving = tandem.command_with(&env, &["serve"]);
    let (code, said) = tokio::time::timeout(std::time::Duration::from_secs(60), serving).await.expect("an end");
    assert_eq!(code, Some(1), "{said}");
    let told = "TANDEM_GATEWAYS__EU__SECRET_KEY: is of acct_1LocalStripe0Sim00, and so is the gateway stripe: they would fight";
    assert!(said.contains(told), "{said}");
}

#[tokio::test]
async fn an_account_that_stripe_does_not_tell_does_not_hold_up_the_others() {
    let no = Fault::status(403).on("GET", "/v1/account").always();
    let mut tandem = two().await;
    tandem.stripe_of("eu").fault(no).await.unwrap();
    tandem.stop();
    tandem.start_again().await;
    let ada = ada(&tandem).await;
    tandem.assert_equal(&ada.id).await;
    tandem.until("it is said", || async { tandem.log().contains("does not tell which account") }).await;
}

/// Variant: what a look finds counts as edited when it was seen. An edit of yesterday, taken in today, wins over one of today
/// at another account.
#[tokio::test]
async fn an_edit_that_a_look_made_sure_of_is_as_old_as_it_was_told() {
    let mut tandem = two().await;
    let ada = ada(&tandem).await;
    let (here, there) = (tandem.remote_id(&ada.id).await, tandem.remote_id_at("eu", &ada.id).await);
    tandem.stop();
    tandem.until_next_second().await;
    // Two at once: what is so now has to be asked.
    tandem.stripe_of("eu").drop_webhooks(2).await.unwrap();
    tandem.stripe_of("eu").edit(&there, &[("metadata[seat]", "old")]).await.unwrap();
    tandem.stripe_of("eu").edit(&there, &[("phone", "1")]).await.unwrap();
    for gateway in ["stripe", "eu"] {
        tandem.stripe_of(gateway).advance(Duration::from_secs(3600)).await.unwrap();
    }
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.edit(&here, &[("metadata[seat]", "new")]).await.unwrap();
    let later = tandem.stripe.fault(Fault::Hang.on("GET", "/v1/events")).await.unwrap();
    tandem.start_again().await;
    tandem.until("the older one is here", || async { tandem.get(&ada.id).await.metadata.contains_key("seat") }).await;
    tandem.stripe.release_fault(later).await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.metadata["seat"], "new");
}

/// An edit of an hour ago at one account, whose webhook is late and which a reply shows first, before and after it so many
/// changes of others there; and one of a minute ago at another account. Returns who won, and how many pages were read.
async fn first_seen_in_a_reply(others: u32) -> (String, usize) {
    let stripe = Settings { sign_by_clock: true, ..Settings::default() };
    let accounts = vec![Account::new("eu").behaving(stripe.clone())];
    let tandem = Tandem::start_with(Setup { accounts, stripe, ..Setup::default() }).await;
    let ada = ada(&tandem).await;
    let (here, there) = (tandem.remote_id(&ada.id).await, tandem.remote_id_at("eu", &ada.id).await);
    for gateway in ["stripe", "eu"] {
        tandem.stripe_of(gateway).hold().await.unwrap();
    }
    let eu = tandem.stripe_of("eu");
    others_change(eu, others).await;
    eu.edit(&there, &[("metadata[seat]", "old")]).await.unwrap();
    others_change(eu, others).await;
    eu.clear_calls().await.unwrap();
    tandem.pass(Duration::from_secs(3600)).await;
    tandem.stripe.edit(&here, &[("metadata[seat]", "new")]).await.unwrap();
    tandem.pass(Duration::from_secs(60)).await;
    let slow = tandem.stripe.fault(Fault::Hang.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada.id, json!({"phone": "1"})).await;
    tandem.until("the older one is here", || async { tandem.get(&ada.id).await.metadata.contains_key("seat") }).await;
    tandem.stripe.release_fault(slow).await.unwrap();
    for gateway in ["stripe", "eu"] {
        tandem.stripe_of(gateway).release(Order::Fifo).await.unwrap();
    }
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    let calls = eu.calls().await.unwrap();
    let pages = calls.iter().filter(|call| call.path == "/v1/events").count();
    (tandem.get(&ada.id).await.metadata["seat"].clone(), pages)
}

/// Variant: what a reply shows counts as edited when it was seen, and wins over what was edited later elsewhere.
#[tokio::test]
async fn an_edit_first_seen_in_a_reply_is_as_old_as_the_list_tells() {
    assert_eq!(first_seen_in_a_reply(0).await, ("new".to_owned(), 1));
}

#[tokio::test]
async fn the_list_is_read_until_it_tells_and_no_further() {
    assert_eq!(first_seen_in_a_reply(150).await, ("new".to_owned(), 2));
}

/// Variant: the whole list is read, of an account that has changed a million times since, and the run never ends.
#[tokio::test]
async fn beyond_a_thousand_changes_an_edit_is_as_old_as_its_sight() {
    assert_eq!(first_seen_in_a_reply(1_050).await, ("old".to_owned(), 10));
}
