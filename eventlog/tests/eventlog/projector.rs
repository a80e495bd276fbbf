//! Projectors: each event takes effect once, in order, whoever dies and however many there are.

use crate::counter::{Command, Counter, Event};
use crate::world::{World, connections, eventually, patience};
use async_nats::jetstream;
use async_trait::async_trait;
use futures::StreamExt;
use sqlx::PgTransaction;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tandem_eventlog::{
    Context, Projection, ProjectionError, Projector, ProjectorError, ProjectorStatus, Recorded, checkpoint, follow,
    stream,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// The sum of all counters. An addition of 666 is more than it can bear; at `hangs` it stays in its transaction.
struct Sum {
    hangs: Option<(u64, Arc<Notify>)>,
    table: &'static str,
}

impl Sum {
    fn new() -> Self {
        Self { hangs: None, table: "sums" }
    }
}

#[async_trait]
impl Projection for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    async fn apply(&self, transaction: &mut PgTransaction<'_>, batch: &[Recorded]) -> Result<(), ProjectionError> {
        for recorded in batch {
            let by = match recorded.event::<Counter>(&[])? {
                Event::Added { by: 666 } => return Err(ProjectionError::CannotApply("666 is too much".into())),
                Event::Added { by } => by,
                Event::Taken { by } => -by,
            };
            sqlx::query(&format!("UPDATE {} SET value = value + $1, events = events + 1", self.table))
                .bind(by)
                .execute(&mut **transaction)
                .await?;
            if let Some((position, reached)) = &self.hangs
                && recorded.position == *position
            {
                reached.notify_one();
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    }
}

/// The same sum, by one statement that writes it whole, as it is remembered. An addition of 13 is more than that statement can
/// bear.
#[derive(Default)]
struct Remembered {
    sum: Mutex<Option<(i64, i64)>>,
    written: Mutex<Option<(i64, i64)>>,
    statements: AtomicUsize,
}

#[async_trait]
impl Projection for Remembered {
    fn name(&self) -> &str {
        "sum"
    }

    async fn apply(&self, transaction: &mut PgTransaction<'_>, batch: &[Recorded]) -> Result<(), ProjectionError> {
        Sum::new().apply(transaction, batch).await?;
        let sum = sqlx::query_as("SELECT value, events FROM sums").fetch_one(&mut **transaction).await?;
        *self.written.lock().unwrap() = Some(sum);
        Ok(())
    }

    fn write(&self, batch: &[Recorded]) -> Option<Query<'static, Postgres, PgArguments>> {
        let (mut value, mut events) = (*self.sum.lock().unwrap())?;
        let mut divisor = 1_i64;
        for recorded in batch {
            match recorded.event::<Counter>(&[]).ok()? {
                Event::Added { by: 666 } => return None,
                Event::Added { by } => {
                    value += by;
                    divisor *= i64::from(by != 13);
                }
                Event::Taken { by } => value -= by,
            }
            events += 1;
        }
        *self.written.lock().unwrap() = Some((value, events));
        self.statements.fetch_add(1, Ordering::SeqCst);
        let write = "UPDATE sums SET value = $1, events = $2 / $3 FROM moved";
        Some(sqlx::query(write).bind(value).bind(events).bind(divisor))
    }

    async fn applied(&self, _batch: &[Recorded]) {
        *self.sum.lock().unwrap() = self.written.lock().unwrap().take();
    }

    fn forget(&self) {
        *self.sum.lock().unwrap() = None;
    }
}

/// A projector of its table.
pub async fn sum_projector(world: &World) -> Projector {
    tables(world, "sums").await;
    projector(world, Sum::new())
}

/// The sum, and the number of events in it.
pub async fn sum(world: &World) -> (i64, i64) {
    sum_of(world, "sums").await
}

async fn tables(world: &World, table: &str) {
    sqlx::query(&format!("CREATE TABLE {table} AS SELECT 0::bigint AS value, 0::bigint AS events"))
        .execute(&world.pool)
        .await
        .unwrap();
}

async fn sum_of(world: &World, table: &str) -> (i64, i64) {
    sqlx::query_as(&format!("SELECT value, events FROM {table}")).fetch_one(&world.pool).await.unwrap()
}

/// Puts back a backup of when there were two events, and that sum of them.
async fn restore_two(world: &World, sum: i64) {
    let restore = format!(
        "DELETE FROM events WHERE position > 2; UPDATE feed SET last_position = 2;
         UPDATE checkpoints SET position = 2; UPDATE sums SET value = {sum}, events = 2"
    );
    sqlx::raw_sql(&restore).execute(&world.pool).await.unwrap();
}

/// How many consumers the stream has, those that were left a moment ago among them.
pub async fn consumers(world: &World) -> usize {
    let stream = jetstream::new(world.nats.clone()).get_stream(&world.feed.stream).await;
    stream.map_or(0, |stream| stream.cached_info().state.consumer_count)
}

fn projector(world: &World, sum: impl Projection + 'static) -> Projector {
    projector_of(world, Arc::new(sum))
}

fn projector_of(world: &World, sum: Arc<dyn Projection>) -> Projector {
    Projector::new(&connections(&world.pool), world.nats.clone(), world.feed.clone(), sum)
}

#[tokio::test]
async fn every_event_takes_effect_once() {
    let world = World::new().await;
    let _relay = world.relay();
    let id = world.count(700).await;
    let projector = sum_projector(&world).await;
    let mut status = projector.status();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(projector.run(shutdown.clone()));

    world.add(&id, -7).await;

    let arrived = tokio::time::timeout(patience(), status.wait_for(|status| status.position == 701)).await;
    assert_eq!(arrived.unwrap().unwrap().lag(), 0);
    assert_eq!(sum(&world).await, (693, 701));
    shutdown.cancel();
    task.await.unwrap().unwrap();
}

/// Fails if the checkpoint is moved in another transaction than the effects: before it, they are lost; after it, they
/// happen twice.
#[tokio::test]
async fn killed_inside_its_transaction_nothing_is_lost_or_done_twice() {
    let world = World::new().await;
    tables(&world, "sums").await;
    let _relay = world.relay();
    world.count(10).await;
    world.settles_at(10).await;
    let reached = Arc::new(Notify::new());
    let hanging = Sum { hangs: Some((5, reached.clone())), ..Sum::new() };
    let killed = tokio::spawn(projector(&world, hanging).run(CancellationToken::new()));
    reached.notified().await;
    killed.abort();
    assert!(killed.await.unwrap_err().is_cancelled());

    tokio::spawn(projector(&world, Sum::new()).run(CancellationToken::new()));

    eventually("all is applied", async || sum(&world).await == (10, 10)).await;
}

/// Two of one name, at work.
fn two_projectors(world: &World) -> [watch::Receiver<ProjectorStatus>; 2] {
    [(); 2].map(|()| {
        let projector = projector(world, Sum::new());
        let status = projector.status();
        tokio::spawn(projector.run(CancellationToken::new()));
        status
    })
}

/// Fails without the condition on the checkpoint's position: both apply each event.
#[tokio::test]
async fn two_projectors_of_one_name_do_the_work_of_one() {
    let world = World::new().await;
    tables(&world, "sums").await;
    let _relay = world.relay();
    let statuses = two_projectors(&world);

    let id = world.count(1).await;
    // One that begins when the other is done finds nothing to do.
    eventually("both read the stream", async || consumers(&world).await >= 2).await;
    for _ in 0..100 {
        world.add(&id, 1).await;
    }

    // Both: one that is late must find that it is done.
    eventually("both are there", async || statuses.iter().all(|status| status.borrow().position == 101)).await;
    assert_eq!(sum(&world).await, (101, 101));
}

/// Fails if what is remembered is not forgotten once another projector has written: its events are missing in the sum.
#[tokio::test]
async fn two_projectors_that_remember_do_the_work_of_one() {
    let world = World::new().await;
    tables(&world, "sums").await;
    let _relay = world.relay();
    let remembered = [(); 2].map(|()| Arc::new(Remembered::default()));
    let statuses = remembered.clone().map(|remembered| {
        let projector = projector_of(&world, remembered);
        let status = projector.status();
        tokio::spawn(projector.run(CancellationToken::new()));
        status
    });
    let id = world.count(1).await;
    eventually("both read the stream", async || consumers(&world).await >= 2).await;

    for added in 1..=100 {
        world.add(&id, 1).await;
        let there = |status: &watch::Receiver<ProjectorStatus>| status.borrow().position == 1 + added;
        // Now and then the one that was late is waited for, and has its turn.
        eventually("it is applied", async || match added % 3 {
            0 => statuses.iter().all(there),
            _ => statuses.iter().any(there),
        })
        .await;
        assert_eq!(sum(&world).await, (1 + added as i64, 1 + added as i64));
    }
    assert!(remembered.iter().any(|one| one.statements.load(Ordering::SeqCst) > 0), "nothing was written from memory");
}

/// Fails if what is remembered outlives what it was made of.
#[tokio::test]
async fn a_restored_backup_is_not_written_over_from_memory() {
    let world = World::new().await;
    tables(&world, "sums").await;
    let relay = world.relay();
    let projector = projector(&world, Remembered::default());
    let status = projector.status();
    tokio::spawn(projector.run(CancellationToken::new()));
    world.count(5).await;
    eventually("all is applied", async || sum(&world).await == (5, 5)).await;
    relay.reaches("published", |status| status.published == 5).await;
    restore_two(&world, 20).await;

    world.count(3).await;

    eventually("the new ones are applied", async || status.borrow().position == 5 && sum(&world).await == (23, 5))
        .await;
}

/// Fails for a projector that takes a statement's failure for the end, or goes on without what it was to write.
#[tokio::test]
async fn what_one_statement_cannot_do_is_done_in_a_transaction() {
    let world = World::new().await;
    tables(&world, "sums").await;
    let _relay = world.relay();
    let id = world.count(1).await;
    let projector = projector(&world, Remembered::default());
    let status = projector.status();
    let running = tokio::spawn(projector.run(CancellationToken::new()));
    eventually("it is applied", async || sum(&world).await == (1, 1)).await;

    world.add(&id, 13).await;
    eventually("it is applied", async || sum(&world).await == (14, 2)).await;
    world.add(&id, 1).await;
    eventually("it is applied", async || sum(&world).await == (15, 3)).await;
    assert_eq!(status.borrow().failing, None);
    world.add(&id, 666).await;

    let ended = tokio::time::timeout(patience(), running).await.unwrap().unwrap();
    assert!(matches!(ended, Err(ProjectorError::Stopped { position: 4, .. })), "{ended:?}");
    assert_eq!(sum(&world).await, (15, 3));
}

/// Fails for a projector that begins to read anew whenever the other was first: each time it leaves a consumer behind.
#[tokio::test]
async fn two_projectors_of_one_name_have_one_consumer_each() {
    let world = World::new().await;
    tables(&world, "sums").await;
    let _relay = world.relay();
    let statuses = two_projectors(&world);

    for round in 1..=50 {
        world.count(40).await;
        eventually("one has it", async || statuses.iter().any(|status| status.borrow().position == round * 40)).await;
    }

    eventually("both are there", async || statuses.iter().all(|status| status.borrow().position == 2000)).await;
    assert_eq!(sum(&world).await, (2000, 2000));
    let consumers = consumers(&world).await;
    // One more each, should the server have been slow to answer.
    assert!(consumers <= 4, "{consumers}");
}

/// Fails for a projector that gives up what it reads whenever it looks where the feed is.
#[tokio::test]
async fn a_page_that_takes_longer_than_a_look_is_read() {
    let world = World::new().await;
    let nowhere = crate::world::connect("nats://127.0.0.1:1").await;
    let relay = world.relay_by(nowhere.clone());
    world.count(10).await;
    relay.reaches("numbered all", |status| status.numbered == 10).await;
    relay.crash().await;
    tables(&world, "sums").await;
    // Whoever reads events waits until the gate is open.
    sqlx::raw_sql(
        "ALTER TABLE events RENAME TO stored;
         CREATE VIEW events AS
             WITH gate AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(1)) SELECT stored.* FROM gate, stored",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let mut gate = world.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(1)").execute(&mut *gate).await.unwrap();
    let readers = async || -> Vec<i32> {
        let waiting = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        sqlx::query_scalar(waiting).fetch_all(&world.pool).await.unwrap()
    };

    let projector = Projector::new(&connections(&world.pool), nowhere, world.feed.clone(), Arc::new(Sum::new()));
    let status = projector.status();
    tokio::spawn(projector.run(CancellationToken::new()));
    eventually("it reads", async || readers().await.len() == 1).await;
    let reader = readers().await;
    // Two looks come and go meanwhile: each sees how far the feed is.
    for head in [11, 12] {
        sqlx::query("UPDATE feed SET last_position = $1").bind(head).execute(&world.pool).await.unwrap();
        eventually("it looks", async || status.borrow().head == head as u64).await;
    }
    assert_eq!(readers().await, reader, "what it reads is what it has begun to read");
    gate.commit().await.unwrap();

    eventually("all is applied", async || sum(&world).await == (10, 10)).await;
}

