//! The largest events that the domain permits.

use chrono::DateTime;
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};
use tandem_domain::{Address, Create, Customer, CustomerCommand, Field, Patch, Profile, Update, Value, upcasters};
use tandem_eventlog::{Context, Store, Wake};
use uuid::Uuid;

use crate::service::{Service, connections, published};

/// As many of a letter that takes four bytes.
fn letters(count: usize) -> String {
    "𝒳".repeat(count)
}

/// Every field as long as may be, with metadata keys that begin so, and a text of its own.
fn fullest(mark: &str) -> Profile {
    let text = |count: usize| Value::Text(format!("{mark}{}", letters(count - 1)));
    let part = || Some(format!("{mark}{}", letters(4999)));
    let address = Address {
        line1: part(),
        line2: part(),
        city: part(),
        state: part(),
        postal_code: part(),
        country: Some("DE".to_owned()),
    };
    let mut profile = Profile::default()
        .with(Field::Name, text(256))
        .with(Field::Email, Value::Text(format!("{mark}{}@x.example", letters(501))))
        .with(Field::Phone, text(20))
        .with(Field::Address, Value::Address(address));
    for n in 10..59 {
        profile.set(Field::Metadata(format!("{mark}{n}{}", letters(37))), Some(text(500)));
    }
    profile.check().expect("what the domain permits");
    profile
}

/// Fails where the event log takes less than the domain permits: 500, or a link that is tried for ever.
#[tokio::test]
async fn the_largest_events_are_stored_and_reach_the_stream() {
    let service = Service::start().await;
    let nats = async_nats::connect(service.config.nats.url.expose_secret()).await.unwrap();
    let feed = service.config.feed();
    let wake = Wake::new(nats.clone(), &feed.stream);
    let store = Store::<Customer>::new(&connections(&service.config), wake, upcasters);
    let id = Uuid::now_v7().to_string();
    let (before, after) = (fullest("a"), fullest("b"));
    let mut patch = Patch::default();
    for field in before.fields_with(&after) {
        patch.set(field.clone(), after.get(field).cloned());
    }

    let at = DateTime::UNIX_EPOCH;
    let context = || Context::from_origin("api");
    store.execute(&id, CustomerCommand::Create(Create { profile: before, at }), context()).await.unwrap();
    store.execute(&id, CustomerCommand::Update(Update { patch, at }), context()).await.unwrap();
    // Over HTTP, too: a small body may take away all at once.
    let emptied = service.patch(&id, json!({"address": null, "metadata": null})).await;
    assert_eq!((emptied.status, &emptied.body["metadata"]), (200, &json!({})));

    let path = format!("/customers/{id}/events");
    service.until(&path, |answer| answer.body["data"][2]["position"] == 3).await;
    service.until(&format!("/customers/{id}?min_version=3"), |answer| answer.status == 200).await;
    let mut stream = async_nats::jetstream::new(nats).get_stream(&feed.stream).await.unwrap();
    published(&mut stream, 3).await;
    let mut sizes = vec![];
    for (position, kind) in [(1, "created"), (2, "updated"), (3, "updated")] {
        let message = stream.get_raw_message(position).await.unwrap();
        let event: Json = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(event["type"], kind);
        sizes.push(message.payload.len() / 1024);
    }
    assert!(sizes[1] > 400 && sizes.iter().all(|size| (200..450).contains(size)), "{sizes:?} KiB");
}
