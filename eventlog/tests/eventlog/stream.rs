//! Streams that are not what they should be.

use crate::counter::{Counter, Event};
use crate::world::{World, connect, eventually};
use async_nats::jetstream::{self, stream::Config};
use tandem_eventlog::stream::{StreamError, check, prepare, rebuild};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// Fails without the check: a server of 2.9 takes everything and ignores in silence what it does not know.
#[tokio::test]
async fn a_nats_server_that_is_too_old_is_refused() {
    let world = World::new().await;
    let url = server_that_says("\"version\":\"2.9.10\",\"max_payload\":1048576").await;

    let refused = prepare(&world.pool, &connect(&url).await, &world.feed).await.unwrap_err();

    assert_eq!(refused.to_string(), "nats-server 2.9.10 is too old: 2.14 or newer is needed");
    assert!(!refused.is_transient());
}

/// Fails without the check: the first large event stops the relay, and everything behind it waits.
#[tokio::test]
async fn a_nats_server_that_takes_only_small_messages_is_refused() {
    let world = World::new().await;
    let url = server_that_says("\"version\":\"2.15.1\",\"max_payload\":65536").await;

    let refused = prepare(&world.pool, &connect(&url).await, &world.feed).await.unwrap_err();

    let told = "nats-server takes messages of 65536 bytes at most: its max_payload has to be 1048576 at least";
    assert_eq!(refused.to_string(), told);
    assert!(!refused.is_transient());
}

/// All that a client sees of a server before it asks for anything.
async fn server_that_says(info: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let hello = format!("INFO {{\"server_id\":\"S\",\"headers\":true,\"proto\":1,\"jetstream\":true,{info}}}\r\n");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (read, mut write) = socket.into_split();
            write.write_all(hello.as_bytes()).await.unwrap();
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if line == "PING" {
                    write.write_all(b"PONG\r\n").await.unwrap();
                }
            }
        }
    });
    url
}

#[tokio::test]
async fn a_foreign_stream_of_that_name_is_refused_with_what_differs() {
    let world = World::new().await;
    let foreign = Config {
        name: world.feed.stream.clone(),
        subjects: vec![format!("{}.orders.*", world.feed.root)],
        max_messages: 100,
        max_consumers: 5,
        allow_direct: true,
        ..Config::default()
    };
    jetstream::new(world.nats.clone()).create_stream(foreign).await.unwrap();

    let refused = prepare(&world.pool, &world.nats, &world.feed).await.unwrap_err();

    let StreamError::Settings { differences, .. } = &refused else { panic!("{refused:?}") };
    assert!(differences[0].starts_with("subjects is"), "{differences:?}");
    for difference in ["max_messages is 100, has to be -1", "max_consumers is 5, has to be -1"] {
        assert!(differences.contains(&difference.to_owned()), "{differences:?}");
    }
    // The relay says the same, publishes nothing, and goes on once it is mended.
    let relay = world.relay();
    relay.reaches("stopped", |status| status.stopped.is_some()).await;
    world.count(3).await;
    jetstream::new(world.nats.clone()).delete_stream(&world.feed.stream).await.unwrap();
    relay.reaches("went on", |status| status.stopped.is_none() && status.published == 3).await;
    world.settles_at(3).await;
}

#[tokio::test]
async fn a_stream_that_takes_our_subjects_is_named() {
    let world = World::new().await;
    let other = Config {
        name: format!("{}_OTHER", world.feed.stream),
        subjects: vec![world.feed.subjects()],
        ..Config::default()
    };
    jetstream::new(world.nats.clone()).create_stream(other).await.unwrap();

    let refused = prepare(&world.pool, &world.nats, &world.feed).await.unwrap_err();

    assert!(matches!(refused, StreamError::Overlap { .. }), "{refused:?}");
}

#[tokio::test]
async fn preparing_twice_is_preparing_once() {
    let world = World::new().await;
    prepare(&world.pool, &world.nats, &world.feed).await.unwrap();
    prepare(&world.pool, &world.nats, &world.feed).await.unwrap();
    assert_eq!(world.stream_last().await, Some(0));
}

/// Fails for a relay that takes a refusal for "already published": it would leave somebody else's message in our place.
#[tokio::test]
async fn a_foreign_message_stops_the_relay_until_the_stream_is_rebuilt() {
    let world = World::new().await;
    let relay = world.relay();
    world.count(3).await;
    relay.reaches("published", |status| status.published == 3).await;
    let publish = world.nats.request(format!("{}.counter.x.added", world.feed.root), "{}".into());
    assert!(String::from_utf8_lossy(&publish.await.unwrap().payload).contains("\"seq\":4"));
    world.count(3).await;

    let stopped = relay.reaches("stopped", |status| status.stopped.is_some()).await.stopped.unwrap();

    assert!(stopped.starts_with("message 4 of the stream"), "{stopped}");
    let report = check(&world.pool, &world.nats, &world.feed).await.unwrap();
    assert_eq!((report.is_sound(), report.different.first), (false, vec![4]));
    let before = tandem_eventlog::epoch(&world.pool).await.unwrap();
    let after = rebuild(&world.pool, &world.nats, &world.feed).await.unwrap().epoch;
    assert_ne!(before, after);
    relay.reaches("went on", |status| status.stopped.is_none() && status.published == 6).await;
    world.settles_at(6).await;
}

