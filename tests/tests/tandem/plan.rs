//! The first run: both sides have customers already. A plan says who is who, and changes nothing; apply does what it says.

use serde_json::{Value, json};
use stripe_sim::{ClockChange, Fault};
use tandem_tests::{Setup, Tandem};

/// A catalog that no gateway has heard of yet.
async fn before_stripe() -> Tandem {
    Tandem::start_with(Setup { without_gateway: true, ..Setup::default() }).await
}

/// An object that was there a day before anybody listened.
async fn there(tandem: &Tandem, fields: &[(&str, &str)]) -> String {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.clock(ClockChange::OffsetMs(-DAY_MS)).await.unwrap();
    let id = tandem.stripe.create(fields).await.unwrap().id;
    tandem.stripe.clock(ClockChange::OffsetMs(0)).await.unwrap();
    id
}

/// Makes a plan; its number.
async fn plan(tandem: &Tandem, more: &[&str]) -> String {
    let ran = tandem.ran_well(&[&["plan", "stripe"], more].concat()).await;
    ran.stdout.split_whitespace().nth(1).unwrap().to_owned()
}

async fn show(tandem: &Tandem, plan: &str, more: &[&str]) -> Value {
    tandem.ran_well(&[&["plan", "show", plan, "--format", "json"], more].concat()).await.json()
}

/// What it says, as (action, customer, object, matched by), sorted.
fn items(shown: &Value) -> Vec<(String, String, String, String)> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let item = |row: &Value| {
        let [action, customer, object, by] =
            ["action", "customer_id", "remote_id", "matched_by"].map(|name| text(row, name));
        (action, customer, object, by)
    };
    let mut items: Vec<_> = shown["rows"].as_array().unwrap().iter().map(item).collect();
    items.sort();
    items
}

fn item(action: &str, customer: &str, object: &str, by: &str) -> (String, String, String, String) {
    (action.to_owned(), customer.to_owned(), object.to_owned(), by.to_owned())
}

