//! Three nats-servers with a copy of the stream each, one of which dies.

use crate::projector::{sum, sum_projector};
use crate::world::{World, connect, eventually};
use async_nats::jetstream;
use tandem_eventlog::stream::{self, StreamError};
use tandem_local::Nats;
use tandem_local::test::{Own, database, own_nats_cluster};
use tokio_util::sync::CancellationToken;

/// A world on a cluster, whose client knows all servers; with the stream made.
async fn world(servers: &[Own<Nats>; 3]) -> World {
    let urls = servers.each_ref().map(|server| server.url()).join(",");
    let mut world = World::on(&database().await.url, &urls).await;
    world.feed.replicas = 3;
    // Until the servers have found each other there is nobody to make it.
    eventually("the stream is made", async || stream::prepare(&world.pool, &world.nats, &world.feed).await.is_ok())
        .await;
    world
}

/// The server that leads the stream, by its number.
async fn leader(world: &World) -> Option<usize> {
    let stream = jetstream::new(world.nats.clone()).get_stream(&world.feed.stream).await.ok()?;
    let leader = stream.cached_info().cluster.as_ref()?.leader.clone()?;
    leader.strip_prefix('n')?.parse().ok()
}

/// Fails for a relay that takes what it sent for published, or that concludes from a copy that lags behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_killed_while_publishing_loses_and_doubles_nothing() {
    let mut servers = own_nats_cluster().await;
    let world = world(&servers).await;
    let relay = world.relay();
    let projector = sum_projector(&world).await;
    tokio::spawn(projector.run(CancellationToken::new()));
    let mut written = 0;
    for round in 0..2 {
        let mut led = None;
        eventually("somebody leads", async || leader(&world).await.is_some()).await;
        while led.is_none() {
            led = leader(&world).await;
        }
        world.count(300).await;
        written += 300;
        relay.reaches("published some of them", |status| status.published > written - 300).await;
        servers[led.unwrap()].kill();
        // While there is no leader, commands are taken, and events numbered.
        world.count(50).await;
        written += 50;
        relay.reaches("published by the new leader", |status| status.published == written).await;
        tokio::task::block_in_place(|| servers[led.unwrap()].restart().unwrap());
        // A server that has just come back may not answer the first time.
        eventually(&format!("all is in the stream, round {round}"), async || {
            world.stream_last().await == Some(written)
        })
        .await;
    }
    eventually("stream and database are equal", async || {
        let report = stream::check(&world.pool, &world.nats, &world.feed).await;
        report.is_ok_and(|report| report.is_sound() && (report.equal, report.stream_last) == (written, written))
    })
    .await;
    let all = i64::try_from(written).unwrap();
    eventually("all is projected once", async || sum(&world).await == (all, all)).await;
}

/// Fails if a stream of fewer copies than asked for is taken as it is: an operator would believe in copies that are not.
#[tokio::test]
async fn a_stream_of_fewer_copies_than_asked_for_is_refused() {
    let mut world = World::new().await;
    stream::prepare(&world.pool, &world.nats, &world.feed).await.unwrap();
    world.feed.replicas = 3;

    let refused = stream::prepare(&world.pool, &world.nats, &world.feed).await.unwrap_err();

    let StreamError::Settings { differences, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(differences, &["num_replicas is 1, has to be 3 at least"]);
}

#[tokio::test]
async fn one_server_cannot_keep_three_copies_and_says_so() {
    let mut world = World::new().await;
    world.feed.replicas = 3;

    let refused = stream::prepare(&world.pool, &connect(&world.nats_url).await, &world.feed).await.unwrap_err();

    assert!(matches!(refused, StreamError::NoCluster { replicas: 3 }), "{refused:?}");
    assert!(!refused.is_transient());
}
