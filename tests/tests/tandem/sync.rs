//! Changes cross both ways.

use serde_json::json;
use stripe_sim::Settings;
use tandem_tests::{Setup, Tandem};

#[tokio::test]
async fn a_customer_created_here_is_created_in_stripe() {
    let tandem = Tandem::start().await;
    let ada = tandem.create("Ada", "ada@old.example").await;

    tandem.settled().await;

    let remote = tandem.remote(&ada.id).await;
    assert_eq!((remote.name.as_deref(), remote.email.as_deref()), (Some("Ada"), Some("ada@old.example")));
    assert_eq!(remote.metadata["tandem_id"], ada.id);
    assert_eq!(tandem.history(&ada.id).await, ["created", "linked"]);
}

#[tokio::test]
async fn an_email_changed_in_stripe_reaches_the_catalog() {
    let tandem = Tandem::start().await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;

    let remote = tandem.remote_id(&ada.id).await;
    tandem.stripe.edit(&remote, &[("email", "ada@new.example")]).await.unwrap();
    tandem.settled().await;

    assert_eq!(tandem.get(&ada.id).await.email.as_deref(), Some("ada@new.example"));
}

#[tokio::test]
async fn a_customer_born_in_stripe_is_born_in_the_catalog_without_a_call() {
    let tandem = Tandem::start().await;
    let fields = [("name", "Grace"), ("phone", "+1 555"), ("metadata[plan]", "pro"), ("address[city]", "Arlington")];
    let born = tandem.told_a_minute_later(tandem.stripe.create(&fields)).await.unwrap();

    let id = tandem.local_id(&born.id).await;
    tandem.settled().await;

    let grace = tandem.get(&id).await;
    assert_eq!((grace.name.as_deref(), grace.email.as_deref()), (Some("Grace"), None));
    assert_eq!(grace.phone.as_deref(), Some("+1 555"));
    assert_eq!(grace.metadata["plan"], "pro");
    assert_eq!(grace.address.unwrap()["city"], "Arlington");
    let object = format!("/v1/customers/{}", born.id);
    let calls = tandem.stripe.calls().await.unwrap();
    assert!(calls.iter().all(|call| call.method == "GET" && call.path != object), "{calls:?}");
}

#[tokio::test]
async fn every_field_crosses_and_is_cleared_on_both_sides() {
    let tandem = Tandem::start().await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    let address = json!({"line1": "1 Main St", "city": "London", "country": "GB"});
    tandem
        .patch(&ada.id, json!({"phone": "+44 1", "address": address, "metadata": {"plan": "pro", "tier": "gold"}}))
        .await;
    tandem.settled().await;
    let remote = tandem.remote(&ada.id).await;
    assert_eq!(remote.phone.as_deref(), Some("+44 1"));
    assert_eq!(remote.address.unwrap().line1.as_deref(), Some("1 Main St"));
    assert_eq!((&*remote.metadata["plan"], &*remote.metadata["tier"]), ("pro", "gold"));

    tandem.patch(&ada.id, json!({"phone": null, "address": null, "metadata": {"tier": null}})).await;
    tandem.settled().await;
    let cleared = tandem.remote(&ada.id).await;
    assert_eq!(cleared.phone, None);
    assert_eq!(cleared.address, None);
    assert_eq!(cleared.metadata.keys().collect::<Vec<_>>(), ["plan", "tandem_id"]);

    tandem.stripe.edit(&remote.id, &[("name", ""), ("metadata[plan]", ""), ("address[city]", "Paris")]).await.unwrap();
    tandem.settled().await;
    let here = tandem.get(&ada.id).await;
    assert_eq!(here.name, None);
    assert!(here.metadata.is_empty());
    assert_eq!(here.address.unwrap()["city"], "Paris");
    tandem.assert_equal(&ada.id).await;
}

#[tokio::test]
async fn no_call_is_made_for_an_echo() {
    // Nobody looks for a twin: what is counted are the calls for an edit.
    let env = vec![("TANDEM_STRIPE__MATCH", "never".to_owned())];
    let tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    tandem.patch(&ada.id, json!({"phone": "1"})).await;
    tandem.settled().await;
    let remote = tandem.remote_id(&ada.id).await;
    tandem.stripe.edit(&remote, &[("phone", "2")]).await.unwrap();
    tandem.settled().await;

    let calls = tandem.stripe.calls().await.unwrap();
    let made: Vec<_> = calls
        .iter()
        .filter(|call| call.path.starts_with("/v1/customers"))
        .map(|call| (call.method.as_str(), call.path.as_str()))
        .collect();
    let update = format!("/v1/customers/{remote}");
    // One GET may follow the edit in Stripe: it is of the same second as the update before it.
    assert_eq!(made[..2], [("POST", "/v1/customers"), ("POST", update.as_str())]);
    assert!(made[2..].iter().all(|(method, _)| *method == "GET"), "{made:?}");
    assert!(made.len() <= 3, "{made:?}");
    assert_eq!(tandem.history(&ada.id).await, ["created", "linked", "updated", "updated"]);
}