#[tokio::test]
async fn a_plan_says_who_is_who_and_apply_links_them() {
    let mut tandem = before_stripe().await;
    let ada = tandem.create("Ada", "ada@x.example").await.id;
    let bob = tandem.create("Bob", "Bob@x.example").await.id;
    let eve = tandem.create("Eve", "eve@x.example").await.id;
    let dan = tandem.create("Dan", "dan@x.example").await.id;
    let lee = tandem.create("Lee", "lee@x.example").await.id;
    let (two, too) = (tandem.create("Sam", "sam@x.example").await.id, tandem.create("Sammy", "SAM@x.example").await.id);
    let (fay, fey) = (tandem.create("Fay", "fay@x.example").await.id, tandem.create("Fey", "fay@x.example").await.id);
    tandem.patch(&eve, json!({"metadata": {"crm": "7"}})).await;
    tandem.settled().await;

    let there_ada = there(&tandem, &[("name", "Ada"), ("email", "a@y.example"), ("metadata[tandem_id]", &ada)]).await;
    let there_bob = there(&tandem, &[("name", "Robert"), ("email", "bob@X.example")]).await;
    let there_eve = there(&tandem, &[("name", "E."), ("metadata[crm]", "7")]).await;
    let there_lee = there(&tandem, &[("name", "Lee"), ("metadata[crm]", &lee)]).await;
    let there_sam = there(&tandem, &[("name", "Sam"), ("email", "sam@x.example")]).await;
    let grace = there(&tandem, &[("name", "Grace"), ("email", "grace@x.example")]).await;
    let ivy = [
        there(&tandem, &[("name", "Ivy"), ("email", "ivy@x.example")]).await,
        there(&tandem, &[("name", "Ivy B."), ("email", "ivy@x.example")]).await,
    ];

    let number = plan(&tandem, &["--match-metadata", "crm"]).await;
    let shown = show(&tandem, &number, &[]).await;
    let mut expected = vec![
        item("link", &ada, &there_ada, "tandem_id"),
        item("link", &bob, &there_bob, "email"),
        item("link", &eve, &there_eve, "metadata"),
        item("link", &lee, &there_lee, "metadata"),
        item("create_there", &dan, "", ""),
        item("create_here", "", &grace, ""),
        item("ambiguous", &two, "", "email"),
        item("ambiguous", &too, "", "email"),
        item("ambiguous", "", &there_sam, "email"),
        item("duplicate", &fay, "", "email"),
        item("duplicate", &fey, "", "email"),
        item("duplicate", "", &ivy[0], "email"),
        item("duplicate", "", &ivy[1], "email"),
    ];
    expected.sort();
    assert_eq!(items(&shown), expected);
    assert_eq!((&shown["customers"], &shown["objects"], &shown["linked"]), (&json!(9), &json!(8), &json!(0)));
    let bobs = show(&tandem, &number, &["--action", "link", "--values"]).await;
    let row = bobs["rows"].as_array().unwrap().iter().find(|row| row["customer_id"] == bob).unwrap().clone();
    assert_eq!(row["fields"][0], json!({"field": "name", "here": "Bob", "there": "Robert"}));
    // Nothing else has happened.
    assert!(tandem.stripe.calls().await.unwrap().iter().all(|call| !call.is_write()));
    assert_eq!(tandem.rows("links", "true").await + tandem.rows("inbox", "true").await, 0);

    // Pairs that differ are left, until somebody says whose fields stay.
    let ran = tandem.ran_well(&["apply", &number]).await;
    assert!(ran.stdout.starts_with("2 carried out") && ran.stdout.contains("4 differ"), "{}", ran.stdout);
    let ran = tandem.ran_well(&["apply", &number, "--fields-from", "gateway"]).await;
    assert!(ran.stdout.starts_with("4 carried out"), "{}", ran.stdout);
    assert!(tandem.ran_well(&["apply", &number]).await.stdout.starts_with("0 carried out"), "nothing twice");

    tandem.turn_gateway_on().await;
    tandem.settled().await;
    for (here, there, name) in [(&ada, &there_ada, "Ada"), (&bob, &there_bob, "Robert"), (&eve, &there_eve, "E.")] {
        assert_eq!(tandem.remote_id(here).await, *there);
        assert_eq!(tandem.get(here).await.name.as_deref(), Some(name));
        tandem.assert_equal(here).await;
        assert_eq!(tandem.history(here).await.iter().filter(|event| *event == "linked").count(), 1);
    }
    tandem.assert_equal(&dan).await;
    let imported = tandem.local_id(&grace).await;
    tandem.assert_equal(&imported).await;
    assert_eq!(tandem.customers().await.len(), 10, "only Grace is new");
}

#[tokio::test]
async fn the_side_that_is_asked_for_keeps_its_fields() {
    for (side, name, phone, metadata) in [("catalog", "Ada", Some("1"), 0), ("gateway", "Countess", None, 1)] {
        let mut tandem = before_stripe().await;
        let ada = tandem.create("Ada", "ada@x.example").await.id;
        tandem.patch(&ada, json!({"phone": "1"})).await;
        tandem.settled().await;
        let object =
            there(&tandem, &[("name", "Countess"), ("email", "ada@x.example"), ("metadata[plan]", "pro")]).await;
        let number = plan(&tandem, &[]).await;
        tandem.ran_well(&["apply", &number, "--fields-from", side]).await;
        tandem.turn_gateway_on().await;
        tandem.settled().await;

        tandem.assert_equal(&ada).await;
        let here = tandem.get(&ada).await;
        assert_eq!((here.name.as_deref(), here.phone.as_deref(), here.metadata.len()), (Some(name), phone, metadata));
        assert_eq!(tandem.remote_id(&ada).await, object);
        assert!(!tandem.history(&ada).await.contains(&"conflict_resolved".to_owned()));
    }
}

