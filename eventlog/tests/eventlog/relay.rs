//! The relay: nothing lost, nothing inverted, nothing twice, whatever dies.

use crate::counter::Command;
use crate::world::{World, connect, eventually, execute_in, pool};
use async_nats::jetstream;
use std::time::Duration;
use tandem_eventlog::{Context, ExecuteError, read_after, stream};
use tandem_local::test::Proxy;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Ends the session of the active relay, as a broken connection does.
async fn break_session(world: &World) {
    let ended: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
         WHERE locktype = 'advisory' AND datname = current_database() AND granted",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert_eq!(ended, [true]);
}

/// Fails for a reader of `seq > cursor` (late commits are passed over), and for one below `pg_snapshot_xmin` (events of
/// one aggregate invert).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_writers_with_holds_and_rollbacks_lose_and_invert_nothing() {
    const WRITERS: u64 = 32;
    const ROUNDS: u64 = 25;
    let world = World::new().await;
    let _relay = world.relay();
    let counters: Vec<String> = (0..8).map(|_| Uuid::new_v4().to_string()).collect();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (pool, store, counters) = (world.pool.clone(), world.store.clone(), counters.clone());
        writers.spawn(async move {
            let mut committed = 0;
            for round in 0..ROUNDS {
                // Fixed, but as irregular as dice.
                let dice = (writer * 7919 + round * 104_729).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                let id = &counters[(dice % 8) as usize];
                let events = 1 + (dice / 8 % 3) as u32;
                let mut transaction = pool.begin().await.unwrap();
                let loaded = store.load(id).await.unwrap();
                match execute_in(&store, &mut transaction, loaded, Command::Count(events), Context::from_origin("test"))
                    .await
                {
                    Ok(_) => {}
                    Err(ExecuteError::Conflict) => continue,
                    Err(error) => panic!("{error:?}"),
                }
                // Its ordinal is taken, and others commit meanwhile.
                tokio::time::sleep(Duration::from_micros(dice / 64 % 8000)).await;
                if dice / 1024 % 4 == 0 {
                    transaction.rollback().await.unwrap();
                } else {
                    transaction.commit().await.unwrap();
                    committed += u64::from(events);
                }
            }
            committed
        });
    }

    let committed: u64 = writers.join_all().await.into_iter().sum();

    world.settles_at(committed).await;
    let feed = read_after(&world.pool, 0, 100_000).await.unwrap();
    assert_eq!(feed.iter().map(|event| event.position).collect::<Vec<_>>(), (1..=committed).collect::<Vec<_>>());
    for id in &counters {
        let versions: Vec<u64> =
            feed.iter().filter(|event| event.aggregate_id == *id).map(|event| event.version).collect();
        assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>());
    }
}

/// Fails for a reader that goes by transactions: the older one may have written the later event.
#[tokio::test]
async fn an_event_follows_the_one_before_it_whichever_transaction_began_first() {
    let world = World::new().await;
    let id = Uuid::new_v4().to_string();
    let mut older = world.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *older).await.unwrap();
    world.add(&id, 1).await;
    let loaded = world.store.load(&id).await.unwrap();
    execute_in(&world.store, &mut older, loaded, Command::Add(2), Context::from_origin("test")).await.unwrap();
    older.commit().await.unwrap();

    let _relay = world.relay();

    world.settles_at(2).await;
    let versions: Vec<u64> = read_after(&world.pool, 0, 10).await.unwrap().iter().map(|event| event.version).collect();
    assert_eq!(versions, [1, 2]);
}

