//! Fields at their edges: what Stripe holds under rules of its own, what it refuses of many, and what it does not tell.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stripe_sim::{Fault, Settings};
use tandem_tests::{Account, Setup, Tandem};

/// Metadata of so many keys, as parameters.
fn keys(count: usize) -> Vec<(String, String)> {
    (0..count).map(|n| (format!("metadata[key{n}]"), "x".to_owned())).collect()
}

/// A customer that is created in Stripe with these, and in step. Returns both ids.
async fn born(tandem: &Tandem, fields: &[(&str, &str)]) -> (String, String) {
    let remote = tandem.stripe.create(fields).await.unwrap().id;
    let id = tandem.local_id(&remote).await;
    tandem.settled().await;
    (id, remote)
}

/// The same, with so many metadata keys.
async fn born_with_keys(tandem: &Tandem, count: usize) -> (String, String) {
    let keys = keys(count);
    let mut fields: Vec<(&str, &str)> = vec![("name", "Ada"), ("email", "ada@old.example")];
    fields.extend(keys.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    born(tandem, &fields).await
}

/// Variant: the rule of one part is applied to all, and nobody can set the city of such a customer.
#[tokio::test]
async fn a_part_of_an_address_is_set_whatever_the_others_are_in_stripe() {
    let tandem = Tandem::start().await;
    for (part, odd) in [
        ("address[country]", "US - United States"),
        ("address[country]", "us"),
        ("address[line1]", "1 Main St\r\nFlat 2"),
        ("address[state]", " "),
    ] {
        let (id, remote) = born(&tandem, &[("name", "Ada"), ("address[city]", "Oxford"), (part, odd)]).await;
        tandem.patch(&id, json!({"address": {"city": "Cambridge"}})).await;
        tandem.settled().await;

        let there = serde_json::to_value(tandem.stripe.get(&remote).await.unwrap().address).unwrap();
        let name = part.trim_start_matches("address[").trim_end_matches(']');
        assert_eq!((&there["city"], &there[name]), (&json!("Cambridge"), &json!(odd)), "{part}");
        assert_eq!(tandem.get(&id).await.address, Some(there), "{part}");

        // Whoever sends all of it back changes nothing of it.
        let whole = tandem.get(&id).await.address;
        tandem.patch(&id, json!({"address": whole, "name": "Countess"})).await;
        // What is changed keeps to the rules.
        let url = tandem.at(&format!("/customers/{id}"));
        let country = json!({"address": {"country": "gb"}});
        let refused = tandem.http().patch(url).json(&country).send().await.unwrap();
        assert_eq!(refused.status(), 422, "{part}");
    }
}

/// The older form, and a value of a key: what came from Stripe under other rules refuses no other change.
#[tokio::test]
async fn what_stripe_holds_under_other_rules_is_kept_and_refuses_nothing_else() {
    let tandem = Tandem::start().await;
    let (name, key) = (" ", "metadata[a\tb]");
    let (id, remote) = born(&tandem, &[("name", name), ("email", "ada@old.example"), (key, "1")]).await;
    assert_eq!(tandem.get(&id).await.metadata, BTreeMap::from([("a\tb".to_owned(), "1".to_owned())]));

    let renamed = json!({"id": id, "name": name, "email": "ada@new.example"});
    let answer = tandem.http().put(tandem.at("/customer")).json(&renamed).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    tandem.patch(&id, json!({"metadata": {"a\tb": "2", "plan": "pro"}})).await;
    tandem.settled().await;
    let there = tandem.stripe.get(&remote).await.unwrap();
    assert_eq!((there.name.as_deref(), there.email.as_deref()), (Some(name), Some("ada@new.example")));
    assert_eq!((&*there.metadata["a\tb"], &*there.metadata["plan"]), ("2", "pro"));
}

/// Variant: what is refused of one key holds back every other field, for ever.
#[tokio::test]
async fn a_key_for_which_there_is_no_room_holds_nothing_else_back() {
    let tandem = Tandem::start().await;
    let (id, remote) = born_with_keys(&tandem, 48).await;
    let outbound = json!({"direction": "outbound"});
    assert_eq!(tandem.post("/gateways/stripe/pause", outbound.clone()).await.status(), 204);
    tandem.patch(&id, json!({"phone": "1", "metadata": {"c": "here", "key0": "y"}})).await;
    tandem.stripe.edit(&remote, &[("metadata[a]", "there"), ("metadata[b]", "there")]).await.unwrap();
    tandem.stripe.webhooks_idle().await.unwrap();
    assert_eq!(tandem.post("/gateways/stripe/resume", outbound).await.status(), 204);
    tandem.settled().await;
    let fields = |parked: Vec<Value>| parked.iter().map(|one| one["field"].clone()).collect::<Vec<_>>();
    assert_eq!(fields(tandem.parked().await), [json!("metadata.c")]);
    let reason = tandem.parked().await[0]["reason"].clone();
    assert!(reason.as_str().unwrap().contains("Metadata can have up to 50 keys"), "in Stripe's words: {reason}");
    let there = tandem.stripe.get(&remote).await.unwrap();
    assert_eq!((there.phone.as_deref(), &*there.metadata["key0"]), (Some("1"), "y"), "what went with it crossed");

    tandem.patch(&id, json!({"email": "ada@new.example", "name": "Countess"})).await;
    tandem.patch(&id, json!({"metadata": {"key0": "z"}})).await;
    tandem.settled().await;
    let there = tandem.stripe.get(&remote).await.unwrap();
    assert_eq!((there.email.as_deref(), there.name.as_deref()), (Some("ada@new.example"), Some("Countess")));
    assert_eq!((&*there.metadata["key0"], there.metadata.len()), ("z", 50));
    assert_eq!(fields(tandem.parked().await), [json!("metadata.c")]);

    // An edit that makes room lets it through.
    tandem.patch(&id, json!({"metadata": {"key1": null}})).await;
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
    tandem.assert_equal(&id).await;
}

/// Variant: what an event of an older API version does not have is unset here, and then in Stripe's other accounts.
#[tokio::test]
async fn what_an_event_does_not_tell_stays() {
    let tandem = Tandem::start().await;
    let fields = [("name", "Ada"), ("phone", "1"), ("address[city]", "London"), ("metadata[plan]", "pro")];
    let (id, remote) = born(&tandem, &fields).await;
    let events_without = ["phone", "address", "metadata"].map(str::to_owned).to_vec();
    tandem.stripe.set(&Settings { events_without, ..Settings::default() }).await.unwrap();
    tandem.stripe.edit(&remote, &[("name", "Countess"), ("metadata[seats]", "3")]).await.unwrap();
    tandem.settled().await;

    let here = tandem.get(&id).await;
    assert_eq!((here.name.as_deref(), here.phone.as_deref()), (Some("Countess"), Some("1")));
    assert_eq!(here.address.unwrap()["city"], "London");
    assert_eq!(here.metadata.len(), 2, "{:?}", here.metadata);
    tandem.assert_equal(&id).await;

    // One that is new here, too; and of one that is deleted nothing was overwritten.
    let (id, remote) = born(&tandem, &[("name", "Grace"), ("phone", "2"), ("metadata[plan]", "pro")]).await;
    assert_eq!(tandem.get(&id).await.phone.as_deref(), Some("2"));
    tandem.stripe.delete(&remote).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.status_of(&id).await, 410);
    assert!(!tandem.history(&id).await.contains(&"conflict_resolved".to_owned()));
}

