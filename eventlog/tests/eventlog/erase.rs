//! Erasing a person.

use crate::world::World;
use async_nats::jetstream;
use serde_json::json;
use tandem_eventlog::{erase, history, read_after, stream};

/// Fails if rows are deleted (positions would be missing), or the messages stay.
#[tokio::test]
async fn erased_events_keep_their_places_and_say_nothing() {
    let world = World::new().await;
    let relay = world.relay();
    let other = world.count(2).await;
    let person = world.count(3).await;
    world.add(&other, 1).await;

    let erased = erase(&world.pool, &world.nats, &world.feed, "counter", &person, |_, mut payload| {
        payload["by"] = json!(0);
        payload
    })
    .await
    .unwrap();

    assert_eq!(erased, 3);
    let jetstream = jetstream::new(world.nats.clone());
    let messages = jetstream.get_stream(&world.feed.stream).await.unwrap();
    assert!(messages.get_raw_message(2).await.is_ok());
    for position in 3..=5 {
        assert!(messages.get_raw_message(position).await.is_err());
    }
    let blank = history(&world.pool, "counter", &person).await.unwrap();
    assert!(blank.iter().all(|event| event.payload == json!({"kind": "added", "by": 0})));
    assert_eq!(read_after(&world.pool, 0, 100).await.unwrap().len(), 6);
    let report = stream::check(&world.pool, &world.nats, &world.feed).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.equal, report.erased), (3, 3));
    // Erasing again finds nothing left to do.
    assert_eq!(
        erase(&world.pool, &world.nats, &world.feed, "counter", &person, |_, payload| payload).await.unwrap(),
        3
    );

    // A stream that is filled again has the blank events.
    relay.reaches("published", |status| status.published == 6).await;
    jetstream.delete_stream(&world.feed.stream).await.unwrap();
    world.settles_at(6).await;
    let refilled = jetstream.get_stream(&world.feed.stream).await.unwrap().get_raw_message(3).await.unwrap();
    assert_eq!(&refilled.payload[..], br#"{"by":0,"kind":"added"}"#);
}
