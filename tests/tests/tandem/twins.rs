//! Twins: a customer here and an object in Stripe with one email, which no link knows as the same.

use serde_json::{Value, json};
use tandem_tests::{Account, Customer, Setup, Tandem};

const EMAIL: &str = "ada@old.example";

async fn with(matching: &str) -> Tandem {
    let env = vec![("TANDEM_STRIPE__MATCH", matching.to_owned())];
    Tandem::start_with(Setup { env, ..Setup::default() }).await
}

/// An object that Tandem was never told of, as those from before it came.
async fn stranger(tandem: &Tandem, fields: &[(&str, &str)]) -> String {
    // The first sweep would tell of what is a moment old.
    tandem.stripe.calls_when(1, |call| call.path == "/v1/events" && call.status == Some(200)).await.unwrap();
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.create(fields).await.unwrap().id
}

/// A customer here whose twin was in Stripe before.
async fn parked_pair(tandem: &Tandem) -> (Customer, String) {
    let there = stranger(tandem, &[("name", "Ada of Stripe"), ("email", EMAIL), ("phone", "1")]).await;
    let ada = tandem.create("Ada", EMAIL).await;
    tandem.settled().await;
    (ada, there)
}

/// The same, told of from both sides.
async fn pair_parked_twice(tandem: &Tandem) -> (Customer, String) {
    let (ada, there) = parked_pair(tandem).await;
    tandem.stripe.edit(&there, &[("phone", "2")]).await.unwrap();
    tandem.settled().await;
    (ada, there)
}

/// What is parked, if it is one thing.
async fn parked(tandem: &Tandem) -> Value {
    let parked = tandem.parked().await;
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert_eq!(parked[0]["kind"], "ambiguous");
    parked[0].clone()
}

async fn answer(tandem: &Tandem, parked: &Value, what: &str, body: Value) -> u16 {
    let answer = tandem.post(&format!("/parked/{}/{what}", parked["id"]), body).await.status().as_u16();
    tandem.settled().await;
    answer
}

async fn creates(tandem: &Tandem) -> usize {
    let calls = tandem.stripe.calls().await.unwrap();
    calls.iter().filter(|call| call.method == "POST" && call.path == "/v1/customers").count()
}

async fn living(tandem: &Tandem) -> (usize, usize) {
    let there = tandem.stripe.customers().await.unwrap();
    (tandem.customers().await.len(), there.iter().filter(|customer| !customer.deleted).count())
}

#[tokio::test]
async fn a_twin_in_stripe_is_parked_with_both_ids_and_nothing_is_created() {
    let tandem = Tandem::start().await;
    let (ada, there) = parked_pair(&tandem).await;
    let shown = parked(&tandem).await;
    assert_eq!((&shown["customer_id"], &shown["remote_id"]), (&json!(ada.id), &json!(there)));
    assert_eq!(shown["candidates"], json!([there]));
    assert_eq!((creates(&tandem).await, living(&tandem).await), (0, (1, 1)));
    let link = &tandem.get_json(&format!("/customers/{}/links", ada.id)).await["data"][0];
    assert_eq!((&link["in_sync"], &link["parked"]), (&json!(false), &shown["id"]));

    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.settled().await;
    assert_eq!(parked(&tandem).await["id"], shown["id"], "an edit changes nothing about that");
    assert_eq!(creates(&tandem).await, 0);
}

#[tokio::test]
async fn a_person_links_them_and_what_differs_stays_readable() {
    let tandem = Tandem::start().await;
    let (ada, there) = parked_pair(&tandem).await;
    let shown = parked(&tandem).await;
    assert_eq!(answer(&tandem, &shown, "link", json!({})).await, 204);

    assert_eq!(tandem.remote_id(&ada.id).await, there);
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.get(&ada.id).await.phone.as_deref(), Some("1"), "what only one side has is kept");
    let events = tandem.events(&ada.id).await;
    let contest = events.iter().find(|event| event["type"] == "conflict_resolved").unwrap();
    let text = contest.to_string();
    assert!(text.contains("\"Ada\"") && text.contains("\"Ada of Stripe\""), "{text}");
    assert!(tandem.parked().await.is_empty());
    assert_eq!((creates(&tandem).await, living(&tandem).await), (0, (1, 1)));
    assert_eq!(answer(&tandem, &shown, "link", json!({})).await, 404);

    tandem.stripe.edit(&there, &[("name", "Lovelace")]).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Lovelace"), "they are in step from then on");
}