/// Variant: what was approved for one state is done to another.
#[tokio::test]
async fn what_has_changed_since_the_plan_is_left() {
    let tandem = before_stripe().await;
    let ada = tandem.create("Ada", "ada@x.example").await.id;
    let bob = tandem.create("Bob", "bob@x.example").await.id;
    let eve = tandem.create("Eve", "eve@x.example").await.id;
    tandem.settled().await;
    let there_ada = there(&tandem, &[("name", "Ada"), ("email", "ada@x.example")]).await;
    there(&tandem, &[("name", "Bob"), ("email", "bob@x.example")]).await;
    let grace = there(&tandem, &[("name", "Grace")]).await;
    let number = plan(&tandem, &[]).await;

    tandem.stripe.edit(&there_ada, &[("email", "stranger@x.example")]).await.unwrap();
    tandem.patch(&bob, json!({"phone": "2"})).await;
    tandem.delete(&eve).await;
    tandem.stripe.delete(&grace).await.unwrap();
    let ran = tandem.ran_well(&["apply", &number, "--fields-from", "catalog"]).await;
    assert!(ran.stdout.starts_with("0 carried out") && ran.stdout.contains("4 have changed"), "{}", ran.stdout);
    assert_eq!(tandem.rows("links", "true").await + tandem.rows("inbox", "true").await, 0);
    let states = show(&tandem, &number, &[]).await;
    assert!(states["rows"].as_array().unwrap().iter().all(|row| row["state"] == "changed"), "{states}");
    assert_eq!(tandem.get(&ada).await.email.as_deref(), Some("ada@x.example"));

    tandem.ran_well(&["plan", "drop", &number]).await;
    assert_eq!(tandem.rows("plan_items", "true").await, 0);
}

/// Customers that Tandem tried to create in Stripe and could not have links already.
#[tokio::test]
async fn customers_with_links_but_without_objects_are_planned_while_tandem_serves() {
    let tandem = Tandem::start().await;
    let no = Fault::status(400).code("parameter_invalid_empty").on("POST", "/v1/customers").always();
    tandem.stripe.fault(no).await.unwrap();
    let ada = tandem.create("Ada", "ada@x.example").await.id;
    tandem.settled().await;
    assert_eq!(tandem.parked().await.len(), 1);
    let object = there(&tandem, &[("name", "Ada"), ("email", "ada@x.example")]).await;

    let number = plan(&tandem, &[]).await;
    assert_eq!(items(&show(&tandem, &number, &[]).await), [item("link", &ada, &object, "email")]);
    tandem.ran_well(&["apply", &number]).await;
    tandem.until("linked", || async { tandem.history(&ada).await.contains(&"linked".to_owned()) }).await;
    tandem.settled().await;
    assert_eq!(tandem.remote_id(&ada).await, object);
    assert!(tandem.parked().await.is_empty(), "nothing is left for a person");
    let again = plan(&tandem, &[]).await;
    let shown = show(&tandem, &again, &[]).await;
    assert_eq!((items(&shown).len(), &shown["linked"]), (0, &json!(1)), "linked ones are counted");
}

