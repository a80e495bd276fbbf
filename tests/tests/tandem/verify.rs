//! Verify and repair: what differs is found, what is under way is not, and what was found is mended.

use serde_json::{Value, json};
use stripe_sim::{Fault, Settings};
use tandem_tests::{Customer, Ran, Setup, Tandem};

/// Its verifications give a webhook the time that they usually do.
const PATIENT: (&str, &str) = ("TANDEM_STRIPE__VERIFY_GRACE_MS", "2000");

/// A Tandem that hears of Stripe's changes by webhooks alone, so that a dropped one is not swept up.
async fn unswept(env: &[(&'static str, &str)]) -> Tandem {
    let mut setup = Setup { stripe: Settings { normalise_email: true, ..Settings::default() }, ..Setup::default() };
    setup.env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    setup.env.push(("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "86400000".to_owned()));
    let tandem = Tandem::start_with(setup).await;
    // The one that a start makes is over.
    tandem.stripe.calls_when(1, |call| call.path == "/v1/events" && call.status.is_some()).await.unwrap();
    tandem
}

async fn created(tandem: &Tandem, names: &[&str]) -> Vec<(Customer, String)> {
    let mut made = vec![];
    for name in names {
        made.push(tandem.create(name, &format!("{name}@Old.example")).await);
    }
    tandem.settled().await;
    let mut linked = vec![];
    for customer in made {
        let remote = tandem.remote_id(&customer.id).await;
        linked.push((customer, remote));
    }
    linked
}

async fn verify(tandem: &Tandem, more: &[&str]) -> Ran {
    let arguments = [&["verify", "stripe", "--format", "json"], more].concat();
    let ran = tandem.run(&arguments).await;
    assert!(matches!(ran.code, Some(0 | 2)), "{ran:?}");
    assert_eq!(ran.code == Some(2), ran.json()["drift"] != 0, "{ran:?}");
    ran
}

/// What was found, by the objects' and customers' ids.
fn found(ran: &Ran) -> Vec<(String, String, String)> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let rows = ran.json()["rows"].as_array().unwrap().clone();
    rows.iter().map(|row| (text(row, "kind"), text(row, "customer_id"), text(row, "remote_id"))).collect()
}

#[tokio::test]
async fn both_sides_in_step_are_equal_whatever_the_remote_makes_of_a_value() {
    let tandem = unswept(&[]).await;
    created(&tandem, &["Ada", "Bob"]).await;
    tandem.stripe.create(&[("name", "Grace")]).await.unwrap();
    tandem.settled().await;
    let gone = tandem.create("Gone", "gone@old.example").await;
    tandem.settled().await;
    tandem.delete(&gone.id).await;
    tandem.settled().await;
    tandem.stripe.clear_calls().await.unwrap();

    let ran = verify(&tandem, &[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = ran.json();
    assert_eq!((&told["customers"], &told["objects"], &told["compared"]), (&json!(3), &json!(3), &json!(3)));
    let calls = tandem.stripe.calls().await.unwrap();
    assert_eq!(calls.len(), 1, "one page, and nothing is looked at twice: {calls:?}");
    assert_eq!(tandem.rows("survey_objects", "true").await + tandem.rows("survey_customers", "true").await, 0);
}

#[tokio::test]
async fn every_kind_of_drift_is_found_and_repaired() {
    let tandem = unswept(&[]).await;
    let pairs = created(&tandem, &["Ada", "Bob", "Eve", "Dan", "Fay"]).await;
    let [(ada, there_ada), (bob, there_bob), (eve, there_eve), (dan, there_dan), (fay, there_fay)] = &pairs[..] else {
        panic!("five");
    };
    tandem.stripe.drop_webhooks(5).await.unwrap();
    // Differs: its webhook was lost.
    tandem.stripe.edit(there_ada, &[("name", "Countess"), ("phone", "2")]).await.unwrap();
    // Missing there: so was that of its deletion.
    tandem.stripe.delete(there_bob).await.unwrap();
    // Missing here: so was that of its creation.
    let grace = tandem.stripe.create(&[("name", "Grace")]).await.unwrap();
    // Not linked: neither side knows of the other any more.
    forget(&tandem, &eve.id).await;
    tandem.stripe.delete(there_eve).await.unwrap();
    // An object that carries the id of a customer here, whom no link knows.
    forget(&tandem, &dan.id).await;
    // A call that never came: the catalog holds what nobody was told.
    sqlx::query("UPDATE links SET base = jsonb_set(base, '{phone}', '\"9\"') WHERE remote_id = $1")
        .bind(there_fay)
        .execute(&tandem.database)
        .await
        .unwrap();
    tandem.stripe.edit(there_fay, &[("phone", "9")]).await.unwrap();

    let ran = verify(&tandem, &["--values"]).await;
    let mut drifts = found(&ran);
    drifts.sort();
    let drift = |kind: &str, here: &str, there: &str| (kind.to_owned(), here.to_owned(), there.to_owned());
    let mut expected = vec![
        drift("differs", &ada.id, there_ada),
        drift("differs", &fay.id, there_fay),
        drift("missing_here", "", &grace.id),
        drift("missing_here", &dan.id, there_dan),
        drift("missing_there", &bob.id, there_bob),
        drift("not_linked", &dan.id, ""),
        drift("not_linked", &eve.id, ""),
    ];
    expected.sort();
    assert_eq!(drifts, expected, "{ran:?}");
    let rows = ran.json()["rows"].as_array().unwrap().clone();
    let row = rows.iter().find(|row| row["customer_id"] == ada.id).unwrap();
    let fields = json!([
        { "field": "name", "here": "Ada", "there": "Countess" },
        { "field": "phone", "here": null, "there": "2" },
    ]);
    assert_eq!(row["fields"], fields);
    assert_eq!(tandem.rows("links", "due_seq > done_seq").await, 0, "looking changes nothing");

    let csv = tandem.run(&["verify", "stripe", "--format", "csv"]).await;
    assert!(csv.stdout.contains(&format!("differs,{},{there_ada},,name\n", ada.id)), "{csv:?}");
    assert!(!csv.stdout.contains("Countess"), "values are customers' data");

    let table = tandem.run(&["verify", "stripe", "--values"]).await.stdout;
    assert!(table.contains("    name: \"Ada\" here, \"Countess\" there\n"), "{table}");
    let told = "5 customers here, 4 objects at stripe: 2 pairs, 3 only here, 2 only there.\n7 differ or lack the other \
                side; 0 are being changed just now.\n";
    assert!(table.ends_with(told), "{table}");

    verify(&tandem, &["--repair"]).await;
    tandem.settled().await;
    let again = verify(&tandem, &[]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));
    assert_eq!(tandem.status_of(&bob.id).await, 410, "deleted there is deleted here");
    assert_eq!(tandem.get(&tandem.local_id(&grace.id).await).await.name.as_deref(), Some("Grace"));
    tandem.assert_equal(&eve.id).await;
    assert_ne!(tandem.remote_id(&eve.id).await, *there_eve);
    assert_eq!(tandem.remote_id(&dan.id).await, *there_dan, "it has one object, and not two");
    assert_eq!(tandem.stripe.get(there_fay).await.unwrap().phone, None, "the catalog is told of again");
}

/// The link, as if it had never been.
async fn forget(tandem: &Tandem, id: &str) {
    for statement in [
        "DELETE FROM intents WHERE link_id IN (SELECT id FROM links WHERE customer_id = $1::uuid)",
        "DELETE FROM inbox WHERE link_id IN (SELECT id FROM links WHERE customer_id = $1::uuid)",
        "DELETE FROM links WHERE customer_id = $1::uuid",
    ] {
        sqlx::query(statement).bind(id).execute(&tandem.database).await.unwrap();
    }
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_left_with_its_reason() {
    let tandem = unswept(&[]).await;
    let pairs = created(&tandem, &["Ada", "Bob", "Eve"]).await;
    let [(ada, _), (bob, there_bob), (eve, _)] = &pairs[..] else { panic!("three") };
    for (id, change) in [(&ada.id, "state = 'deleted'"), (&eve.id, "remote_id = 'cus_ofAnotherAccount'")] {
        let statement = format!("UPDATE links SET {change} WHERE customer_id = $1::uuid");
        sqlx::query(&statement).bind(id).execute(&tandem.database).await.unwrap();
    }
    // The same person on both sides, whom nobody has linked: repair must not double her on both.
    forget(&tandem, &bob.id).await;
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.edit(there_bob, &[("metadata[tandem_id]", "")]).await.unwrap();

    verify(&tandem, &["--repair"]).await;
    tandem.settled().await;
    let ran = verify(&tandem, &["--repair"]).await;
    let rows = ran.json()["rows"].as_array().unwrap().clone();
    let mut remarks: Vec<(&str, &str)> =
        rows.iter().map(|row| (row["kind"].as_str().unwrap(), row["remark"].as_str().unwrap())).collect();
    remarks.sort();
    let twin = "the other side has one with this email that is not linked: see `tandem plan`";
    assert_eq!(
        remarks,
        [
            ("dead_on_one_side", "its link says that it is deleted"),
            ("missing_here", "the customer whose id it carries has another object, or the object is linked by now"),
            ("missing_here", twin),
            ("missing_there", "the gateway never heard of it: is the key of another account?"),
            ("not_linked", twin),
        ]
    );
    assert_eq!((tandem.customers().await.len(), tandem.stripe.customers().await.unwrap().len()), (3, 3));
    assert_eq!(tandem.rows("links", "due_seq > done_seq").await, 0);
}

#[tokio::test]
async fn what_a_person_wanted_so_is_no_drift() {
    let unlink = [("TANDEM_STRIPE__DELETES_INBOUND", "unlink"), ("TANDEM_STRIPE__DELETES_OUTBOUND", "unlink")];
    let tandem = unswept(&unlink).await;
    let pairs = created(&tandem, &["Ada", "Bob", "Eve"]).await;
    tandem.delete(&pairs[0].0.id).await;
    tandem.stripe.delete(&pairs[1].1).await.unwrap();
    tandem.stripe.create(&[("name", "Copy"), ("metadata[tandem_id]", &pairs[2].0.id)]).await.unwrap();
    tandem.until("parked", || async { tandem.parked().await.len() == 1 }).await;
    tandem.settled().await;
    // What waits for a person is named, and left to them.
    let ran = verify(&tandem, &["--repair"]).await;
    let row = ran.json()["rows"][0].clone();
    assert_eq!(
        (&row["kind"], &row["remark"]),
        (&json!("missing_here"), &json!("it waits for a person: see GET /parked")),
        "{ran:?}"
    );
    assert_eq!((ran.json()["drift"].clone(), tandem.parked().await.len()), (json!(1), 1));
    let dismiss = format!("/parked/{}/dismiss", tandem.parked().await[0]["id"]);
    assert!(tandem.post(&dismiss, json!({})).await.status().is_success());
    // And a Stripe that is away for a moment is waited for.
    tandem.stripe.fault(Fault::status(503).on("GET", "/v1/customers").times(2)).await.unwrap();
    let ran = verify(&tandem, &[]).await;
    assert_eq!((ran.code, &ran.json()["in_flight"]), (Some(0), &json!(0)), "{ran:?}");
}

/// Variant: whom the filter keeps away differs for ever.
#[tokio::test]
async fn whom_the_filter_keeps_away_is_no_drift() {
    let filter = [("TANDEM_STRIPE__FILTER__FIELD", "metadata.region"), ("TANDEM_STRIPE__FILTER__EQUALS", "eu")];
    let tandem = unswept(&filter).await;
    let (ada, bob) = (tandem.create("Ada", "ada@old.example").await, tandem.create("Bob", "bob@old.example").await);
    tandem.settled().await;
    // As of the time before there was a gateway.
    forget(&tandem, &bob.id).await;
    let ran = verify(&tandem, &["--repair"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // Without the filter both are missing there.
    let unfiltered = [("TANDEM_STRIPE__FILTER__EQUALS", ""), ("TANDEM_STRIPE__FILTER__PRESENT", "false")];
    let (code, said) = tandem.command_with(&unfiltered[..0], &["verify", "stripe"]).await;
    assert_eq!(code, Some(0), "{said}");
    tandem.patch(&ada.id, json!({"metadata": {"region": "eu"}})).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
}

/// Variant: a question that waits for a person is "mended" again and again.
#[tokio::test]
async fn what_may_be_a_twin_and_is_parked_is_left_to_a_person() {
    let filter = [("TANDEM_STRIPE__FILTER__FIELD", "metadata.region"), ("TANDEM_STRIPE__FILTER__EQUALS", "eu")];
    let tandem = unswept(&filter).await;
    // One that is to be created, with two candidates there, of which no link knows.
    tandem.stripe.drop_webhooks(2).await.unwrap();
    for name in ["Ada", "Countess"] {
        tandem.stripe.create(&[("name", name), ("email", "ada@old.example")]).await.unwrap();
    }
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.patch(&ada.id, json!({"metadata": {"region": "eu"}})).await;
    // And one that is to be imported.
    tandem.create("Bob", "bob@old.example").await;
    tandem.settled().await;
    tandem.stripe.create(&[("name", "Bob"), ("email", "bob@old.example")]).await.unwrap();
    tandem.until("both are parked", || async { tandem.parked().await.len() == 2 }).await;
    tandem.settled().await;

    let ran = verify(&tandem, &["--repair"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert_eq!(ran.json()["drift"], 2);
    assert_eq!(tandem.rows("drifts", "parked AND remark LIKE '%/parked%' AND NOT repaired").await, 2);
    assert_eq!(tandem.rows("links", "due_seq > done_seq").await, 0);
    assert_eq!(tandem.parked().await.len(), 2);
}

#[tokio::test]
async fn what_is_under_way_is_no_drift() {
    let tandem = unswept(&[]).await;
    let pairs = created(&tandem, &["Ada", "Bob"]).await;
    tandem.stripe.fault(Fault::status(503).on("POST", "/v1/customers/*").always()).await.unwrap();
    tandem.stripe.fault(Fault::status(503).on("POST", "/v1/customers").always()).await.unwrap();
    tandem.patch(&pairs[0].0.id, json!({"name": "Countess"})).await;
    tandem.create("New", "new@old.example").await;
    tandem.until("both are tried", || async { tandem.rows("intents", "state = 'open'").await == 2 }).await;

    let ran = verify(&tandem, &[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.json()["in_flight"], 2);
}

/// Variant: a difference is reported as it was read, although its webhook came a moment later.
#[tokio::test]
async fn a_webhook_on_its_way_is_no_drift() {
    let tandem = unswept(&[]).await;
    let pairs = created(&tandem, &["Ada", "Bob"]).await;
    let (ada, bob) = (&pairs[0].1, &pairs[1].1);
    // Of Bob's edit nobody tells: his drift is one, and as long as it is looked at, hers waits to be made sure of.
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.edit(bob, &[("name", "Robert")]).await.unwrap();
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(ada, &[("name", "Countess")]).await.unwrap();
    let look = |remote: &str| Fault::HangReply.on("GET", &format!("/v1/customers/{remote}"));
    let at_ada = tandem.stripe.fault(look(ada)).await.unwrap();
    let at_bob = tandem.stripe.fault(look(bob).always()).await.unwrap();

    let verifying = tandem.begin(&["verify", "stripe", "--format", "json"]);
    for look in [at_ada, at_bob] {
        tandem.stripe.fault_reached(look, 1).await.unwrap();
    }
    let now: String = sqlx::query_scalar("SELECT clock_timestamp()::text").fetch_one(&tandem.database).await.unwrap();
    tandem.stripe.release_fault(at_ada).await.unwrap();
    // The last that a look asks is how the link stands.
    let over = format!(
        "datname = current_database() AND query LIKE 'SELECT l.id, l.customer_id%' AND state = 'idle' AND query_start > '{now}'"
    );
    tandem.until("the difference is seen", || async { tandem.rows("pg_stat_activity", &over).await == 1 }).await;
    tandem.stripe.release(stripe_sim::Order::Fifo).await.unwrap();
    tandem.settled().await;
    tandem.stripe.release_fault(at_bob).await.unwrap();
    let output = verifying.wait_with_output().await.unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["in_flight"], &told["drift"]), (&json!(1), &json!(1)), "{told}");
    assert_eq!(told["rows"][0]["remote_id"], json!(bob), "{told}");
}

#[tokio::test]
async fn a_killed_verify_goes_on_where_it_was() {
    let tandem = unswept(&[]).await;
    tandem.stripe.drop_webhooks(250).await.unwrap();
    for n in 0..250 {
        tandem.stripe.create(&[("name", &format!("c{n}"))]).await.unwrap();
    }
    // However often the second page is asked for: what is killed must not have ended.
    let out = tandem.stripe.fault(Fault::Hang.on("GET", "/v1/customers").skip(1).always()).await.unwrap();
    let verifying = tandem.begin(&["verify", "stripe"]);
    tandem.stripe.fault_reached(out, 1).await.unwrap();
    tandem.until("the first page is kept", || async { tandem.rows("survey_objects", "true").await == 100 }).await;
    let busy = tandem.run(&["verify", "stripe"]).await;
    assert!(busy.code == Some(1) && busy.stderr.contains("another process"), "{busy:?}");
    drop(verifying);
    tandem.stripe.release_fault(out).await.unwrap();
    tandem.stripe.clear_calls().await.unwrap();

    let resumed = tandem
        .find("the lock is given back", || async {
            let ran = tandem.run(&["verify", "stripe", "--resume", "--format", "json"]).await;
            (ran.code == Some(2)).then_some(ran)
        })
        .await;
    assert_eq!((&resumed.json()["objects"], &resumed.json()["drift"]), (&json!(250), &json!(250)));
    let lists = tandem.stripe.calls().await.unwrap().into_iter().filter(|call| call.path == "/v1/customers");
    let cursors: Vec<bool> = lists.map(|call| call.params.contains_key("starting_after")).collect();
    assert_eq!(cursors, [true, true], "the first page is not read again");
    let again = tandem.run(&["verify", "stripe", "--resume"]).await;
    assert!(
        again.code == Some(1) && again.stderr.contains("no `tandem verify` of stripe was left unfinished"),
        "{again:?}"
    );
}

/// Variant: what was found before the kill is found once more.
#[tokio::test]
async fn a_verify_that_is_killed_while_it_looks_again_tells_each_difference_once() {
    let tandem = unswept(&[]).await;
    tandem.stripe.drop_webhooks(120).await.unwrap();
    for n in 0..120 {
        tandem.stripe.create(&[("name", &format!("c{n}"))]).await.unwrap();
    }
    let out = tandem.stripe.fault(Fault::Hang.on("GET", "/v1/customers/*").skip(105)).await.unwrap();
    let verifying = tandem.begin(&["verify", "stripe"]);
    tandem.stripe.fault_reached(out, 1).await.unwrap();
    assert_eq!(tandem.rows("drifts", "true").await, 100);
    drop(verifying);
    tandem.stripe.clear_faults().await.unwrap();
    tandem.stripe.clear_calls().await.unwrap();
    let resumed = tandem
        .find("the lock is given back", || async {
            let ran = tandem.run(&["verify", "stripe", "--resume", "--format", "json"]).await;
            (ran.code == Some(2)).then_some(ran)
        })
        .await;
    let mut told = found(&resumed);
    told.dedup();
    assert_eq!((told.len(), &resumed.json()["drift"]), (120, &json!(120)));
    let looks = tandem.stripe.calls().await.unwrap();
    assert_eq!(looks.len(), 20, "nothing is read or looked at again: {looks:?}");
}

/// Variants: a side is read before an edit and the other after it; a link is taken for idle that was due in between.
#[tokio::test]
async fn edits_on_both_sides_meanwhile_are_no_drift() {
    let tandem = unswept(&[PATIENT]).await;
    let names: Vec<String> = (0..12).map(|n| format!("c{n}")).collect();
    let pairs = created(&tandem, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let verified = std::sync::atomic::AtomicBool::new(false);
    let editing = async {
        let mut n = 0;
        while !verified.load(std::sync::atomic::Ordering::Relaxed) {
            let (customer, remote) = &pairs[n % pairs.len()];
            tandem.patch(&customer.id, json!({"name": format!("here {n}")})).await;
            tandem.stripe.edit(remote, &[("phone", &format!("{n}"))]).await.unwrap();
            // What Stripe has not told for two seconds is drift, and rightly so: on a busy machine webhooks would pile up.
            tandem.stripe.webhooks_idle().await.unwrap();
            n += 1;
        }
    };
    let verifying = async {
        for _ in 0..3 {
            let ran = verify(&tandem, &["--values"]).await;
            assert_eq!(ran.code, Some(0), "{ran:?}");
        }
        verified.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(editing, verifying);
    tandem.settled().await;
    assert_eq!(verify(&tandem, &[]).await.json()["drift"], 0);
}

/// Variant: a list that stopped at an object which was deleted meanwhile cannot go on.
#[tokio::test]
async fn the_last_object_of_a_page_may_be_deleted_meanwhile() {
    let tandem = unswept(&[]).await;
    tandem.stripe.drop_webhooks(151).await.unwrap();
    for n in 0..150 {
        tandem.stripe.create(&[("name", &format!("c{n}"))]).await.unwrap();
    }
    let missing = Fault::status(400).code("resource_missing").param("starting_after");
    tandem.stripe.fault(missing.on("GET", "/v1/customers").skip(1)).await.unwrap();
    let ran = verify(&tandem, &[]).await;
    assert_eq!((&ran.json()["objects"], &ran.json()["drift"]), (&json!(150), &json!(150)));
}

#[tokio::test]
async fn serve_verifies_at_an_interval_and_says_what_it_found() {
    let tandem = unswept(&[("TANDEM_STRIPE__VERIFY_INTERVAL_S", "1")]).await;
    let pairs = created(&tandem, &["Ada", "Bob"]).await;
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.edit(&pairs[0].1, &[("name", "Countess")]).await.unwrap();

    tandem.until("measured", || async { tandem.measured("tandem_verify_drift").await == 1.0 }).await;
    tandem.until("compared", || async { tandem.measured("tandem_verify_compared").await == 2.0 }).await;
    let told = tandem.run(&["status", "--json"]).await.json();
    let gateway = &told["gateways"][0];
    assert_eq!((&gateway["verify_drift"], &gateway["verify_compared"]), (&json!(1), &json!(2)), "{told}");
    assert!(gateway["verified_at"].is_string());
    assert!(tandem.run(&["status"]).await.stdout.contains("2 compared, 1 differ"));
}
