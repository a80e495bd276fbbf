//! What is stored and cannot be read: parked once, with the reason, and tried again when that can help.

use serde_json::{Value, json};
use tandem_tests::{Customer, Tandem};

// Of the first customer alone: what a process remembers of others stays what is stored.
const BREAK: &str = "UPDATE events SET payload = jsonb_set(payload, '{profile}', '7') WHERE position = 1";
const MEND: &str = r#"UPDATE events SET payload = jsonb_set(payload, '{profile}', '{"name": "Ada", "email": "ada@old.example"}')
                      WHERE position = 1"#;

async fn run(tandem: &Tandem, sql: &str) {
    sqlx::raw_sql(sql).execute(&tandem.database).await.unwrap();
}

/// A customer whose first event cannot be read, and an edit of it in Stripe, which is parked.
async fn parked() -> (Tandem, Customer, Value) {
    let mut tandem = Tandem::start().await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let remote = tandem.remote_id(&ada.id).await;
    tandem.kill();
    run(&tandem, BREAK).await;
    tandem.start_again().await;

    tandem.stripe.edit(&remote, &[("name", "Countess")]).await.unwrap();
    tandem.until("it is parked", || async { !tandem.parked().await.is_empty() }).await;
    // What was told waits, and nobody works on it.
    tandem.until("rest", || async { tandem.rows("links", "due_seq > done_seq").await == 0 }).await;
    assert_eq!(tandem.rows("inbox", "state = 'waiting'").await, 1);
    let parked = tandem.parked().await;
    assert_eq!(parked.len(), 1, "{parked:?}");
    (tandem, ada, parked[0].clone())
}

/// Variant: it is tried for ever, as if it were the database that is away.
#[tokio::test]
async fn a_customer_whose_events_cannot_be_read_is_parked_and_tried_again_by_a_person() {
    let (tandem, ada, parked) = parked().await;
    assert_eq!(
        (&parked["kind"], &parked["code"], &parked["customer_id"]),
        (&json!("rejected"), &json!("stored_unreadable"), &json!(ada.id))
    );
    let reason = parked["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("event 1 of {}", ada.id)), "{reason}");
    // Nobody is told to try again what cannot help.
    let url = tandem.at(&format!("/customers/{}", ada.id));
    let patched = tandem.http().patch(url).json(&json!({"phone": "1"})).send().await.unwrap();
    assert_eq!(patched.status(), 500);
    // Others go on.
    let bob = tandem.create("Bob", "bob@old.example").await;
    assert!(!tandem.remote_id(&bob.id).await.is_empty());

    run(&tandem, MEND).await;
    assert_eq!(tandem.post(&format!("/parked/{}/retry", parked["id"]), json!({})).await.status(), 204);
    tandem.settled().await;

    assert_eq!(tandem.parked().await, Vec::<Value>::new());
    assert_eq!(tandem.get(&ada.id).await.name.as_deref(), Some("Countess"));
}

/// Builds of one version may differ: the one that is started next may be the one that can read it.
#[tokio::test]
async fn what_could_not_be_read_is_tried_again_by_a_process_that_starts() {
    let (mut tandem, ada, _) = parked().await;
    tandem.kill();
    run(&tandem, MEND).await;
    tandem.start_again().await;

    tandem.until("the edit", || async { tandem.get(&ada.id).await.name.as_deref() == Some("Countess") }).await;
    tandem.settled().await;
    assert_eq!(tandem.parked().await, Vec::<Value>::new());
}
