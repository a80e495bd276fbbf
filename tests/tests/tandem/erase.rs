//! Erasing a person: what is known of a deleted customer becomes blank, everywhere.

use serde_json::json;
use tandem_tests::Tandem;

/// In every field of hers that is not her id.
const PERSON: &str = "lovelace";

/// The tables in which she still is.
async fn tables_with_her(tandem: &Tandem) -> Vec<String> {
    let names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
    let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&tandem.database).await.unwrap();
    let mut found = vec![];
    for name in names {
        let rows = tandem.rows(&format!("{name} AS it"), &format!("it::text ILIKE '%{PERSON}%'")).await;
        if rows > 0 {
            found.push(format!("{name}: {rows}"));
        }
    }
    found
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