/// Variant: a customer born with as many keys as Stripe takes is refused at every other account: our id is one too many.
#[tokio::test]
async fn fifty_keys_of_a_users_own_cross_and_ours_gives_way() {
    let tandem = Tandem::start_with(Setup { accounts: vec![Account::new("eu")], ..Setup::default() }).await;
    let (id, _) = born_with_keys(&tandem, 50).await;
    assert_eq!(tandem.remote_at("eu", &id).await.metadata.len(), 50);
    tandem.assert_equal(&id).await;
    let there = tandem.remote_id_at("eu", &id).await;
    tandem.stripe_of("eu").edit(&there, &[("name", "Countess"), ("metadata[key0]", "y")]).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.get(&id).await.name.as_deref(), Some("Countess"));
    tandem.assert_equal(&id).await;

    // The last key is set later.
    let metadata: BTreeMap<_, _> = (0..49).map(|n| (format!("key{n}"), "x")).collect();
    let made = tandem.post("/customers", json!({"name": "Grace", "metadata": metadata})).await;
    let id = made.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    tandem.settled().await;
    assert_eq!(tandem.remote(&id).await.metadata["tandem_id"], id);
    tandem.patch(&id, json!({"metadata": {"plan": "pro"}})).await;
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
    tandem.assert_equal(&id).await;
    let url = tandem.at(&format!("/customers/{id}"));
    let refused = tandem.http().patch(url).json(&json!({"metadata": {"more": "1"}})).send().await.unwrap();
    assert_eq!(refused.status(), 422);
}