/// Fails for a projector that takes what is wrong with its checkpoint for something wrong with the event.
#[tokio::test]
async fn a_checkpoint_that_is_out_of_reach_for_a_while_ends_no_projector() {
    let world = World::new().await;
    let _relay = world.relay();
    let projector = sum_projector(&world).await;
    let status = projector.status();
    tokio::spawn(projector.run(CancellationToken::new()));
    world.count(3).await;
    eventually("they are applied", async || sum(&world).await == (3, 3)).await;
    let rename = async |from, to| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        sqlx::raw_sql(&sql).execute(&world.pool).await.unwrap();
    };
    rename("checkpoints", "out_of_reach").await;
    world.count(3).await;
    let noticed = async || status.borrow().failing.is_some() || status.borrow().stopped.is_some();
    eventually("it notices", noticed).await;

    rename("out_of_reach", "checkpoints").await;

    assert_eq!(status.borrow().stopped, None);
    eventually("it goes on", async || sum(&world).await == (6, 6)).await;
    eventually("it is well", async || status.borrow().failing.is_none()).await;
}

/// Fails for a projector that skips it, goes on behind it, or loses what came before it in the batch.
#[tokio::test]
async fn an_event_it_cannot_apply_stops_it_there() {
    let world = World::new().await;
    let _relay = world.relay();
    let id = world.count(4).await;
    world.add(&id, 666).await;
    world.count(3).await;
    world.settles_at(8).await;
    let projector = sum_projector(&world).await;
    let status = projector.status();

    let ended = tokio::time::timeout(patience(), projector.run(CancellationToken::new())).await.unwrap();

    assert!(matches!(ended, Err(ProjectorError::Stopped { position: 5, .. })), "{ended:?}");
    assert_eq!(sum(&world).await, (4, 4));
    assert_eq!(
        status.borrow().stopped.as_deref(),
        Some("sum stopped before position 5, which it cannot apply: the event cannot be applied: 666 is too much")
    );
}