#[tokio::test]
async fn a_person_says_that_they_are_two() {
    let tandem = Tandem::start().await;
    let (ada, there) = parked_pair(&tandem).await;
    assert_eq!(answer(&tandem, &parked(&tandem).await, "dismiss", json!({})).await, 204);
    tandem.assert_equal(&ada.id).await;
    assert_ne!(tandem.remote_id(&ada.id).await, there);
    assert!(tandem.parked().await.is_empty());

    // The other is imported when it is told of.
    tandem.stripe.edit(&there, &[("phone", "2")]).await.unwrap();
    tandem.settled().await;
    assert_eq!(living(&tandem).await, (2, 2));
    assert!(tandem.parked().await.is_empty());
}

#[tokio::test]
async fn told_of_from_both_sides_they_are_parked_twice_and_linked_once() {
    let tandem = Tandem::start().await;
    let (ada, there) = pair_parked_twice(&tandem).await;
    let both = tandem.parked().await;
    assert_eq!(both.len(), 2, "{both:?}");
    for shown in &both {
        assert_eq!((&shown["customer_id"], &shown["remote_id"]), (&json!(ada.id), &json!(there)));
    }
    assert_eq!(living(&tandem).await, (1, 1));

    assert_eq!(answer(&tandem, &both[1], "link", json!({"candidate": ada.id})).await, 204);
    assert!(tandem.parked().await.is_empty());
    assert_eq!(tandem.remote_id(&ada.id).await, there);
    assert_eq!(tandem.get(&ada.id).await.phone.as_deref(), Some("2"));
    tandem.assert_equal(&ada.id).await;
    assert_eq!(living(&tandem).await, (1, 1));
}

#[tokio::test]
async fn told_of_from_both_sides_they_are_parted_by_either() {
    for which in [0, 1] {
        let tandem = Tandem::start().await;
        pair_parked_twice(&tandem).await;
        let both = tandem.parked().await;
        assert_eq!(answer(&tandem, &both[which], "dismiss", json!({})).await, 204);
        assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
        assert_eq!(living(&tandem).await, (2, 2));
    }
}

#[tokio::test]
async fn a_twin_here_of_what_is_born_in_stripe_is_parked_and_not_imported() {
    let filter = "filter = { field = \"metadata.region\", equals = \"eu\" }";
    let accounts = vec![Account::new("eu").with(filter)];
    let tandem = Tandem::start_with(Setup { accounts, ..Setup::default() }).await;
    let ada = tandem.create("Ada", "Ada@Old.example").await;
    tandem.settled().await;
    let born = tandem.stripe_of("eu").create(&[("name", "Ada"), ("email", "ada@OLD.example")]).await.unwrap();
    tandem.settled().await;
    let shown = parked(&tandem).await;
    assert_eq!((&shown["gateway"], &shown["candidates"]), (&json!("eu"), &json!([ada.id])));
    assert_eq!((&shown["customer_id"], &shown["remote_id"]), (&json!(ada.id), &json!(born.id)));
    assert_eq!(tandem.customers().await.len(), 1);

    assert_eq!(answer(&tandem, &shown, "retry", json!({})).await, 204);
    let again = parked(&tandem).await;
    assert_ne!(again["id"], shown["id"], "looked at again, and still so");

    assert_eq!(answer(&tandem, &again, "link", json!({})).await, 204);
    tandem.assert_equal(&ada.id).await;
    assert_eq!(tandem.remote_id_at("eu", &ada.id).await, born.id);
    assert_eq!((tandem.customers().await.len(), tandem.parked().await.len()), (1, 0));
}

