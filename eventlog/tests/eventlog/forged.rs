//! Messages that somebody else published into the stream: no reader takes them.

use crate::projector::{consumers, sum, sum_projector};
use crate::world::{World, eventually};
use async_nats::HeaderMap;
use async_nats::jetstream::{self, message::StreamMessage};
use futures::StreamExt;
use std::time::Duration;
use tandem_eventlog::stream::Unsure;
use tandem_eventlog::{MacKey, Unproved, checkpoint, follow, stream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const MAC: &str = "Tandem-Mac";

impl World {
    async fn message(&self, position: u64) -> StreamMessage {
        let stream = jetstream::new(self.nats.clone()).get_stream(&self.feed.stream).await.unwrap();
        stream.get_raw_message(position).await.unwrap()
    }

    /// What somebody makes of a message that they have read: another event, at another position.
    async fn forged(&self, from: u64, position: u64) -> (StreamMessage, HeaderMap) {
        let message = self.message(from).await;
        let mut headers = without(&message.headers, "Nats-");
        headers.insert("Tandem-Position", position.to_string());
        headers.insert("ce-id", Uuid::new_v4().to_string());
        (message, headers)
    }

    /// Published by somebody who may publish: says what the server answers.
    async fn publish(&self, subject: &str, headers: HeaderMap, data: &'static str) -> String {
        let answer = self.nats.request_with_headers(subject.to_owned(), headers, data.into()).await.unwrap();
        String::from_utf8_lossy(&answer.payload).into_owned()
    }
}

/// All but those whose names begin so.
fn without(headers: &HeaderMap, begin: &str) -> HeaderMap {
    let others = headers.iter().filter(|(name, _)| !name.to_string().starts_with(begin));
    others.fold(HeaderMap::new(), |mut kept, (name, values)| {
        kept.insert(name.clone(), values[0].clone());
        kept
    })
}

/// Fails for a reader that takes a message for what it says it is: the sum would hold what no event says, and the event that
/// gets that position would be passed over.
#[tokio::test]
async fn a_forged_message_is_never_applied() {
    let world = World::new().await;
    let relay = world.relay();
    let projector = sum_projector(&world).await;
    let status = projector.status();
    tokio::spawn(projector.run(CancellationToken::new()));
    world.count(3).await;
    world.settles_at(3).await;
    eventually("all is applied", async || sum(&world).await == (3, 3)).await;
    // One that begins to read it now would not take it for ours at all.
    eventually("it reads the stream", async || consumers(&world).await >= 1).await;
    let data = r#"{"kind":"added","by":1000}"#;
    let (message, headers) = world.forged(3, 4).await;
    let told = world.publish(&message.subject, headers, data).await;
    assert!(told.contains("\"seq\":4"), "{told}");
    let (_, headers) = world.forged(3, 5).await;
    let told = world.publish(&message.subject, without(&headers, MAC), data).await;
    assert!(told.contains("\"seq\":5"), "{told}");

    eventually("it is refused", async || status.borrow().refused > 0).await;
    let id = world.count(2).await;

    let foreign = |stopped: &String| stopped.starts_with("message ");
    relay.reaches("stopped", |status| status.stopped.as_ref().is_some_and(foreign)).await;
    eventually("what the database says is applied", async || sum(&world).await.1 >= 5).await;
    assert_eq!(sum(&world).await, (5, 5), "and nothing else");
    let report = stream::check(&world.pool, &world.nats, &world.feed).await.unwrap();
    assert_eq!((report.is_sound(), report.unproved.first), (false, vec![4, 5]));
    let before = MacKey::read(&world.pool).await.unwrap();
    let genuine = world.message(3).await;
    assert_eq!(before.check(&genuine), Ok(()));
    assert_eq!(before.check(&world.message(4).await), Err(Unproved::Wrong));
    assert_eq!(before.check(&world.message(5).await), Err(Unproved::Missing));
    let rebuilt = stream::rebuild(&world.pool, &world.nats, &world.feed).await.unwrap();
    assert_eq!(rebuilt.unsure, [], "nothing was applied");
    let after = MacKey::read(&world.pool).await.unwrap();
    assert_eq!(after.check(&genuine), Err(Unproved::Wrong), "the key is another");
    relay.reaches("went on", |status| status.stopped.is_none() && status.published == 5).await;
    world.add(&id, 1).await;
    world.settles_at(6).await;
    eventually("it goes on", async || sum(&world).await == (6, 6)).await;
}

/// Fails for a follower that takes what was only sent, and not even stored.
#[tokio::test]
async fn a_forged_message_is_not_shown_to_those_who_follow() {
    let world = World::new().await;
    let _relay = world.relay();
    world.count(3).await;
    world.settles_at(3).await;
    let mut followed = std::pin::pin!(follow(world.pool.clone(), world.nats.clone(), world.feed.clone(), 2));
    assert_eq!(followed.next().await.unwrap().unwrap().position, 3);
    let (message, headers) = world.forged(3, 4).await;
    // The server refuses to store it, and hands it to who has subscribed; whether it has by now, nobody tells.
    let mut refused = headers.clone();
    refused.insert("Nats-Expected-Last-Sequence", "100");
    let forged = headers.get("ce-id").unwrap().to_string();
    for _ in 0..10 {
        let told = world.publish(&message.subject, refused.clone(), r#"{"kind":"added","by":1000}"#).await;
        assert!(told.contains("wrong last sequence"), "{told}");
        let shown = tokio::time::timeout(Duration::from_millis(100), followed.next()).await;
        assert!(shown.is_err(), "{shown:?}");
    }

    world.count(2).await;

    for position in [4, 5] {
        let event = followed.next().await.unwrap().unwrap();
        assert_eq!(event.position, position);
        assert_ne!(event.event_id.to_string(), forged);
        assert_eq!(event.payload["by"], 1);
    }
}

/// Fails if checkpoints stay: the event that gets the position of what was applied would be passed over.
#[tokio::test]
async fn what_was_applied_beyond_the_database_is_told_and_its_position_is_read_again() {
    let world = World::new().await;
    let relay = world.relay();
    tokio::spawn(sum_projector(&world).await.run(CancellationToken::new()));
    world.count(3).await;
    world.settles_at(3).await;
    eventually("all is applied", async || sum(&world).await == (3, 3)).await;
    // As a version of before MACs left it, which took a forged message.
    let applied = "UPDATE checkpoints SET position = 4, proved = false; UPDATE sums SET value = 1003, events = 4";
    sqlx::raw_sql(applied).execute(&world.pool).await.unwrap();

    let rebuilt = stream::rebuild(&world.pool, &world.nats, &world.feed).await.unwrap();

    assert_eq!(rebuilt.unsure, [Unsure { projection: "sum".to_owned(), was_beyond: true }]);
    assert_eq!(checkpoint::position(&world.pool, "sum", 1).await.unwrap(), Some(3));
    world.count(2).await;
    relay.reaches("published", |status| status.published == 5).await;
    eventually("both genuine events are applied", async || sum(&world).await == (1005, 6)).await;
    // Until it is built anew, nobody knows.
    let again = stream::rebuild(&world.pool, &world.nats, &world.feed).await.unwrap();
    assert_eq!(again.unsure, [Unsure { projection: "sum".to_owned(), was_beyond: false }]);
}

/// Fails for a relay that takes what an older version published for a stranger's, and for a reader that trusts it.
#[tokio::test]
async fn after_an_upgrade_the_relay_goes_on_and_readers_go_by_the_database() {
    let world = World::new().await;
    let relay = world.relay();
    world.count(4).await;
    world.settles_at(4).await;
    relay.shutdown.cancel();
    relay.task.await.unwrap();
    // The same messages, as a version of before MACs published them; one of them was forged even then.
    let context = jetstream::new(world.nats.clone());
    let config = context.get_stream(&world.feed.stream).await.unwrap().cached_info().config.clone();
    let mut messages = vec![];
    for position in 1..=4 {
        messages.push(world.message(position).await);
    }
    context.delete_stream(&world.feed.stream).await.unwrap();
    context.create_stream(config).await.unwrap();
    for message in messages {
        let data = if message.sequence == 2 { r#"{"kind":"added","by":1000}"# } else { r#"{"by":1,"kind":"added"}"# };
        world.publish(&message.subject, without(&without(&message.headers, MAC), "Nats-"), data).await;
    }

    let relay = world.relay();
    world.count(2).await;
    relay.reaches("went on", |status| status.published == 6).await;
    let projector = sum_projector(&world).await;
    let status = projector.status();
    tokio::spawn(projector.run(CancellationToken::new()));

    eventually("all is applied", async || sum(&world).await == (6, 6)).await;
    assert_eq!(status.borrow().refused, 0, "nobody is alarmed by what was usual");
    let unsigned: i64 = sqlx::query_scalar("SELECT unsigned_until FROM feed").fetch_one(&world.pool).await.unwrap();
    assert_eq!(unsigned, 4);
    let report = stream::check(&world.pool, &world.nats, &world.feed).await.unwrap();
    assert_eq!((report.unproved.first, report.different.first), (vec![1, 2, 3, 4], vec![2]));
    stream::rebuild(&world.pool, &world.nats, &world.feed).await.unwrap();
    world.settles_at(6).await;
}