/// Fails for a relay that goes on from the stream's last sequence: what the restored database writes from here on would
/// be missing from the stream, behind messages of a history that never was.
#[tokio::test]
async fn a_restored_backup_stops_the_relay_until_the_stream_is_rebuilt() {
    let world = World::new().await;
    let relay = world.relay();
    world.count(5).await;
    relay.reaches("published", |status| status.published == 5).await;
    relay.shutdown.cancel();
    relay.task.await.unwrap();
    // As a backup taken after the third event would have it.
    sqlx::raw_sql("DELETE FROM events WHERE position > 3; UPDATE feed SET last_position = 3")
        .execute(&world.pool)
        .await
        .unwrap();

    let ahead = prepare(&world.pool, &world.nats, &world.feed).await.unwrap_err();
    assert!(matches!(ahead, StreamError::Ahead { stream_last: 5, database_last: 3, .. }), "{ahead:?}");
    let relay = world.relay();
    relay.reaches("stopped", |status| status.stopped.is_some()).await;
    // New events are numbered over the old ones: as many as the stream has, so that numbers alone do not tell.
    world.count(2).await;
    relay.reaches("numbered", |status| status.numbered == 5).await;
    let foreign = prepare(&world.pool, &world.nats, &world.feed).await.unwrap_err();
    assert!(matches!(foreign, StreamError::Foreign { position: 5, .. }), "{foreign:?}");

    rebuild(&world.pool, &world.nats, &world.feed).await.unwrap();

    relay.reaches("went on", |status| status.stopped.is_none() && status.published == 5).await;
    world.settles_at(5).await;
}

/// Fails for a relay that knows of the stream's last message alone: what somebody deletes in its middle nobody would notice.
#[tokio::test]
async fn a_deleted_message_is_noticed_and_an_erased_one_is_not() {
    let world = World::new().await;
    let relay = world.relay();
    let person = world.count(3).await;
    world.count(3).await;
    world.settles_at(6).await;
    let blank = |_| Event::Added { by: 0 };
    let erased = tandem_eventlog::erase::<Counter>(&world.pool, &world.nats, &world.feed, &person, 4, &[], blank).await;
    assert_eq!(erased.unwrap(), 3);
    let look = || tandem_eventlog::stream::look(&world.pool, &world.nats, &world.feed);
    assert_eq!(look().await.unwrap().missing, 0);
    let stream = jetstream::new(world.nats.clone()).get_stream(&world.feed.stream).await.unwrap();

    stream.delete_message(5).await.unwrap();

    let status = relay.reaches("noticed", |status| status.missing == 1).await;
    assert_eq!(status.stopped, None, "readers have it from the database");
    assert_eq!(look().await.unwrap().missing, 1);
    // As a version left it that counted nothing, or one that died before it had counted.
    sqlx::raw_sql("UPDATE stream_deletions SET count = 0").execute(&world.pool).await.unwrap();
    stream.delete_message(4).await.unwrap();
    relay.reaches("noticed the other, and not the erased", |status| status.missing == 2).await;
    rebuild(&world.pool, &world.nats, &world.feed).await.unwrap();
    relay.reaches("has it all", |status| status.missing == 0 && status.published == 6).await;
    world.settles_at(6).await;
    // The new stream has the erased ones, blank: what is gone from it is counted from nothing.
    let stream = jetstream::new(world.nats.clone()).get_stream(&world.feed.stream).await.unwrap();
    stream.delete_message(4).await.unwrap();
    relay.reaches("noticed that", |status| status.missing == 1).await;
}

/// Fails for a relay that publishes into the new stream what it read for the old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_rebuilt_while_the_relay_publishes_is_whole() {
    let world = World::new().await;
    let relay = world.relay();
    let mut written = 0;
    for _ in 0..3 {
        // More than one window of the relay's.
        world.count(1500).await;
        written += 1500;
        relay.reaches("publishes", |status| status.published > written - 1500).await;

        rebuild(&world.pool, &world.nats, &world.feed).await.unwrap();
    }
    relay.reaches("filled the last one", |status| status.stopped.is_none() && status.published == written).await;
    world.settles_at(written).await;
}

/// Fails for a relay that knows the epoch from when it last looked at the stream: an empty one takes its messages.
#[tokio::test]
async fn a_stream_rebuilt_while_it_is_empty_gets_no_message_of_the_epoch_before() {
    let world = World::new().await;
    let relay = world.relay();
    relay.reaches("became active", |status| status.active).await;
    eventually("the stream is there", async || world.stream_last().await == Some(0)).await;
    // It has looked once more, and waits for events now.
    world.nats.flush().await.unwrap();

    rebuild(&world.pool, &world.nats, &world.feed).await.unwrap();
    world.count(3).await;

    relay.reaches("published", |status| status.published == 3).await;
    world.settles_at(3).await;
    assert_eq!(relay.status.borrow().stopped, None);
}

/// Fails if the epoch is compared by messages alone: an empty stream of another database would be taken.
#[tokio::test]
async fn a_stream_of_another_database_is_refused() {
    let world = World::new().await;
    let other = World::on(&tandem_local::test::empty_database().await.url, &world.nats_url).await;
    prepare(&other.pool, &other.nats, &other.feed).await.unwrap();

    let refused = prepare(&world.pool, &world.nats, &other.feed).await.unwrap_err();

    assert!(matches!(refused, StreamError::Foreign { position: 0, .. }), "{refused:?}");
}

#[tokio::test]
async fn without_nats_preparing_fails_soon_and_says_so() {
    let world = World::new().await;
    let refused = prepare(&world.pool, &connect("nats://127.0.0.1:1").await, &world.feed).await.unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
    eventually("the shared server is untouched", async || world.stream_last().await.is_none()).await;
}