/// Variants: an email that is there twice links to either; a linked customer's email links another; a second copy is created
/// once more.
#[tokio::test]
async fn whoever_could_be_several_is_left_to_a_person() {
    let tandem = Tandem::start().await;
    let ada = tandem.create("Ada", "ada@x.example").await.id;
    tandem.create("Bob", "bob@x.example").await;
    tandem.settled().await;
    let no = Fault::status(400).code("parameter_invalid_empty").on("POST", "/v1/customers").always();
    tandem.stripe.fault(no).await.unwrap();
    let eve = tandem.create("Eve", "eve@x.example").await.id;
    let fay = tandem.create("Fay", "bob@x.example").await.id;
    tandem.settled().await;
    let copy = there(&tandem, &[("name", "Copy"), ("metadata[tandem_id]", &ada)]).await;
    let bobby = there(&tandem, &[("name", "Bobby"), ("email", "BOB@x.example")]).await;
    let eves = [
        there(&tandem, &[("name", "Eve"), ("metadata[tandem_id]", &eve)]).await,
        there(&tandem, &[("name", "Eve"), ("metadata[tandem_id]", &eve)]).await,
    ];
    let adas = there(&tandem, &[("name", "A."), ("email", "ada@X.example")]).await;

    let number = plan(&tandem, &[]).await;
    let mut expected = vec![
        item("duplicate", "", &copy, "tandem_id"),
        item("duplicate", "", &adas, "email"),
        item("ambiguous", &fay, "", "email"),
        item("ambiguous", "", &bobby, "email"),
        item("ambiguous", &eve, "", "tandem_id"),
        item("ambiguous", &eve, &eves[0], "tandem_id"),
        item("ambiguous", &eve, &eves[1], "tandem_id"),
    ];
    expected.sort();
    let shown = show(&tandem, &number, &[]).await;
    assert_eq!((items(&shown), &shown["linked"]), (expected, &json!(2)));
    let ran = tandem.ran_well(&["apply", &number, "--fields-from", "gateway"]).await;
    assert!(ran.stdout.starts_with("0 carried out"), "{}", ran.stdout);
    assert_eq!(tandem.run(&["apply", &number, "--only", "ambiguous"]).await.code, Some(2), "never, by any wish");

    let ran = tandem.ran_well(&["apply", &number, "--only", "duplicate"]).await;
    let told = "1 carried out; `tandem serve` does what they lead to.\n1 have the id of a customer that has another object: a person is asked";
    assert!(ran.stdout.starts_with(told), "{}", ran.stdout);
    tandem.until("the copy is parked", || async { tandem.rows("parked", "kind = 'duplicate'").await == 1 }).await;
    tandem.settled().await;
    assert_eq!(tandem.get(&tandem.local_id(&adas).await).await.email.as_deref(), Some("ada@X.example"));
    assert_eq!(tandem.customers().await.len(), 5, "the second copy is no customer of its own");
}

/// Variant: a customer whose create is out is linked with another object, and is there twice.
#[tokio::test]
async fn whoever_is_just_being_created_is_not_linked() {
    let env = vec![("TANDEM_STRIPE__MATCH", "never".to_owned())];
    let tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    let no = Fault::status(400).code("parameter_invalid_empty").on("POST", "/v1/customers");
    tandem.stripe.fault(no).await.unwrap();
    let ada = tandem.create("Ada", "ada@x.example").await.id;
    tandem.settled().await;
    there(&tandem, &[("name", "Ada"), ("email", "ada@x.example")]).await;
    let number = plan(&tandem, &[]).await;

    let out = tandem.stripe.fault(Fault::Hang.on("POST", "/v1/customers")).await.unwrap();
    let parked = tandem.parked().await[0]["id"].as_i64().unwrap();
    tandem.post(&format!("/parked/{parked}/retry"), json!({})).await;
    tandem.stripe.fault_reached(out, 1).await.unwrap();
    let ran = tandem.ran_well(&["apply", &number]).await;
    assert!(ran.stdout.contains("1 are just being created there"), "{}", ran.stdout);
    let shown = tandem.ran_well(&["plan", "stripe"]).await.stdout;
    assert!(shown.contains("1 are being created there"), "{shown}");

    tandem.stripe.release_fault(out).await.unwrap();
    tandem.settled().await;
    let ran = tandem.ran_well(&["apply", &number]).await;
    assert!(ran.stdout.contains("1 have changed"), "{}", ran.stdout);
    tandem.assert_equal(&ada).await;
}