/// Variant: of an object without room for our id, the event of its creation is taken for a stranger's, and imported.
#[tokio::test]
async fn our_own_create_without_room_for_our_id_is_known_by_its_key() {
    for fault in [Fault::HangReply, Fault::DropReply, Fault::Fail500AfterWork] {
        let env = vec![("TANDEM_STRIPE__MATCH", "never".to_owned())];
        let tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
        let hangs = matches!(fault, Fault::HangReply);
        let armed = tandem.stripe.fault(fault.on("POST", "/v1/customers")).await.unwrap();
        let metadata: BTreeMap<_, _> = (0..50).map(|n| (format!("key{n}"), "x")).collect();
        let made = tandem.post("/customers", json!({"name": "Ada", "metadata": metadata})).await;
        let id = made.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
        if hangs {
            tandem.stripe.fault_reached(armed, 1).await.unwrap();
            tandem.stripe.webhooks_idle().await.unwrap();
            tandem.until("it is routed", || async { tandem.rows("inbox", "state = 'new'").await == 0 }).await;
            tandem.stripe.release_fault(armed).await.unwrap();
        }
        tandem.settled().await;
        assert_eq!((tandem.customers().await.len(), tandem.stripe.customers().await.unwrap().len()), (1, 1));
        tandem.assert_equal(&id).await;
        assert_eq!(tandem.history(&id).await, ["created", "linked"]);
    }
}

/// Forms and CRMs send an empty text for what is not there.
#[tokio::test]
async fn an_empty_text_unsets_here_and_in_stripe() {
    let tandem = Tandem::start().await;
    let (id, remote) = born(
        &tandem,
        &[
            ("name", "Ada"),
            ("email", "ada@old.example"),
            ("phone", "1"),
            ("metadata[plan]", "pro"),
            ("address[city]", "X"),
        ],
    )
    .await;
    let empty = json!({"name": "", "phone": "", "metadata": {"plan": ""}, "address": {"city": ""}});
    tandem.patch(&id, empty).await;
    tandem.settled().await;
    let there = tandem.stripe.get(&remote).await.unwrap();
    assert_eq!((there.name, there.phone, there.address), (None, None, None));
    assert!(there.metadata.is_empty());

    let renamed = json!({"id": id, "name": "Ada", "email": ""});
    let answer = tandem.http().put(tandem.at("/customer")).json(&renamed).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    tandem.settled().await;
    assert_eq!(tandem.get(&id).await.email, None);
    let unnamed = tandem.post("/customer", json!({"name": "", "email": "ada@new.example"})).await;
    assert_eq!(unnamed.status(), 422);
    let named = tandem.post("/customers", json!({"name": "Eve", "email": ""})).await;
    assert_eq!(named.status(), 201);
}