#[tokio::test]
async fn what_is_parked_and_then_deleted_is_no_question_any_more() {
    let tandem = Tandem::start().await;
    let (ada, there) = pair_parked_twice(&tandem).await;
    assert_eq!(tandem.parked().await.len(), 2);
    tandem.stripe.delete(&there).await.unwrap();
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
    tandem.assert_equal(&ada.id).await;

    let tandem = Tandem::start().await;
    let (ada, there) = pair_parked_twice(&tandem).await;
    tandem.delete(&ada.id).await;
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
    tandem.local_id(&there).await;
    assert_eq!(living(&tandem).await, (1, 1), "the other is imported after all");
}

/// Variant: the customer waits for ever, for what no longer is.
#[tokio::test]
async fn a_candidate_that_no_link_knew_and_that_dies_or_changes_its_email_is_none() {
    let tandem = Tandem::start().await;
    let (ada, there) = parked_pair(&tandem).await;
    parked(&tandem).await;
    tandem.stripe.delete(&there).await.unwrap();
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
    tandem.assert_equal(&ada.id).await;
    assert_eq!(living(&tandem).await, (1, 1));

    let tandem = Tandem::start().await;
    let (ada, there) = parked_pair(&tandem).await;
    tandem.stripe.edit(&there, &[("email", "another@old.example")]).await.unwrap();
    tandem.settled().await;
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
    tandem.assert_equal(&ada.id).await;
    assert_ne!(tandem.local_id(&there).await, ada.id);
    assert_eq!(living(&tandem).await, (2, 2));
}

/// Variant: the first one waits for ever, for what is the twin of another by now.
#[tokio::test]
async fn a_candidate_that_may_be_the_twin_of_another_by_now_is_none() {
    let filter =
        vec![("TANDEM_STRIPE__FILTER__FIELD", "name".to_owned()), ("TANDEM_STRIPE__FILTER__EQUALS", "Ada".to_owned())];
    let tandem = Tandem::start_with(Setup { env: filter, ..Setup::default() }).await;
    let eve = tandem.create("Eve", "eve@old.example").await;
    for told_before in [false, true] {
        let (ada, there) = parked_pair(&tandem).await;
        if told_before {
            tandem.stripe.edit(&there, &[("phone", "2")]).await.unwrap();
            tandem.settled().await;
        }
        tandem.stripe.edit(&there, &[("email", "eve@old.example")]).await.unwrap();
        tandem.settled().await;
        tandem.assert_equal(&ada.id).await;
        assert_eq!(parked(&tandem).await["candidates"], json!([eve.id]));
        tandem.stripe.delete(&there).await.unwrap();
        tandem.delete(&ada.id).await;
        tandem.settled().await;
        assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
    }
}

/// Variant: the other one waits for an object that is somebody's.
#[tokio::test]
async fn a_candidate_that_is_linked_to_another_is_none() {
    let tandem = Tandem::start().await;
    let (ada, there) = parked_pair(&tandem).await;
    let two = tandem.create("Ada the second", EMAIL).await;
    tandem.settled().await;
    let both = tandem.parked().await;
    assert_eq!(both.len(), 2, "{both:?}");
    let of_ada = both.iter().find(|one| one["customer_id"] == json!(ada.id)).unwrap();
    assert_eq!(answer(&tandem, of_ada, "link", json!({})).await, 204);
    assert_eq!(tandem.remote_id(&ada.id).await, there);
    assert!(tandem.parked().await.is_empty(), "{:?}", tandem.parked().await);
    tandem.assert_equal(&two.id).await;
    assert_eq!(living(&tandem).await, (2, 2));
}

#[tokio::test]
async fn a_twin_that_died_unnoticed_takes_nobody_with_it() {
    let tandem = Tandem::start().await;
    let (ada, there) = parked_pair(&tandem).await;
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.delete(&there).await.unwrap();
    assert_eq!(answer(&tandem, &parked(&tandem).await, "link", json!({})).await, 204);
    tandem.assert_equal(&ada.id).await;
    assert_ne!(tandem.remote_id(&ada.id).await, there);
    for event in tandem.stripe.events().await.unwrap() {
        tandem.stripe.deliver(&event.id).await.unwrap();
    }
    tandem.settled().await;
    assert_eq!(living(&tandem).await, (1, 1));
}