/// Fails for a relay that publishes before the commit of the numbers: another event gets the number that was sent.
#[tokio::test]
async fn a_position_whose_commit_failed_is_in_no_message() {
    let world = World::new().await;
    stream::prepare(&world.pool, &world.nats, &world.feed).await.unwrap();
    // The first to be written is the last to commit.
    let first = Uuid::new_v4().to_string();
    let loaded = world.store.load(&first).await.unwrap();
    let mut late = world.pool.begin().await.unwrap();
    execute_in(&world.store, &mut late, loaded, Command::Add(1), Context::from_origin("test")).await.unwrap();
    sqlx::raw_sql(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$;
         CREATE CONSTRAINT TRIGGER no_room AFTER UPDATE ON feed DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION no_room()",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    world.count(1).await;
    let relay = world.relay();
    relay.reaches("failed", |status| status.failing.is_some()).await;
    assert_eq!(world.stream_last().await, Some(0));

    late.commit().await.unwrap();
    sqlx::raw_sql("DROP TRIGGER no_room ON feed").execute(&world.pool).await.unwrap();

    world.settles_at(2).await;
    assert_eq!(read_after(&world.pool, 0, 1).await.unwrap()[0].aggregate_id, first);
}

/// Fails for a relay that publishes what it has just numbered, instead of what the stream lacks.
#[tokio::test]
async fn killed_between_number_and_publish_the_next_one_publishes() {
    let world = World::new().await;
    // Nobody listens there: it can number, but never publish.
    let relay = world.relay_by(connect("nats://127.0.0.1:1").await);
    world.count(5).await;
    relay.reaches("numbered all", |status| status.numbered == 5).await;
    relay.crash().await;
    assert_eq!(world.stream_last().await, None);

    let _next = world.relay();

    world.settles_at(5).await;
    world.count(2).await;
    world.settles_at(7).await;
}

/// Fails for a relay that keeps a cursor of its own and publishes without an expected sequence: messages come twice.
#[tokio::test]
async fn killed_between_publish_and_ack_nothing_is_published_twice() {
    let world = World::new().await;
    let proxy = Proxy::before(&world.nats_url).await;
    let relay = world.relay_by(connect(proxy.url()).await);
    world.count(1).await;
    relay.reaches("published the first", |status| status.published == 1).await;
    proxy.hold_answers();
    world.count(5).await;
    eventually("the stream has all", async || world.stream_last().await == Some(6)).await;
    assert_eq!(relay.status.borrow().published, 1);
    relay.crash().await;

    let _next = world.relay();

    world.count(2).await;
    world.settles_at(8).await;
}

/// Fails for a relay that publishes again what was not answered, without an expected sequence: it comes twice.
#[tokio::test]
async fn lost_answers_are_looked_up() {
    let world = World::new().await;
    let proxy = Proxy::before(&world.nats_url).await;
    let relay = world.relay_by(connect(proxy.url()).await);
    relay.reaches("became active", |status| status.active).await;
    world.count(1).await;
    relay.reaches("published the first", |status| status.published == 1).await;
    proxy.hold_answers();
    world.count(5).await;
    relay.reaches("noticed", |status| status.failing.is_some()).await;

    proxy.release();

    relay.reaches("found them published", |status| status.published == 6 && status.failing.is_none()).await;
    world.settles_at(6).await;
}

/// Fails without `Nats-Expected-Last-Sequence`: the zombie's messages are stored a second time.
#[tokio::test]
async fn what_a_zombie_sends_late_is_refused() {
    let world = World::new().await;
    let proxy = Proxy::before(&world.nats_url).await;
    let client = connect(proxy.url()).await;
    let zombie = world.relay_by(client.clone());
    world.count(1).await;
    zombie.reaches("published the first", |status| status.published == 1).await;
    proxy.hold_requests();
    let sent = client.statistics().out_messages.load(std::sync::atomic::Ordering::Relaxed);
    world.count(5).await;
    eventually("the zombie has sent its messages", async || {
        client.statistics().out_messages.load(std::sync::atomic::Ordering::Relaxed) >= sent + 5
    })
    .await;
    zombie.crash().await;
    let _live = world.relay();
    world.settles_at(6).await;

    proxy.release();
    // The server answers in order: whatever was sent before has arrived.
    client.flush().await.unwrap();

    world.settles_at(6).await;
}

/// Fails without the lock (both are active), or if a standby waits for more than the session's end.
#[tokio::test]
async fn a_standby_takes_over_when_the_session_of_the_active_one_breaks() {
    let world = World::new().await;
    let first = world.relay();
    first.reaches("became active", |status| status.active).await;
    let second = world.relay();
    world.count(3).await;
    first.reaches("published", |status| status.published == 3).await;
    assert!(!second.status.borrow().active);

    let ended = first.shutdown.clone();
    break_session(&world).await;
    ended.cancel();
    first.task.await.unwrap();

    second.reaches("took over", |status| status.active && status.published == 3).await;
    world.count(3).await;
    world.settles_at(6).await;
}

/// Fails if only a broken connection ends a session: of one whose host vanished nothing is heard, and the server would keep
/// its lock for hours; the relay would wait as long for an answer.
#[tokio::test]
async fn a_standby_takes_over_when_the_connection_of_the_active_one_freezes() {
    let database = tandem_local::test::database().await.url;
    let world = World::on(&database, &tandem_local::test::nats().await).await;
    let proxy = Proxy::before(&database).await;
    let frozen = world.relay_on(pool(proxy.url()).await, world.nats.clone());
    frozen.reaches("became active", |status| status.active).await;
    world.count(3).await;
    frozen.reaches("published", |status| status.published == 3).await;
    let standby = world.relay();

    proxy.freeze();
    world.count(3).await;

    standby.reaches("took over", |status| status.active && status.published == 6).await;
    frozen.reaches("noticed", |status| !status.active && status.failing.is_some()).await;
    world.count(2).await;
    proxy.thaw();
    frozen.reaches("stands by", |status| status.failing.is_none()).await;
    world.count(2).await;
    world.settles_at(10).await;
    assert!(standby.status.borrow().active && !frozen.status.borrow().active);
}

/// Fails for a relay that does not ask for the lock again, or goes on numbering without it.
#[tokio::test]
async fn a_relay_whose_session_breaks_comes_back() {
    let world = World::new().await;
    let relay = world.relay();
    for round in 1..=5 {
        world.count(2).await;
        relay.reaches("published", |status| status.published == round * 2).await;
        break_session(&world).await;
    }
    world.count(1).await;
    world.settles_at(11).await;
}

/// Fails for a relay with a second cursor: what it once published it never publishes again.
#[tokio::test]
async fn a_stream_deleted_while_running_is_made_and_filled_again() {
    let world = World::new().await;
    let relay = world.relay();
    world.count(5).await;
    relay.reaches("published", |status| status.published == 5).await;

    jetstream::new(world.nats.clone()).delete_stream(&world.feed.stream).await.unwrap();

    // Idle as it is, it notices by itself.
    world.settles_at(5).await;
    jetstream::new(world.nats.clone()).delete_stream(&world.feed.stream).await.unwrap();
    // And when it has something to publish.
    world.count(3).await;
    world.settles_at(8).await;
}

/// The bell only makes it faster: an event whose ring was lost is found by looking.
#[tokio::test]
async fn an_event_whose_ring_was_lost_is_relayed() {
    let world = World::new().await;
    let relay = world.relay();
    relay.reaches("became active", |status| status.active).await;
    let id = Uuid::new_v4().to_string();
    let loaded = world.store.load(&id).await.unwrap();
    let mut transaction = world.pool.begin().await.unwrap();
    execute_in(&world.store, &mut transaction, loaded, Command::Add(1), Context::from_origin("test")).await.unwrap();
    transaction.commit().await.unwrap();

    world.settles_at(1).await;
}

#[tokio::test]
async fn messages_carry_their_names() {
    let world = World::new().await;
    let _relay = world.relay();
    let id = world.count(1).await;
    world.settles_at(1).await;

    let stream = jetstream::new(world.nats.clone()).get_stream(&world.feed.stream).await.unwrap();
    let message = stream.get_raw_message(1).await.unwrap();

    let header = |name: &str| message.headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(*message.subject, *format!("{}.counter.{id}.added", world.feed.root));
    assert_eq!(header("ce-specversion").as_deref(), Some("1.0"));
    assert_eq!(header("ce-type").as_deref(), Some("tandem.counter.added"));
    assert_eq!(header("ce-subject"), Some(id));
    assert_eq!(header("Tandem-Position").as_deref(), Some("1"));
    assert_eq!(header("Tandem-Version").as_deref(), Some("1"));
    assert_eq!(header("Tandem-Origin").as_deref(), Some("test"));
    assert_eq!(header("Nats-Msg-Id"), None);
    assert_eq!(&message.payload[..], br#"{"by":1,"kind":"added"}"#);
}
