//! The conflict queue: what waits for a person, and what they decide.

use serde_json::{Value, json};
use tandem_tests::{Setup, Tandem};

/// Ada, whose phone was edited on both sides at once: `1` here, `2` in Stripe. A person shall decide on phones.
async fn contested() -> (Tandem, String, String) {
    let env = vec![("TANDEM_STRIPE__POLICIES", "phone=ask".to_owned())];
    let tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let remote = tandem.remote_id(&ada.id).await;
    edit_both(&tandem, &ada.id, &remote, ("1", "2")).await;
    (tandem, ada.id, remote)
}

/// Edits the phone on both sides, neither knowing of the other: the link waits, as after a failure, until both are made.
async fn edit_both(tandem: &Tandem, id: &str, remote: &str, (here, there): (&str, &str)) {
    let wait = "UPDATE links SET not_before = clock_timestamp() + interval '1 hour'";
    sqlx::query(wait).execute(&tandem.database).await.unwrap();
    tandem.patch(id, json!({"phone": here})).await;
    tandem.stripe.edit(remote, &[("phone", there)]).await.unwrap();
    tandem.until("the edit there", || async { tandem.rows("inbox", "state = 'waiting'").await == 1 }).await;
    sqlx::query("UPDATE links SET not_before = clock_timestamp()").execute(&tandem.database).await.unwrap();
    tandem.settled().await;
    assert_eq!(open(tandem).await.len(), 1);
}

async fn open(tandem: &Tandem) -> Vec<Value> {
    tandem.get_json("/conflicts?state=open").await["data"].as_array().unwrap().clone()
}

async fn phones(tandem: &Tandem, id: &str, remote: &str) -> (Option<String>, Option<String>) {
    (tandem.get(id).await.phone, tandem.stripe.get(remote).await.unwrap().phone)
}

async fn resolve(tandem: &Tandem, conflict: &Value, body: Value) -> u16 {
    let answer = tandem.post(&format!("/conflicts/{}/resolve", conflict["id"]), body).await;
    let status = answer.status().as_u16();
    tandem.settled().await;
    status
}

fn pair(here: &str, there: &str) -> (Option<String>, Option<String>) {
    (Some(here.to_owned()), Some(there.to_owned()))
}

#[tokio::test]
async fn a_contested_field_waits_on_both_sides_and_the_others_go_on() {
    let (tandem, id, remote) = contested().await;
    let waiting = open(&tandem).await;
    assert_eq!(waiting.len(), 1);
    assert_eq!((&waiting[0]["field"], &waiting[0]["customer_id"]), (&json!("phone"), &json!(id)));
    assert_eq!((&waiting[0]["catalog"]["value"], &waiting[0]["catalog"]["origin"]), (&json!("1"), &json!("api")));
    assert_eq!((&waiting[0]["remote"]["value"], &waiting[0]["remote"]["origin"]), (&json!("2"), &json!("stripe")));
    assert_eq!(phones(&tandem, &id, &remote).await, pair("1", "2"));

    tandem.patch(&id, json!({"name": "Countess"})).await;
    tandem.stripe.edit(&remote, &[("email", "ada@new.example")]).await.unwrap();
    tandem.settled().await;
    let (here, there) = (tandem.get(&id).await, tandem.stripe.get(&remote).await.unwrap());
    assert_eq!((here.name, here.email), (there.name, there.email));
    assert_eq!((here.phone, there.phone), pair("1", "2"));
    let link = tandem.get_json(&format!("/customers/{id}/links")).await["data"][0].clone();
    assert_eq!((&link["in_sync"], &link["contested"]), (&json!(false), &json!(1)));

    let verified = tandem.run(&["verify", "stripe", "--repair", "--format", "json"]).await;
    let told = verified.json()["rows"].clone();
    assert_eq!((verified.code, &told[0]["kind"]), (Some(2), &json!("conflict_waits")), "{told}");
    assert_eq!(told.as_array().unwrap().len(), 1);

    // Nor does it come loose by a crash, or by looking again.
    let mut tandem = tandem;
    tandem.kill();
    tandem.start_again().await;
    sqlx::query("UPDATE links SET due_seq = due_seq + 1, look = true").execute(&tandem.database).await.unwrap();
    tandem.settled().await;
    assert_eq!(phones(&tandem, &id, &remote).await, pair("1", "2"));
    assert_eq!(open(&tandem).await, waiting);
}

