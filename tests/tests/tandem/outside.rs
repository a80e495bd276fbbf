//! What Stripe says may be of any length: one record's trouble stays its own, and the next record always arrives.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use stripe_sim::Settings;
use tandem_tests::{Setup, Tandem};

/// How many odd records are told of in one test. The same each time: what fails names its fields.
const RECORDS: usize = 24;

async fn of_any_length() -> Tandem {
    let stripe = Settings { any_length: true, ..Settings::default() };
    let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "1000".to_owned())];
    Tandem::start_with(Setup { stripe, env, ..Setup::default() }).await
}

/// A text that PostgreSQL cannot make shorter, so that no index takes it whole.
fn random(chars: usize) -> String {
    (0..chars).map(|_| char::from(b'a' + rand::random::<u8>() % 26)).collect()
}

/// A webhook, genuine whatever its body is. Returns the status of the answer.
async fn tell(tandem: &Tandem, body: &str) -> u16 {
    let now = tandem.stripe.now_ms().await.unwrap() / 1000;
    let signature = stripe_sim::sign("whsec_test", now, body.as_bytes());
    let request = tandem.http().post(tandem.at("/webhooks/stripe")).header("stripe-signature", signature);
    request.body(body.to_owned()).send().await.unwrap().status().as_u16()
}

fn told(event_id: &str, object: &Value) -> String {
    json!({
        "id": event_id, "object": "event", "created": 1_800_000_000, "livemode": false, "type": "customer.created",
        "data": {"object": object}, "request": null
    })
    .to_string()
}

/// Whether the catalog has a customer of that email.
async fn has(tandem: &Tandem, email: &str) -> bool {
    !tandem.get_json(&format!("/customers?email={email}")).await["data"].as_array().unwrap().is_empty()
}

async fn arrives(tandem: &Tandem, email: &str) {
    tandem.until(email, || has(tandem, email)).await;
}

/// The service does all of its work. What has stopped stays stopped; what was only slow to answer is not.
async fn becomes_ready(tandem: &Tandem) {
    let asked = async || tandem.http().get(tandem.at("/readyz")).send().await.unwrap().status() == 200;
    tandem.until("it is ready", asked).await;
}

/// A text of one of these lengths, at a limit or beyond it, in one to four bytes a character, with odd ones among them.
fn text(lengths: &'static [usize]) -> impl Strategy<Value = String> {
    let odd = prop_oneof![4 => Just(""), 1 => Just("\u{0}"), 1 => Just("\u{7}\r"), 1 => Just("\u{200b}\u{feff}")];
    (prop::sample::select(lengths), prop::sample::select(&["x", "ä", "語", "\u{10437}", "\u{130}"][..]), odd)
        .prop_map(|(length, letter, odd)| letter.repeat(length) + odd)
}

/// The fields of a record at and beyond every limit.
fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    let named = |name: &'static str, value: BoxedStrategy<String>| value.prop_map(move |text| (name.to_owned(), text));
    let email = text(&[1, 500, 600, 50_000]).prop_map(|local| {
        let kept: String = local.chars().filter(|c| !c.is_control() && !c.is_whitespace()).collect();
        format!("{kept}@x.example")
    });
    let keys = prop_oneof![4 => 0..3_usize, 1 => Just(49_usize), 1 => Just(128), 1 => Just(129), 1 => Just(400)];
    let metadata = (keys, text(&[1, 40, 41, 255, 256, 3_000]), text(&[1, 500, 501, 5_000, 5_001]));
    (
        named("name", text(&[1, 256, 257, 2_700, 5_000, 5_001, 50_000]).boxed()),
        named("email", email.boxed()),
        named("phone", text(&[1, 20, 21, 5_001]).boxed()),
        named("address[line1]", text(&[1, 5_000, 5_001]).boxed()),
        named("address[country]", text(&[2, 300]).boxed()),
        metadata,
    )
        .prop_map(|(name, email, phone, line, country, (keys, key, value))| {
            let key: String = key.chars().filter(|c| !c.is_control()).collect();
            // Together they may be more than a webhook takes.
            let value = if keys > 10 { "v".to_owned() } else { value };
            let metadata =
                (0..keys).map(|n| (format!("metadata[{n}{}]", if keys > 10 { "" } else { &key }), value.clone()));
            [name, email, phone, line, country].into_iter().chain(metadata).collect()
        })
}

/// Variant: a key of the read model is as long as the value, and no row of an index takes it: the read model stops for all.
/// Variant: one change that cannot be routed keeps all that is new of its gateway waiting.
#[tokio::test]
async fn after_a_record_at_or_beyond_any_limit_the_next_one_arrives() {
    let tandem = of_any_length().await;
    let mut runner = TestRunner::deterministic();
    for n in 0..RECORDS {
        let odd = fields().new_tree(&mut runner).unwrap().current();
        let lengths: Vec<usize> = odd.iter().map(|(_, text)| text.len()).collect();
        println!("{n}: {} fields: {:?}", odd.len(), &lengths[..5]);
        // Every third is told of by the sweep alone.
        if n % 3 == 2 {
            tandem.stripe.drop_webhooks(2).await.unwrap();
        }
        let sent: Vec<(&str, &str)> = odd.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let there = tandem.stripe.create(&sent).await.unwrap();
        // At rest or parked, its edits disturb nobody either.
        tandem.stripe.edit(&there.id, &[("phone", "1")]).await.unwrap();
        let next = format!("next-{n}@new.example");
        tandem.stripe.create(&[("name", "Next"), ("email", &next)]).await.unwrap();
        arrives(&tandem, &next).await;
    }
    let parked = tandem.parked().await;
    assert!(parked.iter().any(|one| one["code"] == "cannot_be_kept"), "{parked:?}");
    assert!(parked.iter().all(|one| one["reason"].as_str().unwrap().len() < 300), "{parked:?}");
    // More than a webhook may hold is sent again and again, and the sweep has brought it long ago.
    becomes_ready(&tandem).await;
}