/// Fails for a projector that only listens to JetStream, which skips a deleted message in silence.
#[tokio::test]
async fn a_message_deleted_from_the_stream_is_read_from_the_database() {
    let world = World::new().await;
    tables(&world, "sums").await;
    let _relay = world.relay();
    world.count(10).await;
    world.settles_at(10).await;
    let jetstream = jetstream::new(world.nats.clone()).get_stream(&world.feed.stream).await.unwrap();
    for position in [1, 4, 5] {
        jetstream.delete_message(position).await.unwrap();
    }

    tokio::spawn(projector(&world, Sum::new()).run(CancellationToken::new()));

    eventually("all is applied", async || sum(&world).await == (10, 10)).await;
    let report = stream::check(&world.pool, &world.nats, &world.feed).await.unwrap();
    assert!(!report.is_sound());
    assert_eq!((report.missing_in_stream.first, report.equal), (vec![1, 4, 5], 7));
}

/// Fails for a projector that goes by its memory: what is numbered anew, up to where it believes it is, never comes.
#[tokio::test]
async fn a_restored_backup_takes_a_running_projector_back() {
    let world = World::new().await;
    let relay = world.relay();
    tokio::spawn(sum_projector(&world).await.run(CancellationToken::new()));
    world.count(5).await;
    eventually("all is applied", async || sum(&world).await == (5, 5)).await;
    relay.reaches("published", |status| status.published == 5).await;
    restore_two(&world, 2).await;

    world.count(3).await;

    eventually("the new ones are applied", async || sum(&world).await == (5, 5)).await;
}