#[tokio::test]
async fn an_email_links_where_each_side_has_one_candidate() {
    let tandem = with("email").await;
    let there = stranger(&tandem, &[("name", "Ada"), ("email", EMAIL)]).await;
    let ada = tandem.create("Ada", "Ada@Old.Example").await;
    tandem.settled().await;
    assert_eq!(tandem.remote_id(&ada.id).await, there);
    tandem.assert_equal(&ada.id).await;
    assert_eq!((creates(&tandem).await, living(&tandem).await), (0, (1, 1)));
    assert!(tandem.parked().await.is_empty());
}

#[tokio::test]
async fn what_is_born_in_stripe_is_linked_by_its_email_too() {
    let filter = "filter = { field = \"metadata.region\", equals = \"eu\" }\nmatch = \"email\"";
    let accounts = vec![Account::new("eu").with(filter)];
    let tandem = Tandem::start_with(Setup { accounts, ..Setup::default() }).await;
    let ada = tandem.create("Ada", EMAIL).await;
    tandem.settled().await;
    let born = tandem.stripe_of("eu").create(&[("name", "Ada"), ("email", "ADA@old.example")]).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.remote_id_at("eu", &ada.id).await, born.id);
    tandem.assert_equal(&ada.id).await;
    assert_eq!((tandem.customers().await.len(), tandem.parked().await.len()), (1, 0));
}

#[tokio::test]
async fn of_several_candidates_a_person_chooses_one() {
    let tandem = with("email").await;
    let one = stranger(&tandem, &[("name", "One"), ("email", EMAIL)]).await;
    let two = stranger(&tandem, &[("name", "Two"), ("email", EMAIL)]).await;
    let ada = tandem.create("Ada", EMAIL).await;
    tandem.settled().await;
    let shown = parked(&tandem).await;
    assert_eq!((&shown["customer_id"], &shown["remote_id"]), (&json!(ada.id), &Value::Null));
    assert_eq!(shown["candidates"].as_array().unwrap().len(), 2);
    for wrong in [json!({}), json!({"candidate": "cus_none"}), json!({"candidat": one})] {
        assert_eq!(answer(&tandem, &shown, "link", wrong).await, 422);
    }
    assert_eq!(answer(&tandem, &shown, "link", json!({"candidate": two})).await, 204);
    assert_eq!(tandem.remote_id(&ada.id).await, two);
    tandem.assert_equal(&ada.id).await;
}

#[tokio::test]
async fn two_customers_with_one_email_and_one_object_are_ambiguous() {
    let tandem = with("email").await;
    let there = stranger(&tandem, &[("email", EMAIL)]).await;
    let slow = tandem.stripe.fault(stripe_sim::Fault::Hang.on("GET", "/v1/customers")).await.unwrap();
    let one = tandem.create("One", EMAIL).await;
    tandem.stripe.fault_reached(slow, 1).await.unwrap();
    tandem.until("her email", || async { tandem.rows("emails", "true").await == 1 }).await;
    let two = tandem.create("Two", EMAIL).await;
    tandem.until("both emails", || async { tandem.rows("emails", "true").await == 2 }).await;
    tandem.stripe.release_fault(slow).await.unwrap();
    tandem.settled().await;
    let parked = tandem.parked().await;
    let mut asked: Vec<_> = parked.iter().map(|one| one["customer_id"].as_str().unwrap()).collect();
    asked.sort_unstable();
    let mut both = [one.id.as_str(), two.id.as_str()];
    both.sort_unstable();
    assert_eq!(asked, both, "{parked:?}");
    assert!(parked.iter().all(|one| one["remote_id"] == json!(there)));
}

#[tokio::test]
async fn nobody_looks_where_nothing_is_to_be_matched() {
    let tandem = with("never").await;
    stranger(&tandem, &[("email", EMAIL)]).await;
    let ada = tandem.create("Ada", EMAIL).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(living(&tandem).await, (1, 2));
    let listed = |calls: Vec<stripe_sim::Call>| {
        calls.into_iter().filter(|call| call.method == "GET" && call.path == "/v1/customers").count()
    };
    assert_eq!(listed(tandem.stripe.calls().await.unwrap()), 0);

    // Without an email there is no twin, whatever the setting.
    let tandem = Tandem::start().await;
    stranger(&tandem, &[("name", "Ada")]).await;
    let created = tandem.post("/customers", json!({"name": "Ada"})).await.json::<Value>().await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(created["id"].as_str().unwrap()).await;
    assert_eq!(listed(tandem.stripe.calls().await.unwrap()), 0);
}

