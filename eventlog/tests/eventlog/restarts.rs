//! Servers that die and come back.

use crate::counter::Command;
use crate::projector::{sum, sum_projector};
use crate::world::{World, connections, eventually, execute_in, pool};
use std::collections::HashSet;
use std::path::Path;
use std::process::Command as Run;
use std::sync::{Arc, Mutex};
use tandem_eventlog::{Context, ExecuteError, history};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Fails for a relay with a second cursor, which never looks back: the stream would have a hole, or refuse for ever.
#[tokio::test]
async fn a_stream_that_lost_its_tail_is_filled_again() {
    let mut server = tandem_local::test::own_nats().await;
    let world = World::on(&tandem_local::test::database().await.url, &server.url()).await;
    let relay = world.relay();
    world.count(4).await;
    relay.reaches("published", |status| status.published == 4).await;
    server.stop();
    let store = server.store_dir().to_owned();
    let kept = store.with_extension("kept");
    copy(&store, &kept);
    server.restart().unwrap();
    world.count(4).await;
    world.settles_at(8).await;

    // As after a power cut: what was not yet on disk is gone.
    server.kill();
    std::fs::remove_dir_all(&store).unwrap();
    copy(&kept, &store);
    server.restart().unwrap();

    world.settles_at(8).await;
    world.count(2).await;
    world.settles_at(10).await;
}

/// Fails for a relay that ends when the server goes.
#[tokio::test]
async fn nats_server_killed_again_and_again_loses_nothing() {
    let mut server = tandem_local::test::own_nats().await;
    let world = World::on(&tandem_local::test::database().await.url, &server.url()).await;
    let relay = world.relay();
    for round in 1..=3_u64 {
        world.count(20).await;
        // Sometimes before they are published, sometimes after.
        if round == 2 {
            relay.reaches("published", |status| status.published == 60).await;
        }
        server.kill();
        world.count(20).await;
        // Sometimes it is back before anybody has noticed.
        if round == 1 {
            relay.reaches("noticed", |status| status.failing.is_some()).await;
        }
        server.restart().unwrap();
    }
    world.settles_at(120).await;
}

/// Fails for a relay or a projector that ends with its session, and for one that applies a batch again whose commit was
/// not answered.
#[tokio::test]
async fn postgresql_killed_while_writing_loses_nothing_that_was_answered() {
    let mut server = tandem_local::test::own_postgres().await;
    let world = World::on(&server.url("postgres"), &tandem_local::test::nats().await).await;
    let relay = world.relay();
    let projector = sum_projector(&world).await;
    tokio::spawn(projector.run(CancellationToken::new()));
    let id = Uuid::new_v4().to_string();
    let writer = tokio::spawn({
        let (store, id) = (world.store.clone(), id.clone());
        async move {
            let mut done = 0;
            // A client that repeats what was not answered, with the same key.
            while done < 60 {
                let context = Context::from_origin("test").key(format!("key {done}"), b"add");
                match store.execute(&id, Command::Add(1), context).await {
                    Ok(_) => done += 1,
                    Err(ExecuteError::Unavailable(_)) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
    });
    for published in [10, 30] {
        relay.reaches("published some", |status| status.published >= published).await;
        server.kill();
        server.restart().unwrap();
    }
    writer.await.unwrap();

    world.settles_at(60).await;
    assert_eq!(world.store.load(&id).await.unwrap().aggregate.value, 60);
    eventually("all is projected once", async || sum(&world).await == (60, 60)).await;
    eventually("the relay is well", async || relay.status.borrow().failing.is_none()).await;
}

/// Fails for an append that only asks whether its own place is free: what a crash took is remembered, and a hole would stay.
#[tokio::test]
async fn what_a_crash_of_postgresql_took_is_not_built_upon() {
    let mut server = tandem_local::test::own_forgetful_postgres().await;
    let world = World::on(&server.url("postgres"), &tandem_local::test::nats().await).await;
    let id = world.count(1).await;
    let mut transaction = connections(&world.pool).relaxed().pool().begin().await.unwrap();
    let loaded = world.store.load(&id).await.unwrap();
    let context = Context::from_origin("test");
    let executed = execute_in(&world.store, &mut transaction, loaded, Command::Add(5), context).await.unwrap();
    transaction.commit().await.unwrap();
    world.store.committed(&executed, "test");

    server.kill();
    server.restart().unwrap();
    let add = || world.store.execute(&id, Command::Add(10), Context::from_origin("test").key("k", b"add"));
    eventually("it is added", async || add().await.is_ok()).await;

    // The pool of before the crash may have connections that are broken.
    let anew = pool(&server.url("postgres")).await;
    let versions: Vec<u64> = history(&anew, "counter", &id).await.unwrap().iter().map(|event| event.version).collect();
    assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>(), "no hole");
    eventually("it is loaded", async || {
        world.store.load(&id).await.is_ok_and(|loaded| {
            assert_eq!(loaded.version, versions.len() as u64);
            true
        })
    })
    .await;
}

/// Fails for a store that answers as soon as others see what it appended; and for one that takes a commit in another session for
/// a sign that the first one's are on disk: that session may be of after the crash.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_outlives_a_crash_of_postgresql() {
    let mut server = tandem_local::test::own_forgetful_postgres().await;
    let world = World::on(&server.url("postgres"), &tandem_local::test::nats().await).await;
    let (answered, enough) = (Arc::new(Mutex::new(vec![])), CancellationToken::new());
    let writers = (0..32).map(|_| {
        let (store, answered, enough) = (world.store.clone(), Arc::clone(&answered), enough.clone());
        tokio::spawn(async move {
            while !enough.is_cancelled() {
                let id = Uuid::new_v4().to_string();
                match store.execute(&id, Command::Add(1), Context::from_origin("test")).await {
                    Ok(_) => answered.lock().unwrap().push(id),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for so_many in [300, 600, 900] {
        eventually("some are answered", async || answered.lock().unwrap().len() >= so_many).await;
        server.kill();
        server.restart().unwrap();
    }
    enough.cancel();
    for writer in writers {
        writer.await.unwrap();
    }

    // The pool of before the crash has connections that are broken.
    let anew = pool(&server.url("postgres")).await;
    let there: Vec<String> = sqlx::query_scalar("SELECT aggregate_id FROM events").fetch_all(&anew).await.unwrap();
    let there: HashSet<String> = there.into_iter().collect();
    let answered = answered.lock().unwrap();
    let lost = answered.iter().filter(|id| !there.contains(*id)).count();
    assert_eq!(lost, 0, "of {}", answered.len());
}

/// Fails for a store that answers a repeat by what it finds, while nobody knows whether that is on disk.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_repeat_was_answered_outlives_a_crash_of_postgresql() {
    let mut server = tandem_local::test::own_forgetful_postgres().await;
    let world = World::on(&server.url("postgres"), &tandem_local::test::nats().await).await;
    let id = Uuid::new_v4().to_string();
    let context = || Context::from_origin("test").key("key", b"add");
    let mut transaction = connections(&world.pool).relaxed().pool().begin().await.unwrap();
    let unborn = world.store.load(&id).await.unwrap();
    execute_in(&world.store, &mut transaction, unborn, Command::Add(1), context()).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(world.store.execute(&id, Command::Add(1), context()).await.unwrap().replayed);

    server.kill();
    server.restart().unwrap();
    eventually("it is there", async || {
        world.store.load(&id).await.is_ok_and(|loaded| {
            assert_eq!(loaded.version, 1, "it was taken");
            true
        })
    })
    .await;
}

fn copy(from: &Path, to: &Path) {
    assert!(Run::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}
