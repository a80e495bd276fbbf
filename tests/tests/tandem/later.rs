//! A rolling upgrade: a later version has written events that this one reads, too.

use serde_json::{Value, json};
use tandem_tests::Tandem;

/// Appends what a later version would have.
async fn append(tandem: &Tandem, id: &str, version: &str, payload: &Value) {
    let append = "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
                  SELECT 'customer', $1, max(sequence) + 1, $2 ->> 'type', $3, $2, '{\"origin\": \"later\"}', gen_random_uuid()
                  FROM events WHERE aggregate_id = $1";
    sqlx::query(append).bind(id).bind(payload).bind(version).execute(&tandem.database).await.unwrap();
}

/// Variant: a field that this version does not know stops its projections, its reconciler and its API, in the middle of an upgrade.
#[tokio::test]
async fn what_a_later_version_writes_stops_nothing_and_is_not_lost() {
    let mut tandem = Tandem::start().await;
    let ada = tandem.create("Ada", "ada@old.example").await;
    tandem.settled().await;
    let remote = tandem.remote_id(&ada.id).await;
    let at = "2026-11-14T22:13:20Z";
    let change =
        |before: Value, after: Value| json!({"before": before, "after": after, "edited_at": at, "by": "Grace"});
    let changes = json!({"description": change(Value::Null, json!("pays late")),
                         "shipping": change(Value::Null, json!({"carrier": 7})),
                         "phone": change(Value::Null, json!("1"))});
    append(&tandem, &ada.id, "1.1", &json!({"type": "updated", "changes": changes, "at": at, "actor": "key_1"})).await;
    let side = |value: &str| json!({"value": value, "edited_at": at});
    let conflict = json!({"type": "conflict_opened", "gateway": "stripe", "field": "description", "at": at, "why": "late",
                          "catalog": side("pays late"), "remote": side("never pays")});
    append(&tandem, &ada.id, "1.1", &conflict).await;

    // The read model and the gateway's projection go on, and the reconciler loads the customer.
    tandem.until("the phone", || async { tandem.get(&ada.id).await.phone.as_deref() == Some("1") }).await;
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    let conflicts = tandem.get_json("/conflicts?state=open").await["data"].clone();
    assert_eq!((&conflicts[0]["field"], &conflicts[0]["catalog"]["origin"]), (&json!("description"), &json!("later")));
    let deciding = tandem.post(&format!("/conflicts/{}/resolve", conflicts[0]["id"]), json!({"keep": "gateway"})).await;
    assert_eq!(deciding.status(), 409, "the version that knows the field decides");
    let shown = tandem.events(&ada.id).await;
    let updated = shown.iter().find(|event| event["type"] == "updated").unwrap();
    assert_eq!(updated["changes"]["shipping"]["after"], json!({"carrier": 7}));

    // Both ways, over a restart, and built anew.
    tandem.patch(&ada.id, json!({"name": "Countess"})).await;
    tandem.stripe.edit(&remote, &[("email", "ada@new.example")]).await.unwrap();
    tandem.settled().await;
    tandem.kill();
    tandem.start_again().await;
    tandem.stripe.edit(&remote, &[("phone", "2")]).await.unwrap();
    tandem.settled().await;
    tandem.assert_equal(&ada.id).await;
    let (code, said) = tandem.command(&["rebuild", "customers"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(tandem.get(&ada.id).await.phone.as_deref(), Some("2"));
    let kept = "profile ->> 'description' = 'pays late' AND profile -> 'shipping' = '{\"carrier\": 7}'";
    assert!(tandem.rows("customer_rows", kept).await > 0);
    let (code, said) = tandem.command(&["verify", "stripe"]).await;
    assert_eq!(code, Some(0), "{said}");

    // And erased.
    tandem.delete(&ada.id).await;
    tandem.settled().await;
    let (code, said) = tandem.command(&["erase", &ada.id, "--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    let kept =
        "payload::text LIKE '%pays late%' OR payload::text LIKE '%carrier%' OR payload::text LIKE '%never pays%'";
    assert_eq!(tandem.rows("events", kept).await, 0);
}
