//! Erasing a person.

use crate::counter::{Counter, Event};
use crate::world::{World, eventually};
use async_nats::jetstream;
use serde_json::json;
use std::path::Path;
use tandem_eventlog::{erase, history, read_after, stream};

/// Blanks what happened before that version. Returns how many events are blank.
async fn forgotten(world: &World, person: &str, version: u64) -> u64 {
    let blank = |event| match event {
        Event::Added { .. } => Event::Added { by: 0 },
        Event::Taken { .. } => Event::Taken { by: 0 },
    };
    erase::<Counter>(&world.pool, &world.nats, &world.feed, person, version, &[], blank).await.unwrap()
}

/// Fails if rows are deleted (positions would be missing), or the messages stay.
#[tokio::test]
async fn erased_events_keep_their_places_and_say_nothing() {
    let world = World::new().await;
    let relay = world.relay();
    let other = world.count(2).await;
    let person = world.count(3).await;
    world.add(&other, 1).await;

    assert_eq!(forgotten(&world, &person, 4).await, 3);
    relay.reaches("published", |status| status.published == 6).await;
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
    assert_eq!(forgotten(&world, &person, 4).await, 3);

    // A stream that is filled again has the blank events.
    jetstream.delete_stream(&world.feed.stream).await.unwrap();
    world.settles_at(6).await;
    let refilled = jetstream.get_stream(&world.feed.stream).await.unwrap().get_raw_message(3).await.unwrap();
    assert_eq!(&refilled.payload[..], br#"{"by":0,"kind":"added"}"#);
}

/// Fails if only what was there before is blanked: a process of an older version may append after it.
#[tokio::test]
async fn what_is_appended_after_the_erasure_is_blanked_where_it_says_something() {
    let world = World::new().await;
    let _relay = world.relay();
    let person = world.count(1).await;
    for by in [1, 0, 7, -1] {
        world.add(&person, by).await;
    }
    world.settles_at(4).await;

    // The third event says that it is erased: of what is after it only what says something is blanked.
    sqlx::query("UPDATE events SET payload = payload || '{\"by\": 0}' WHERE sequence = 3")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(forgotten(&world, &person, 3).await, 3);

    let said = history(&world.pool, "counter", &person).await.unwrap();
    assert!(said.iter().all(|event| event.payload["by"] == 0), "{said:?}");
    let messages = jetstream::new(world.nats.clone()).get_stream(&world.feed.stream).await.unwrap();
    let mut kept = vec![];
    for position in 1..=4 {
        kept.push(messages.get_raw_message(position).await.is_ok());
    }
    assert_eq!(kept, [false, false, true, false]);
}

/// Fails for a purge, after which the text is still in the stream's file.
#[tokio::test]
async fn what_is_erased_is_in_no_file_of_the_stream() {
    const SAID: i64 = 982_451_653;
    let server = tandem_local::test::own_nats().await;
    let world = World::on(&tandem_local::test::database().await.url, &server.url()).await;
    let _relay = world.relay();
    // Among others: a file of which little is left is written anew anyhow.
    world.count(200).await;
    let person = world.count(1).await;
    world.add(&person, SAID).await;
    world.count(200).await;
    world.settles_at(402).await;
    let text = SAID.to_string();
    eventually("it is in a file", async || holds(server.store_dir(), &text)).await;

    forgotten(&world, &person, 3).await;

    eventually("it is in no file", async || !holds(server.store_dir(), &text)).await;
}

/// Whether a file below the folder holds the text.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