/// Fails for a projector that needs NATS: numbered events are in the database.
#[tokio::test]
async fn while_nats_is_away_projections_go_on() {
    let world = World::new().await;
    tables(&world, "sums").await;
    let nowhere = crate::world::connect("nats://127.0.0.1:1").await;
    let _relay = world.relay_by(nowhere.clone());
    let projector = Projector::new(&connections(&world.pool), nowhere, world.feed.clone(), Arc::new(Sum::new()));
    tokio::spawn(projector.run(CancellationToken::new()));

    world.count(10).await;

    eventually("all is applied", async || sum(&world).await == (10, 10)).await;
}

/// Fails without the generation in the fence: the old projector would go on, into tables that are gone.
#[tokio::test]
async fn a_rebuild_runs_beside_the_live_generation_and_supersedes_it() {
    let world = World::new().await;
    tables(&world, "sums").await;
    tables(&world, "sums_2").await;
    let _relay = world.relay();
    world.count(10).await;
    let old = tokio::spawn(projector(&world, Sum::new()).run(CancellationToken::new()));
    eventually("the old one is done", async || sum(&world).await == (10, 10)).await;
    assert_eq!(checkpoint::live(&world.pool, "sum").await.unwrap(), Some(1));
    checkpoint::open(&mut world.pool.acquire().await.unwrap(), "sum", 2).await.unwrap();
    let new = projector(&world, Sum { table: "sums_2", ..Sum::new() }).generation(2);
    tokio::spawn(new.run(CancellationToken::new()));
    eventually("the new one is done", async || sum_of(&world, "sums_2").await == (10, 10)).await;
    assert_eq!(checkpoint::live(&world.pool, "sum").await.unwrap(), Some(1));

    checkpoint::promote(&mut world.pool.acquire().await.unwrap(), "sum", 2).await.unwrap();
    world.count(5).await;

    let ended = tokio::time::timeout(patience(), old).await.unwrap().unwrap();
    assert!(matches!(ended, Err(ProjectorError::Superseded { generation: 1, .. })), "{ended:?}");
    eventually("the new one goes on", async || sum_of(&world, "sums_2").await == (15, 15)).await;
    assert_eq!(sum(&world).await, (10, 10));
    assert_eq!(checkpoint::live(&world.pool, "sum").await.unwrap(), Some(2));
}

