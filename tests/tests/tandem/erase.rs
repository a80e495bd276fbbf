//! Erasing a person: what is known of a deleted customer becomes blank, everywhere.

use serde_json::json;
use stripe_sim::{Fault, Order};
use tandem_tests::{Account, Setup, Tandem};

/// In every field of hers that is not her id.
const PERSON: &str = "lovelace";

/// The tables in which she still is.
async fn tables_with_her(tandem: &Tandem) -> Vec<String> {
    tandem.tables_with(PERSON).await
}

/// Erased customers keep their events, and the stream its positions.
async fn sound(tandem: &Tandem) -> bool {
    tandem.command(&["stream", "check"]).await.0 == Some(0)
}

#[tokio::test]
async fn an_erased_person_is_in_no_table_and_in_no_message() {
    let tandem = Tandem::start().await;
    let ada = tandem.create("Ada Lovelace", "ada@lovelace.example").await;
    let eve = tandem.create("Eve", "eve@x.example").await;
    tandem.settled().await;
    let there = tandem.remote_id(&ada.id).await;
    // An edit on each side that the other had not seen: a conflict keeps both.
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&there, &[("phone", "lovelace 1")]).await.unwrap();
    tandem.patch(&ada.id, json!({"phone": "lovelace 2", "metadata": {"note": "lovelace"}})).await;
    tandem.stripe.release(stripe_sim::Order::Fifo).await.unwrap();
    tandem.settled().await;
    assert_eq!(tandem.command(&["verify", "stripe"]).await.0, Some(0));
    tandem.delete(&ada.id).await;
    tandem.settled().await;
    assert!(tables_with_her(&tandem).await.len() > 3);

    let (code, said) = tandem.command(&["erase", &ada.id, "--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    tandem.until("nothing is left of her", || async { tables_with_her(&tandem).await.is_empty() }).await;
    tandem.settled().await;
    assert!(sound(&tandem).await);
    let history = tandem.events(&ada.id).await;
    assert_eq!(history.last().unwrap()["type"], "erased");
    assert_eq!((tandem.status_of(&ada.id).await, tandem.status_of(&eve.id).await), (410, 200));

    // What Stripe tells again, and a read model that is built anew, bring nothing back.
    for event in tandem.stripe.events().await.unwrap() {
        tandem.stripe.deliver(&event.id).await.unwrap();
    }
    tandem.settled().await;
    assert_eq!(tandem.command(&["rebuild", "customers"]).await.0, Some(0));
    assert_eq!(tables_with_her(&tandem).await, Vec::<String>::new());
    assert_eq!(tandem.events(&ada.id).await.len(), history.len());
    tandem.assert_equal(&eve.id).await;
    assert_eq!(tandem.command(&["erase", &ada.id, "--yes"]).await.0, Some(0), "again does no harm");
    tandem.settled().await;
    assert!(sound(&tandem).await);
}

/// Variant: what a plan and a verification told of her object before it was linked stays.
#[tokio::test]
async fn what_was_read_of_an_erased_person_before_she_was_linked_is_gone_too() {
    let tandem = Tandem::start().await;
    // The first sweep would tell of what is a moment old.
    tandem.stripe.calls_when(1, |call| call.path == "/v1/events" && call.status == Some(200)).await.unwrap();
    tandem.stripe.drop_webhooks(1).await.unwrap();
    let there = tandem.stripe.create(&[("name", "Ada Lovelace"), ("email", "ada@lovelace.example")]).await.unwrap().id;
    assert_eq!(tandem.command(&["verify", "stripe"]).await.0, Some(2));
    assert_eq!(tandem.command(&["plan", "stripe"]).await.0, Some(0));
    let told = tables_with_her(&tandem).await;
    assert!(told.iter().any(|table| table.starts_with("plan_items")), "{told:?}");
    tandem.stripe.edit(&there, &[("phone", "1")]).await.unwrap();
    let ada = tandem.local_id(&there).await;
    tandem.delete(&ada).await;
    tandem.settled().await;

    let (code, said) = tandem.command(&["erase", &ada, "--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    tandem.until("nothing is left of her", || async { tables_with_her(&tandem).await.is_empty() }).await;
}

#[tokio::test]
async fn only_who_is_deleted_on_both_sides_is_erased() {
    let tandem = Tandem::start().await;
    let ada = tandem.create("Ada Lovelace", "ada@lovelace.example").await;
    tandem.settled().await;
    let refused = async |id: &str, why: &str| {
        let (code, said) = tandem.command(&["erase", id, "--yes"]).await;
        assert!(code == Some(1) && said.contains(why), "{said}");
    };
    refused(&ada.id, "the customer is alive").await;
    refused("0192d3a4-0000-7000-8000-000000000001", "there is no customer").await;

    assert_eq!(tandem.post("/gateways/stripe/pause", json!({"direction": "outbound"})).await.status(), 204);
    tandem.delete(&ada.id).await;
    refused(&ada.id, "stripe is not yet in step with its deletion").await;
    assert_eq!(tandem.post("/gateways/stripe/resume", json!({})).await.status(), 204);
    tandem.settled().await;
    assert_eq!(tandem.command(&["erase", &ada.id, "--yes"]).await.0, Some(0));
}

/// A customer with the text in every field, in step everywhere.
async fn lovelace(tandem: &Tandem) -> (String, String) {
    let ada = tandem.create("Ada Lovelace", "ada@lovelace.example").await;
    let fields = json!({"phone": "lovelace 1", "metadata": {"note": "lovelace"}, "address": {"city": "Lovelace"}});
    tandem.patch(&ada.id, fields).await;
    tandem.settled().await;
    let there = tandem.remote_id(&ada.id).await;
    (ada.id, there)
}

/// Erases a deleted customer, as soon as every gateway is in step with its deletion.
async fn erased(tandem: &Tandem, id: &str) {
    tandem.until("it can be erased", || async { tandem.command(&["erase", id, "--yes"]).await.0 == Some(0) }).await;
    tandem.until("nothing is left", || async { tables_with_her(tandem).await.is_empty() }).await;
}

/// What is told late has been taken in, and nothing of it is anywhere.
async fn assert_nothing_came_back(tandem: &Tandem, id: &str) {
    tandem.settled().await;
    assert_eq!(tables_with_her(tandem).await, Vec::<String>::new());
    let since: Vec<String> = tandem.history(id).await.into_iter().skip_while(|event| event != "erased").collect();
    assert_eq!(since, ["erased"]);
    assert!(sound(tandem).await);
}

/// Variant: its last fields are compared with a base that is blank, and become conflicts.
#[tokio::test]
async fn a_deletion_that_stripe_tells_after_the_erasure_brings_nothing_back() {
    let tandem = Tandem::start_with(Setup { accounts: vec![Account::new("eu")], ..Setup::default() }).await;
    let (ada, _) = lovelace(&tandem).await;
    for gateway in ["stripe", "eu"] {
        tandem.stripe_of(gateway).hold().await.unwrap();
    }
    tandem.delete(&ada).await;
    erased(&tandem, &ada).await;
    for gateway in ["stripe", "eu"] {
        tandem.stripe_of(gateway).release(Order::Fifo).await.unwrap();
    }
    assert_nothing_came_back(&tandem, &ada).await;
}

#[tokio::test]
async fn a_deletion_that_a_sweep_finds_after_the_erasure_brings_nothing_back() {
    let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "86400000".to_owned())];
    let mut tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    tandem.until("the first sweep", || async { tandem.rows("sweeps", "swept_at IS NOT NULL").await == 1 }).await;
    let (ada, there) = lovelace(&tandem).await;
    tandem.stripe.drop_webhooks(2).await.unwrap();
    // A change that nobody tells of, and then the deletion.
    tandem.stripe.edit(&there, &[("phone", "lovelace 2")]).await.unwrap();
    tandem.delete(&ada).await;
    erased(&tandem, &ada).await;
    tandem.stop();
    tandem.start_again().await;
    tandem
        .until("the sweep tells of it", || async { tandem.rows("inbox", "change->>'kind' = 'deleted'").await == 1 })
        .await;
    assert_nothing_came_back(&tandem, &ada).await;
}

/// Its object was left as it was, and lives on.
#[tokio::test]
async fn what_is_told_of_an_object_that_outlives_an_erased_customer_is_stored_without_values() {
    let env = vec![("TANDEM_STRIPE__DELETES_OUTBOUND", "unlink".to_owned())];
    let tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    let (ada, there) = lovelace(&tandem).await;
    tandem.delete(&ada).await;
    erased(&tandem, &ada).await;

    tandem.stripe.edit(&there, &[("phone", "lovelace 2"), ("name", "Countess Lovelace")]).await.unwrap();
    assert_nothing_came_back(&tandem, &ada).await;
    tandem.stripe.delete(&there).await.unwrap();
    assert_nothing_came_back(&tandem, &ada).await;
    assert_eq!(tandem.rows("inbox", "state <> 'done'").await, 0);
}

/// An object under another id with the customer's id in its metadata: of its birth nobody was told, only of its death.
#[tokio::test]
async fn the_death_of_a_copy_of_an_erased_customer_brings_nothing_back() {
    let tandem = Tandem::start().await;
    let (ada, _) = lovelace(&tandem).await;
    tandem.delete(&ada).await;
    tandem.settled().await;
    erased(&tandem, &ada).await;
    tandem.stripe.drop_webhooks(1).await.unwrap();
    let copy = [("name", "Ada Lovelace"), ("email", "ada@lovelace.example"), ("metadata[tandem_id]", ada.as_str())];
    let copy = tandem.stripe.create(&copy).await.unwrap();
    tandem.stripe.delete(&copy.id).await.unwrap();
    assert_nothing_came_back(&tandem, &ada).await;
}

/// It was told of before the erasure, and a person let it be.
#[tokio::test]
async fn a_second_object_of_an_erased_customer_says_nothing_of_it() {
    let tandem = Tandem::start().await;
    let (ada, _) = lovelace(&tandem).await;
    let copy = [("name", "Ada Lovelace"), ("metadata[tandem_id]", ada.as_str())];
    let copy = tandem.stripe.create(&copy).await.unwrap();
    tandem.until("it is parked", || async { tandem.parked().await.len() == 1 }).await;
    let parked = tandem.parked().await[0]["id"].clone();
    assert_eq!(tandem.post(&format!("/parked/{parked}/dismiss"), json!({})).await.status(), 204);
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.delete(&copy.id).await.unwrap();
    tandem.delete(&ada).await;
    erased(&tandem, &ada).await;
    tandem.stripe.release(Order::Fifo).await.unwrap();
    assert_nothing_came_back(&tandem, &ada).await;
}

/// A plan and a verification had read the person before, one is killed and one goes on.
#[tokio::test]
async fn what_a_plan_or_a_verification_had_read_before_the_erasure_is_not_stored_after_it() {
    for killed in [true, false] {
        for command in ["plan", "verify"] {
            let tandem = Tandem::start().await;
            let (ada, _) = lovelace(&tandem).await;
            let out = tandem.stripe.fault(Fault::HangReply.on("GET", "/v1/customers")).await.unwrap();
            let mut reading = tandem.begin(&[command, "stripe"]);
            tandem.stripe.fault_reached(out, 1).await.unwrap();
            tandem.until("its side is read", || async { tandem.rows("survey_customers", "true").await == 1 }).await;
            tandem.delete(&ada).await;
            if killed {
                reading.kill().await.unwrap();
                erased(&tandem, &ada).await;
            } else {
                erased(&tandem, &ada).await;
                tandem.stripe.release_fault(out).await.unwrap();
                reading.wait().await.unwrap();
                assert_eq!(tandem.rows("surveys", "ended_at IS NOT NULL").await, 1);
            }
            assert_nothing_came_back(&tandem, &ada).await;
        }
    }
}

/// Fails where what was read for a plan is found by way of a link alone: there is none before there is a gateway.
#[tokio::test]
async fn what_a_plan_read_before_there_was_a_gateway_is_gone_too() {
    let tandem = Tandem::start_with(Setup { without_gateway: true, ..Setup::default() }).await;
    let ada = tandem.create("Ada Lovelace", "ada@lovelace.example").await.id;
    tandem.settled().await;
    tandem.ran_well(&["plan", "stripe"]).await;
    assert!(tables_with_her(&tandem).await.iter().any(|table| table.starts_with("plan_items")));
    tandem.delete(&ada).await;
    erased(&tandem, &ada).await;
}

/// She came and went in Stripe before anybody looked. Fails where that leaves her in the inbox, and nobody whom one could erase.
#[tokio::test]
async fn who_was_deleted_before_she_was_imported_is_nowhere() {
    let tandem = Tandem::start().await;
    assert_eq!(tandem.post("/gateways/stripe/pause", json!({"direction": "inbound"})).await.status(), 204);
    let there = tandem.stripe.create(&[("name", "Ada Lovelace"), ("email", "ada@lovelace.example")]).await.unwrap().id;
    tandem.stripe.edit(&there, &[("phone", "lovelace 1")]).await.unwrap();
    let told = async |changes| tandem.rows("inbox", "state = 'waiting'").await == changes;
    // Were the deletion told of first, nothing of her would be stored at all.
    tandem.until("her life is told", || told(2)).await;
    assert!(!tables_with_her(&tandem).await.is_empty());
    tandem.stripe.delete(&there).await.unwrap();
    tandem.until("all is told", || told(3)).await;
    assert_eq!(tandem.post("/gateways/stripe/resume", json!({})).await.status(), 204);
    tandem.settled().await;
    assert_eq!(tables_with_her(&tandem).await, Vec::<String>::new());
    for event in tandem.stripe.events().await.unwrap() {
        tandem.stripe.deliver(&event.id).await.unwrap();
    }
    tandem.settled().await;
    assert_eq!(tables_with_her(&tandem).await, Vec::<String>::new());
    assert!(tandem.customers().await.is_empty());
}

/// What PostgreSQL samples of a column stays when its rows are blank. A new column is listed here, or has no statistics.
#[tokio::test]
async fn postgresql_keeps_no_samples_of_what_is_stored_of_a_person() {
    let tandem = Tandem::start().await;
    let (ada, _) = lovelace(&tandem).await;
    let other = [("name", "Countess Lovelace"), ("email", "countess@lovelace.example")];
    let other = tandem.stripe.create(&other).await.unwrap().id;
    tandem.settled().await;
    sqlx::query("ANALYZE").execute(&tandem.database).await.unwrap();
    let sampled =
        "SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
           AND a.atttypid IN ('json'::regtype, 'jsonb'::regtype) AND coalesce(a.attstattarget, -1) <> 0 ORDER BY 1";
    let sampled: Vec<String> = sqlx::query_scalar(sampled).fetch_all(&tandem.database).await.unwrap();
    // Of these only the ids of requests and the origin are in it.
    assert_eq!(sampled, ["events.metadata"]);
    let samples = "SELECT count(*) FROM pg_stats WHERE schemaname = 'public' AND attname = 'profile'";
    let samples: i64 = sqlx::query_scalar(samples).fetch_one(&tandem.database).await.unwrap();
    assert_eq!(samples, 0);
    // A text may be anything: those that hold something of the two now are looked at.
    let texts =
        "SELECT a.attrelid::regclass::text, quote_ident(a.attname) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
           AND a.atttypid IN ('text'::regtype, 'text[]'::regtype) AND coalesce(a.attstattarget, -1) <> 0 ORDER BY 1, 2";
    let texts: Vec<(String, String)> = sqlx::query_as(texts).fetch_all(&tandem.database).await.unwrap();
    for (table, column) in texts {
        let held = tandem.rows(&table, &format!("{column}::text ILIKE '%{PERSON}%'")).await;
        assert_eq!(held, 0, "{table}.{column} has statistics");
    }
    let also = tandem.customers().await.into_iter().find(|one| one.id != ada).unwrap().id;
    tandem.stripe.delete(&other).await.unwrap();
    tandem.until("it is deleted here", || async { tandem.status_of(&also).await == 410 }).await;
    assert_eq!(tandem.command(&["erase", &also, "--yes"]).await.0, Some(0));
    tandem.delete(&ada).await;
    erased(&tandem, &ada).await;
}

#[tokio::test]
async fn a_list_of_erasures_erases_again() {
    let tandem = Tandem::start().await;
    let ada = tandem.create("Ada Lovelace", "ada@lovelace.example").await;
    let eve = tandem.create("Eve", "eve@x.example").await;
    tandem.settled().await;
    assert_eq!(tandem.command(&["erasures", "export"]).await, (Some(0), String::new()));
    let list = tandem.file("erasures.jsonl");
    let unknown = "0192f0c1-5f5e-7d1c-b2a4-0d5f3c1a9e77";
    let line = |id: &str| format!("{{\"customer_id\":\"{id}\",\"erased_at\":\"2026-01-02T03:04:05Z\"}}\n");
    std::fs::write(&list, line(&ada.id) + &line(unknown) + "{}").unwrap();
    let list = list.to_str().unwrap();
    let (code, said) = tandem.command(&["erasures", "import", list, "--yes"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("line 3: missing field `customer_id`"), "{said}");
    assert_eq!(tandem.status_of(&ada.id).await, 200, "a list with an error in it erases nobody");
    std::fs::write(list, line(&ada.id) + &line(unknown)).unwrap();

    let (code, said) = tandem.command(&["erasures", "import", list, "--yes"]).await;

    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Erased: 1. Not in this database: 1."), "{said}");
    tandem.settled().await;
    assert_eq!((tandem.status_of(&ada.id).await, tandem.status_of(&eve.id).await), (410, 200));
    tandem.until("nothing is left of her", || async { tables_with_her(&tandem).await.is_empty() }).await;
    assert!(sound(&tandem).await);
    assert_eq!(tandem.command(&["erasures", "export"]).await, (Some(0), line(&ada.id)));
    let left = tandem.stripe.customers().await.unwrap().into_iter().filter(|one| !one.deleted).count();
    assert_eq!(left, 1, "it is deleted in Stripe, too");
    let (code, said) = tandem.command(&["erasures", "import", list, "--yes"]).await;
    assert_eq!(code, Some(0), "again does no harm: {said}");
}

/// Fails where a call that was out at the erasure keeps its body once it is answered, or its reply becomes the link's base.
#[tokio::test]
async fn a_reply_that_comes_after_the_erasure_brings_nothing_back() {
    for before_the_work in [true, false] {
        let tandem = Tandem::start().await;
        let ada = tandem.create("Ada Lovelace", "ada@lovelace.example").await;
        tandem.settled().await;
        let fault = if before_the_work { Fault::Hang } else { Fault::HangReply };
        let out = tandem.stripe.fault(fault.on("POST", "/v1/customers/*")).await.unwrap();
        tandem.patch(&ada.id, json!({"phone": "lovelace 7"})).await;
        tandem.stripe.fault_reached(out, 1).await.unwrap();
        let list = tandem.file("erasures.jsonl");
        let line = format!("{{\"customer_id\":\"{}\",\"erased_at\":\"2026-01-02T03:04:05Z\"}}\n", ada.id);
        std::fs::write(&list, line).unwrap();
        let (code, said) = tandem.command(&["erasures", "import", list.to_str().unwrap(), "--yes"]).await;
        assert_eq!(code, Some(0), "{said}");

        tandem.stripe.release_fault(out).await.unwrap();

        tandem.settled().await;
        tandem.until("nothing is left of her", || async { tables_with_her(&tandem).await.is_empty() }).await;
        assert!(tandem.stripe.customers().await.unwrap().iter().all(|one| one.deleted));
        assert!(sound(&tandem).await);
    }
}