/// Variant: the name of 2,700 characters stops the read model at its event, for ever.
#[tokio::test]
async fn a_name_longer_than_an_index_takes_is_listed_and_found() {
    let tandem = of_any_length().await;
    let long = random(2_700);
    let ends = ["b", "a", "c"];
    for end in ends {
        tandem.stripe.create(&[("name", &format!("{long}{end}"))]).await.unwrap();
    }
    tandem.stripe.create(&[("name", "~"), ("email", "last@new.example")]).await.unwrap();
    arrives(&tandem, "last@new.example").await;
    tandem.settled().await;
    // Page by page all of them, once.
    for sort in ["name", "-name"] {
        let (mut names, mut cursor) = (vec![], String::new());
        loop {
            let page = tandem.get_json(&format!("/customers?sort={sort}&limit=1{cursor}")).await;
            names.push(page["data"][0]["name"].as_str().unwrap().to_owned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let last = if sort == "name" { names.pop() } else { Some(names.remove(0)) };
        assert_eq!(last.as_deref(), Some("~"), "{sort}");
        names.sort();
        assert_eq!(names, ["a", "b", "c"].map(|end| format!("{long}{end}")), "{sort}");
    }
    let found = reqwest::Url::parse_with_params(&tandem.at("/customers"), [("q", &long[..100])]).unwrap();
    let found: Value = tandem.http().get(found).send().await.unwrap().json().await.unwrap();
    assert_eq!(found["data"].as_array().unwrap().len(), 3);
}

/// Variant: an id of ten thousand characters, or with a NUL, is answered by 500, and sent again for days.
#[tokio::test]
async fn an_id_that_cannot_be_kept_is_refused_or_parked() {
    let tandem = of_any_length().await;
    let object = |id: &str| json!({"id": id, "object": "customer", "name": "Eve", "email": "eve@x.example"});
    for event_id in ["", &"e".repeat(256), &random(10_000), "evt\u{0}1"] {
        assert_eq!(tell(&tandem, &told(event_id, &object("cus_1"))).await, 400, "{}", event_id.len());
    }
    for id in ["", "cus\u{0}1"] {
        assert_eq!(tell(&tandem, &told("evt_2", &object(id))).await, 400, "{id:?}");
    }
    let surrogate = told("evt_3", &object("cus_3")).replace("Eve", "\\ud800");
    assert!([200, 400].contains(&tell(&tandem, &surrogate).await));
    let deep = told("evt_4", &object("cus_4")).replace("\"Eve\"", &"[".repeat(100_000));
    assert_eq!(tell(&tandem, &deep).await, 400);

    let endless = random(2_800);
    assert_eq!(tell(&tandem, &told("evt_5", &object(&endless))).await, 200);
    tandem.stripe.create(&[("name", "Next"), ("email", "next@new.example")]).await.unwrap();
    arrives(&tandem, "next@new.example").await;
    let unstorable = async || {
        let parked = tandem.parked().await;
        parked.into_iter().find(|one| one["kind"] == "unstorable")
    };
    let shown = tandem.find("it is parked", unstorable).await;
    assert_eq!(shown["remote_id"].as_str(), Some(&endless[..255]), "{shown}");
    let path = |what: &str, id: &Value| format!("/parked/{id}/{what}");
    for wrong in ["link", "keep", "delete"] {
        assert_eq!(tandem.post(&path(wrong, &shown["id"]), json!({})).await.status(), 409, "{wrong}");
    }
    assert_eq!(tandem.post(&path("retry", &shown["id"]), json!({})).await.status(), 204);
    let again = tandem.find("it is parked again", unstorable).await;
    assert_ne!(again["id"], shown["id"]);
    assert_eq!(tandem.post(&path("dismiss", &again["id"]), json!({})).await.status(), 204);
    assert!(unstorable().await.is_none());
    becomes_ready(&tandem).await;
}

/// Variant: one object of a page that cannot be kept ends the plan, and the verification.
#[tokio::test]
async fn a_plan_and_a_verification_go_on_past_an_object_that_cannot_be_kept() {
    let stripe = Settings { any_length: true, ..Settings::default() };
    let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "86400000".to_owned())];
    let tandem = Tandem::start_with(Setup { stripe, env, without_gateway: true, ..Setup::default() }).await;
    let endless = random(60_000);
    tandem.stripe.create(&[("name", "Ada"), ("email", "ada@old.example")]).await.unwrap();
    tandem.stripe.create(&[("name", &endless), ("email", &format!("{endless}@x.example"))]).await.unwrap();
    tandem.stripe.create(&[("name", "Bob"), ("email", "bob@old.example")]).await.unwrap();
    let (code, said) = tandem.command(&["plan", "stripe"]).await;
    assert!(code == Some(0) && said.contains("an object that Stripe lists cannot be kept"), "{said}");
    let (code, said) = tandem.command(&["apply", "1"]).await;
    assert!(code == Some(0) && said.contains("2 carried out"), "{said}");
    let (code, said) = tandem.command(&["verify", "stripe"]).await;
    assert!(matches!(code, Some(0 | 2)) && said.contains("cannot be kept"), "{code:?}: {said}");
}