#[tokio::test]
async fn a_plan_and_its_application_may_be_killed_and_go_on() {
    let mut tandem = before_stripe().await;
    let crm = tandem.create("c0", "c0@x.example").await.id;
    tandem.patch(&crm, json!({"metadata": {"crm": "7"}})).await;
    there(&tandem, &[("name", "c0"), ("metadata[crm]", "7")]).await;
    for n in 1..30 {
        tandem.create(&format!("c{n}"), &format!("c{n}@x.example")).await;
        there(&tandem, &[("name", &format!("c{n}")), ("email", &format!("C{n}@x.example"))]).await;
    }
    for n in 30..110 {
        there(&tandem, &[("name", &format!("c{n}"))]).await;
    }
    tandem.settled().await;
    let out = tandem.stripe.fault(Fault::Hang.on("GET", "/v1/customers").skip(1)).await.unwrap();
    let planning = tandem.begin(&["plan", "stripe", "--match-metadata", "crm"]);
    tandem.stripe.fault_reached(out, 1).await.unwrap();
    tandem.until("the first page is kept", || async { tandem.rows("survey_objects", "true").await == 100 }).await;
    drop(planning);
    tandem.stripe.release_fault(out).await.unwrap();
    tandem.stripe.clear_calls().await.unwrap();
    let ran = tandem
        .find("the lock is given back", || async {
            let ran = tandem.run(&["plan", "stripe", "--resume"]).await;
            (ran.code == Some(0)).then_some(ran)
        })
        .await;
    let number = ran.stdout.split_whitespace().nth(1).unwrap().to_owned();
    assert!(ran.stdout.contains("by metadata          1"), "it matches as it was asked to: {}", ran.stdout);
    assert!(ran.stdout.contains("by email            29"), "{}", ran.stdout);
    let lists = tandem.stripe.calls().await.unwrap().into_iter().filter(|call| call.path == "/v1/customers");
    let cursors: Vec<bool> = lists.map(|call| call.params.contains_key("starting_after")).collect();
    assert_eq!(cursors, [true], "the first page is not read again");
    let again = tandem.run(&["plan", "stripe", "--resume"]).await;
    assert!(
        again.code == Some(1) && again.stderr.contains("no `tandem plan` of stripe was left unfinished"),
        "{again:?}"
    );

    let few = tandem.ran_well(&["apply", &number, "--only", "link", "--limit", "7", "--fields-from", "catalog"]).await;
    assert!(few.stdout.starts_with("7 carried out"), "{}", few.stdout);
    let out = tandem.stripe.fault(Fault::Hang.on("GET", "/v1/customers/*").skip(20).always()).await.unwrap();
    let applying = tandem.begin(&["apply", &number, "--fields-from", "catalog"]);
    tandem.stripe.fault_reached(out, 1).await.unwrap();
    drop(applying);
    tandem.stripe.clear_faults().await.unwrap();
    tandem.ran_well(&["apply", &number, "--fields-from", "catalog"]).await;
    assert_eq!(tandem.rows("plan_items", "state <> 'done'").await, 0);
    assert_eq!(tandem.rows("links", "remote_id IS NOT NULL").await, 30);
    assert_eq!(tandem.rows("inbox", "true").await, 80);

    tandem.turn_gateway_on().await;
    tandem.settled().await;
    assert_eq!(
        (tandem.rows("customers", "state = 'active'").await, tandem.stripe.customers().await.unwrap().len()),
        (110, 110)
    );
    assert_eq!(tandem.ran_well(&["verify", "stripe", "--format", "json"]).await.json()["drift"], 0);
}

#[tokio::test]
async fn what_cannot_be_asked_is_said() {
    let tandem = before_stripe().await;
    for (arguments, said) in [
        (vec!["plan", "show", "99"], "there is no finished plan 99"),
        (vec!["apply", "99"], "there is no finished plan 99"),
        (vec!["plan", "salesforce"], "no gateway salesforce is switched on; those that are: stripe"),
        (vec!["verify", "salesforce"], "no gateway salesforce is switched on; those that are: stripe"),
    ] {
        let ran = tandem.run(&arguments).await;
        assert!(ran.code == Some(1) && ran.stderr.contains(said), "{arguments:?}: {ran:?}");
    }
    assert_eq!(tandem.run(&["plan"]).await.code, Some(2));
}