#[tokio::test]
async fn what_is_parked_for_another_reason_has_no_twin_to_be_linked_to() {
    let tandem = Tandem::start().await;
    let rejects = stripe_sim::Fault::status(400).code("email_invalid").on("POST", "/v1/customers");
    tandem.stripe.fault(rejects).await.unwrap();
    tandem.create("Ada", EMAIL).await;
    tandem.settled().await;
    let rejected = &tandem.parked().await[0];
    assert_eq!((&rejected["kind"], &rejected["candidates"]), (&json!("rejected"), &json!([])));
    assert_eq!(answer(&tandem, rejected, "link", json!({})).await, 409);
}

#[tokio::test]
async fn a_kill_while_it_looks_leaves_one_question() {
    let mut tandem = Tandem::start().await;
    let there = stranger(&tandem, &[("name", "Ada"), ("email", EMAIL)]).await;
    let slow = tandem.stripe.fault(stripe_sim::Fault::HangReply.on("GET", "/v1/customers")).await.unwrap();
    tandem.create("Ada", EMAIL).await;
    tandem.stripe.fault_reached(slow, 1).await.unwrap();
    tandem.kill();
    tandem.stripe.release_fault(slow).await.unwrap();
    tandem.start_again().await;
    tandem.until("the question", || async { !tandem.parked().await.is_empty() }).await;
    tandem.settled().await;
    // The sweep at the start tells of the other, too: then there are two, of one pair.
    assert!(tandem.parked().await.iter().all(|parked| parked["remote_id"] == json!(there)));
    assert_eq!((creates(&tandem).await, living(&tandem).await), (0, (1, 1)));
}

/// Emails are kept by a projection of the feed. What it has not read yet is no reason to import somebody twice.
#[tokio::test]
async fn an_import_waits_for_what_the_feed_has_not_told_yet() {
    let tandem = Tandem::start().await;
    let slow = tandem.stripe.fault(stripe_sim::Fault::Hang.on("GET", "/v1/customers")).await.unwrap();
    let mut behind = tandem.database.begin().await.unwrap();
    let stop = "SELECT FROM checkpoints WHERE name = 'gateway.stripe' FOR UPDATE";
    sqlx::query(stop).execute(&mut *behind).await.unwrap();
    tandem.create("Ada", EMAIL).await;
    tandem.stripe.fault_reached(slow, 1).await.unwrap();

    let there = tandem.stripe.create(&[("name", "Ada"), ("email", EMAIL)]).await.unwrap().id;
    let looked_at = format!("remote_id = '{there}' AND (last_error LIKE '%feed is behind%' OR base IS NOT NULL)");
    tandem.until("a look at the new object", || async { tandem.rows("links", &looked_at).await == 1 }).await;
    behind.commit().await.unwrap();
    tandem.stripe.release_fault(slow).await.unwrap();
    tandem.until("the question", || async { !tandem.parked().await.is_empty() }).await;
    tandem.settled().await;
    assert_eq!((creates(&tandem).await, living(&tandem).await), (0, (1, 1)));
}

#[tokio::test]
async fn our_own_copy_whose_link_was_lost_is_found_again_without_asking() {
    let tandem = Tandem::start().await;
    let ada = tandem.create("Ada", EMAIL).await;
    tandem.settled().await;
    let there = tandem.remote_id(&ada.id).await;
    let lose = "UPDATE links SET remote_id = NULL, base = NULL, base_from = NULL, base_until = NULL";
    sqlx::query(lose).execute(&tandem.database).await.unwrap();
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.settled().await;
    assert_eq!(tandem.remote_id(&ada.id).await, there);
    tandem.assert_equal(&ada.id).await;
    assert_eq!((creates(&tandem).await, tandem.parked().await.len()), (1, 0));
}