#[tokio::test]
async fn deletes_cross_both_ways_and_nothing_comes_back() {
    let tandem = Tandem::start().await;
    let (ada, bob) = (tandem.create("Ada", "ada@old.example").await, tandem.create("Bob", "bob@old.example").await);
    tandem.settled().await;
    let (there_ada, there_bob) = (tandem.remote_id(&ada.id).await, tandem.remote_id(&bob.id).await);

    tandem.delete(&ada.id).await;
    tandem.stripe.delete(&there_bob).await.unwrap();
    tandem.settled().await;

    assert!(tandem.stripe.get(&there_ada).await.unwrap().deleted);
    assert_eq!(tandem.status_of(&bob.id).await, 410);
    assert_eq!(tandem.history(&ada.id).await, ["created", "linked", "deleted"]);
    assert_eq!(tandem.history(&bob.id).await, ["created", "linked", "deleted"]);

    for event in tandem.stripe.events().await.unwrap() {
        tandem.stripe.deliver(&event.id).await.unwrap();
    }
    tandem.settled().await;
    assert!(tandem.customers().await.is_empty());
    assert_eq!(tandem.stripe.customers().await.unwrap().len(), 2);
}

#[tokio::test]
async fn ten_edits_at_once_on_both_sides_end_equal() {
    let tandem = Tandem::start().await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let remote = tandem.remote_id(&ada.id).await;

    for n in 0..10 {
        tandem.patch(&ada.id, json!({"name": format!("Ada {n}"), "metadata": {format!("here{n}"): "x"}})).await;
        let (name, key) = (format!("Ada of Stripe {n}"), format!("metadata[there{n}]"));
        tandem.stripe.edit(&remote, &[("name", &name), (&key, "x")]).await.unwrap();
    }
    tandem.settled().await;

    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.metadata.len(), 20);
}

#[tokio::test]
async fn a_remote_that_spells_emails_its_own_way_is_not_fought() {
    let stripe = Settings { normalise_email: true, ..Settings::default() };
    let tandem = Tandem::start_with(Setup { stripe, ..Setup::default() }).await;
    let ada = tandem.create("Ada", "Ada@Old.Example").await;
    tandem.settled().await;
    assert_eq!(tandem.get(&ada.id).await.email.as_deref(), Some("ada@old.example"));
    tandem.assert_equal(&ada.id).await;

    tandem.patch(&ada.id, json!({"email": "Ada@New.Example"})).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    let writes = tandem.stripe.calls().await.unwrap().into_iter().filter(|call| call.method == "POST").count();
    assert_eq!(writes, 2, "one create, one update");
}

#[tokio::test]
async fn the_paths_of_the_seed_reach_stripe_too() {
    let tandem = Tandem::start().await;
    let created = tandem.post("/customer", json!({"name": "Ada", "email": "ada@old.example"})).await;
    assert_eq!(created.status(), 201);
    let id = created.json::<serde_json::Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let put = tandem.http().put(tandem.at("/customer")).json(&json!({"id": id, "email": "ada@new.example"}));
    assert_eq!(put.send().await.unwrap().status(), 200);
    tandem.settled().await;
    assert_eq!(tandem.remote(&id).await.email.as_deref(), Some("ada@new.example"));
    let remote = tandem.remote_id(&id).await;

    let delete = tandem.http().delete(tandem.at("/customer")).json(&json!({"id": id}));
    assert_eq!(delete.send().await.unwrap().status(), 204);
    tandem.settled().await;
    assert!(tandem.stripe.get(&remote).await.unwrap().deleted);
}

#[tokio::test]
async fn webhooks_that_were_lost_are_swept_up() {
    let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "200".to_owned())];
    let tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;

    tandem.stripe.drop_webhooks(2).await.unwrap();
    let remote = tandem.remote_id(&ada.id).await;
    tandem.stripe.edit(&remote, &[("phone", "2")]).await.unwrap();
    let born = tandem.stripe.create(&[("name", "Grace")]).await.unwrap();

    tandem.until("the edit", || async { tandem.get(&ada.id).await.phone.as_deref() == Some("2") }).await;
    tandem.local_id(&born.id).await;
}

#[tokio::test]
async fn how_long_changes_take_is_measured_in_each_direction() {
    let tandem = Tandem::start().await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    tandem.stripe.edit(&tandem.remote_id(&ada.id).await, &[("name", "Countess")]).await.unwrap();
    tandem.settled().await;

    let shown = tandem.http().get(tandem.at("/metrics")).send().await.unwrap().text().await.unwrap();

    for direction in ["inbound", "outbound"] {
        let labels = format!("tandem_sync_seconds_bucket{{gateway=\"stripe\",direction=\"{direction}\",le=\"3600\"}}");
        let counted = shown.lines().find_map(|line| line.strip_prefix(&labels)?.trim().parse::<u64>().ok());
        assert_eq!(counted, Some(1), "{direction}: {shown}");
    }
}