/// Fails for a projector that opens a checkpoint which was taken away: the rebuild that was given up would go on from nothing.
#[tokio::test]
async fn a_rebuild_whose_checkpoint_is_taken_away_ends() {
    let world = World::new().await;
    tables(&world, "sums").await;
    tables(&world, "sums_2").await;
    let _relay = world.relay();
    world.count(10).await;
    let mut connection = world.pool.acquire().await.unwrap();
    for generation in [1, 2] {
        checkpoint::open(&mut connection, "sum", generation).await.unwrap();
    }
    let rebuild = projector(&world, Sum { table: "sums_2", ..Sum::new() }).generation(2);
    let rebuild = tokio::spawn(rebuild.run(CancellationToken::new()));
    eventually("it has read all", async || sum_of(&world, "sums_2").await == (10, 10)).await;

    sqlx::raw_sql("DELETE FROM checkpoints WHERE generation = 2").execute(&mut *connection).await.unwrap();

    let ended = tokio::time::timeout(patience(), rebuild).await.unwrap().unwrap();
    assert!(matches!(ended, Err(ProjectorError::Superseded { generation: 2, .. })), "{ended:?}");
    assert_eq!(checkpoint::position(&world.pool, "sum", 2).await.unwrap(), None);
}

/// Fails for a follower that takes what the client dropped, because it was slow, for never published.
#[tokio::test]
async fn a_follower_that_is_slow_misses_nothing() {
    let world = World::new().await;
    let _relay = world.relay();
    world.count(1).await;
    world.settles_at(1).await;
    let options = async_nats::ConnectOptions::new().subscription_capacity(4);
    let client = options.connect(&world.nats_url).await.unwrap();
    let mut followed = std::pin::pin!(follow(world.pool.clone(), client, world.feed.clone(), 0));
    // From here on it may be subscribed, and nobody asks it for more.
    let mut positions = vec![followed.next().await.unwrap().unwrap().position];
    let id = world.count(1).await;
    positions.push(followed.next().await.unwrap().unwrap().position);
    for _ in 0..100 {
        world.add(&id, 1).await;
    }
    world.settles_at(102).await;

    while positions.len() < 102 {
        let next = tokio::time::timeout(Duration::from_secs(30), followed.next()).await.unwrap();
        positions.push(next.unwrap().unwrap().position);
    }

    assert_eq!(positions, (1..=102).collect::<Vec<_>>());
}

#[tokio::test]
async fn following_reads_the_past_and_the_present_without_gaps() {
    let world = World::new().await;
    let _relay = world.relay();
    let id = world.count(1200).await;
    world.settles_at(1200).await;
    let followed = follow(world.pool.clone(), world.nats.clone(), world.feed.clone(), 100);
    let mut followed = std::pin::pin!(followed);
    let mut positions = Vec::new();
    for round in 0..1150 {
        if round == 500 {
            // While the past is still being read.
            world.store.execute(&id, Command::Count(25), Context::from_origin("test")).await.unwrap();
        }
        if round >= 1100 {
            world.add(&id, 1).await;
        }
        let next = tokio::time::timeout(Duration::from_secs(30), followed.next()).await.unwrap();
        positions.push(next.unwrap().unwrap().position);
    }
    assert_eq!(positions, (101..=1250).collect::<Vec<_>>());
}