#[tokio::test]
async fn a_person_keeps_either_value_or_a_third() {
    let (tandem, id, remote) = contested().await;
    let first = open(&tandem).await.remove(0);
    assert_eq!(resolve(&tandem, &first, json!({"keep": "catalog"})).await, 200);
    assert_eq!(phones(&tandem, &id, &remote).await, pair("1", "1"));

    edit_both(&tandem, &id, &remote, ("3", "4")).await;
    let second = open(&tandem).await.remove(0);
    assert_eq!(resolve(&tandem, &second, json!({"keep": "gateway"})).await, 200);
    assert_eq!(phones(&tandem, &id, &remote).await, pair("4", "4"));

    edit_both(&tandem, &id, &remote, ("5", "6")).await;
    let third = open(&tandem).await.remove(0);
    assert_eq!(resolve(&tandem, &third, json!({"keep": "value", "value": "7"})).await, 200);
    assert_eq!(phones(&tandem, &id, &remote).await, pair("7", "7"));
    let link = tandem.get_json(&format!("/customers/{id}/links")).await["data"][0].clone();
    assert_eq!((&link["in_sync"], &link["contested"]), (&json!(true), &json!(0)));

    // Every value stays readable, and who won.
    let past = tandem.get_json("/conflicts?state=resolved").await;
    let told: Vec<_> = past["data"].as_array().unwrap().iter().map(|one| (&one["winner"], &one["policy"])).collect();
    let ask = json!("ask");
    assert_eq!(told, [(&json!("catalog"), &ask), (&json!("gateway"), &ask), (&json!("value"), &ask)]);
    assert!(open(&tandem).await.is_empty());

    // What is decided is decided, an older conflict does not stand for a newer one, and a rebuild shows the same.
    assert_eq!(resolve(&tandem, &third, json!({"keep": "catalog"})).await, 409);
    edit_both(&tandem, &id, &remote, ("8", "9")).await;
    assert_eq!(resolve(&tandem, &third, json!({"keep": "catalog"})).await, 409);
    assert_eq!(phones(&tandem, &id, &remote).await, pair("8", "9"));
    let shown = tandem.get_json("/conflicts").await;
    assert_eq!(tandem.command(&["rebuild", "customers"]).await.0, Some(0));
    assert_eq!(tandem.get_json("/conflicts").await, shown);
}

#[tokio::test]
async fn edits_go_on_while_a_conflict_waits_and_agreement_ends_it() {
    let (tandem, id, remote) = contested().await;
    tandem.stripe.edit(&remote, &[("phone", "3")]).await.unwrap();
    tandem.settled().await;
    tandem.patch(&id, json!({"phone": "4"})).await;
    tandem.settled().await;
    let waiting = open(&tandem).await;
    assert_eq!((&waiting[0]["catalog"]["value"], &waiting[0]["remote"]["value"]), (&json!("4"), &json!("3")));
    assert_eq!(phones(&tandem, &id, &remote).await, pair("4", "3"));

    tandem.patch(&id, json!({"phone": "3"})).await;
    tandem.settled().await;
    assert!(open(&tandem).await.is_empty());
    tandem.stripe.edit(&remote, &[("phone", "5")]).await.unwrap();
    tandem.settled().await;
    assert_eq!(phones(&tandem, &id, &remote).await, pair("5", "5"));
}

/// Our call was under way when somebody edited there: it cannot be held any more, but a person is asked all the same.
#[tokio::test]
async fn a_person_is_asked_about_an_edit_that_our_call_wrote_over() {
    let env = vec![("TANDEM_STRIPE__POLICIES", "phone=ask".to_owned())];
    let tandem = Tandem::start_with(Setup { env, ..Setup::default() }).await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let remote = tandem.remote_id(&ada.id).await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&remote, &[("phone", "2")]).await.unwrap();
    tandem.patch(&ada.id, json!({"phone": "1"})).await;
    tandem.until("our call", || async { phones(&tandem, &ada.id, &remote).await == pair("1", "1") }).await;
    tandem.stripe.release(stripe_sim::Order::Fifo).await.unwrap();
    tandem.settled().await;

    let waiting = open(&tandem).await;
    assert_eq!((&waiting[0]["catalog"]["value"], &waiting[0]["remote"]["value"]), (&json!("1"), &json!("2")));
    // Meanwhile the field goes on.
    tandem.patch(&ada.id, json!({"phone": "3"})).await;
    tandem.settled().await;
    assert_eq!(phones(&tandem, &ada.id, &remote).await, pair("3", "3"));
    assert_eq!(resolve(&tandem, &waiting[0], json!({"keep": "gateway"})).await, 200);
    assert_eq!(phones(&tandem, &ada.id, &remote).await, pair("2", "2"));
}

#[tokio::test]
async fn a_deletion_ends_what_waits_and_keeps_both_values() {
    let (tandem, id, _) = contested().await;
    tandem.delete(&id).await;
    tandem.settled().await;
    assert!(open(&tandem).await.is_empty());
    let past = tandem.get_json(&format!("/conflicts?customer={id}")).await["data"][0].clone();
    assert_eq!(
        (&past["winner"], &past["catalog"]["value"], &past["remote"]["value"]),
        (&json!("deletion"), &json!("1"), &json!("2"))
    );
}

#[tokio::test]
async fn a_decision_that_makes_no_sense_is_refused() {
    let (tandem, _, _) = contested().await;
    let one = open(&tandem).await.remove(0);
    assert_eq!(resolve(&tandem, &one, json!({"keep": "mine"})).await, 422);
    assert_eq!(resolve(&tandem, &one, json!({"keep": "value"})).await, 422);
    assert_eq!(resolve(&tandem, &one, json!({"keep": "value", "value": 7})).await, 422);
    assert_eq!(resolve(&tandem, &one, json!({"keep": "value", "value": "x".repeat(21)})).await, 422);
    assert_eq!(resolve(&tandem, &json!({"id": 999_999}), json!({"keep": "catalog"})).await, 404);
    assert_eq!(open(&tandem).await.len(), 1);
}