#[tokio::test]
async fn an_object_that_carries_another_customers_id_is_no_twin() {
    let tandem = Tandem::start().await;
    let elsewhere = [("email", EMAIL), ("metadata[tandem_id]", "0192d3a4-0000-7000-8000-000000000001")];
    stranger(&tandem, &elsewhere).await;
    let ada = tandem.create("Ada", EMAIL).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    assert_eq!(living(&tandem).await, (1, 2));
}

#[tokio::test]
async fn the_same_people_in_two_accounts_are_parked_and_not_doubled() {
    let tandem = Tandem::start_with(Setup { accounts: vec![Account::new("eu")], ..Setup::default() }).await;
    let here = stranger(&tandem, &[("name", "Ada"), ("email", EMAIL)]).await;
    let there = tandem.stripe_of("eu").create(&[("name", "Ada"), ("email", EMAIL)]).await.unwrap();
    tandem.settled().await;
    let shown = parked(&tandem).await;
    assert_eq!((&shown["gateway"], &shown["remote_id"]), (&json!("stripe"), &json!(here)));
    assert_eq!(answer(&tandem, &shown, "link", json!({})).await, 204);
    let id = tandem.local_id(&there.id).await;
    tandem.assert_equal(&id).await;
    assert_eq!(living(&tandem).await, (1, 1));
}

/// Variant: what a verification told of the object's link keeps it from being made one with the customer's.
#[tokio::test]
async fn what_a_verification_told_of_can_still_be_linked() {
    let tandem = Tandem::start().await;
    let (ada, there) = pair_parked_twice(&tandem).await;
    let verified = tandem.run(&["verify", "stripe"]).await;
    assert_eq!(verified.code, Some(2), "{verified:?}");
    let hers = format!("customer_id = '{}'", ada.id);
    assert_eq!(tandem.rows("drifts", &format!("link_id IS NOT NULL AND NOT {hers}")).await, 1);

    let shown = tandem.parked().await.remove(0);
    assert_eq!(answer(&tandem, &shown, "link", json!({})).await, 204);
    assert_eq!(tandem.remote_id(&ada.id).await, there);
    tandem.assert_equal(&ada.id).await;
    let joined = format!("link_id <> (SELECT id FROM links WHERE {hers})");
    assert_eq!(tandem.rows("drifts", &joined).await, 0, "what was told of it is told of the link that it became");
    assert_eq!(tandem.run(&["verify", "stripe"]).await.code, Some(0));
}

/// Variant: a link is locked and then, out of the order of the customers, another: two that do so wait for each other.
#[tokio::test]
async fn who_is_looked_at_again_is_locked_in_the_order_of_the_customers() {
    let tandem = Tandem::start().await;
    let (ada, there) = pair_parked_twice(&tandem).await;
    let before_her = "UPDATE links SET customer_id = '00000000-0000-7000-8000-000000000001' WHERE remote_id = $1";
    sqlx::query(before_her).bind(&there).execute(&tandem.database).await.unwrap();

    // As whoever marks both: the first is locked, and the other will be.
    let mut both = tandem.database.begin().await.unwrap();
    let first = "SELECT FROM links WHERE remote_id = $1 FOR UPDATE";
    sqlx::query(first).bind(&there).execute(&mut *both).await.unwrap();
    tandem.patch(&ada.id, json!({"email": "ada@new.example"})).await;
    let waiting = "datname = current_database() AND wait_event_type = 'Lock'";
    tandem.until("feed and run wait", || async { tandem.rows("pg_stat_activity", waiting).await == 2 }).await;
    let second = "SELECT FROM links WHERE customer_id = $1::uuid FOR UPDATE NOWAIT";
    sqlx::query(second).bind(&ada.id).execute(&mut *both).await.unwrap();
    both.rollback().await.unwrap();
    tandem.settled().await;
    assert_eq!((living(&tandem).await, tandem.parked().await.len()), ((2, 2), 0));
}

/// Variant: the news of its death is left with the customer whose object it is no longer.
#[tokio::test]
async fn a_twin_whose_death_is_told_while_it_is_looked_at_takes_nobody_with_it() {
    let tandem = Tandem::start().await;
    let (ada, there) = parked_pair(&tandem).await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.delete(&there).await.unwrap();
    let slow = tandem.stripe.fault(stripe_sim::Fault::HangReply.on("GET", "/v1/customers/*")).await.unwrap();
    // She is not created anew before that is read.
    assert_eq!(tandem.post("/gateways/stripe/pause", json!({"direction": "outbound"})).await.status(), 204);
    let link = format!("/parked/{}/link", parked(&tandem).await["id"]);
    assert_eq!(tandem.post(&link, json!({})).await.status(), 204);
    tandem.stripe.fault_reached(slow, 1).await.unwrap();
    tandem.stripe.release(stripe_sim::Order::Fifo).await.unwrap();
    tandem.until("its death is told", || async { tandem.rows("inbox", "state = 'waiting'").await == 1 }).await;
    tandem.stripe.release_fault(slow).await.unwrap();
    tandem.until("it is read", || async { tandem.rows("inbox", "state <> 'done'").await == 0 }).await;
    assert_eq!(tandem.post("/gateways/stripe/resume", json!({})).await.status(), 204);
    tandem.settled().await;
    assert_eq!((living(&tandem).await, tandem.parked().await.len()), ((1, 1), 0));
    tandem.assert_equal(&ada.id).await;
    assert_ne!(tandem.remote_id(&ada.id).await, there);
}

/// Variant: the same, where it is told in the instant in which the customer lets go of it.
#[tokio::test]
async fn what_is_told_of_an_object_goes_to_the_link_that_has_it_by_then() {
    let tandem = Tandem::start().await;
    let there = tandem.stripe.create(&[("name", "Ada")]).await.unwrap().id;
    tandem.settled().await;
    let ada = tandem.local_id(&there).await;
    // As a run does that finds a twin dead.
    let mut run = tandem.database.begin().await.unwrap();
    let lets_go = "UPDATE links SET remote_id = NULL, base = NULL, base_from = NULL, base_until = NULL
                   WHERE customer_id = $1::uuid";
    sqlx::query(lets_go).bind(&ada).execute(&mut *run).await.unwrap();
    let keeps = "INSERT INTO links (gateway, customer_id, remote_id, state)
                 VALUES ('stripe', gen_random_uuid(), $1, 'deleted')";
    sqlx::query(keeps).bind(&there).execute(&mut *run).await.unwrap();
    tandem.stripe.delete(&there).await.unwrap();
    tandem.until("the route waits", || tandem.somebody_waits_for_a_lock()).await;
    run.commit().await.unwrap();
    tandem.settled().await;
    let hers = format!("customer_id = '{ada}' AND state = 'active'");
    assert_eq!((tandem.rows("links", &hers).await, tandem.parked().await.len()), (1, 0));
    assert_eq!(tandem.customers().await.len(), 1);
}

/// Variant: only Stripe is asked for the email, which finds it as it is written there.
#[tokio::test]
async fn a_twin_that_was_told_of_is_found_whatever_the_case_of_its_email() {
    let tandem = with("ask").await;
    assert_eq!(tandem.post("/gateways/stripe/pause", json!({})).await.status(), 204);
    tandem.create("Ada", EMAIL).await;
    tandem.stripe.create(&[("name", "Ada of Stripe"), ("email", "Ada@Old.example")]).await.unwrap();
    tandem.until("it is told", || async { tandem.rows("inbox", "state = 'waiting'").await == 1 }).await;
    assert_eq!(tandem.post("/gateways/stripe/resume", json!({})).await.status(), 204);
    tandem.settled().await;

    assert!(tandem.parked().await.iter().all(|parked| parked["kind"] == "ambiguous"));
    assert!(!tandem.parked().await.is_empty());
    assert_eq!((living(&tandem).await, creates(&tandem).await), ((1, 1), 0));

    // Whoever comes later meets what is parked.
    tandem.create("Third", "ADA@old.example").await;
    tandem.settled().await;
    assert_eq!((living(&tandem).await, creates(&tandem).await), ((2, 1), 0));
}
