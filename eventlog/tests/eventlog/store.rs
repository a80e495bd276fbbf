//! Commands, keys, conflicts, hang-ups.

use crate::counter::{Command, Counter, Event, TooLittle};
use crate::world::{World, eventually, execute_in};
use std::time::Duration;
use tandem_eventlog::{Context, ExecuteError, Loaded, RecordedError, StoreError, forget_keys, history};
use tokio::task::JoinSet;
use uuid::Uuid;

fn context() -> Context {
    Context::from_origin("test")
}

fn id() -> String {
    Uuid::new_v4().to_string()
}

#[tokio::test]
async fn a_command_answers_with_state_version_and_events() {
    let world = World::new().await;
    let id = id();

    let executed =
        world.store.execute(&id, Command::Count(3), context().correlation("story").trace("00-1")).await.unwrap();

    assert_eq!((executed.aggregate.value, executed.version, executed.events.len()), (3, 3, 3));
    assert!(!executed.replayed);
    let loaded = world.store.load(&id).await.unwrap();
    assert_eq!((loaded.aggregate, loaded.version), (Counter { value: 3 }, 3));
    assert_eq!(world.store.load_at(&id, 2).await.unwrap().aggregate.value, 2);
    assert!(matches!(world.store.load_at(&id, 4).await, Err(StoreError::NoSuchVersion { actual: 3 })));
    let history = history(&world.pool, "counter", &id).await.unwrap();
    assert_eq!(
        history.iter().map(|event| (event.version, event.position)).collect::<Vec<_>>(),
        [(1, 0), (2, 0), (3, 0)]
    );
    assert_eq!(history[0].event::<Counter>(&[]).unwrap(), Event::Added { by: 1 });
    assert_eq!((history[0].origin.as_str(), history[0].correlation_id.as_deref()), ("test", Some("story")));
}

#[tokio::test]
async fn what_a_later_version_wrote_is_read_unless_it_means_something_else() {
    let world = World::new().await;
    let id = world.count(1).await;
    let mut recorded = history(&world.pool, "counter", &id).await.unwrap().remove(0);
    recorded.payload["why"] = "a later version says more".into();
    recorded.event_version = "1.1".to_owned();
    assert_eq!(recorded.event::<Counter>(&[]).unwrap(), Event::Added { by: 1 });
    recorded.event_version = "2.0".to_owned();
    assert!(matches!(recorded.event::<Counter>(&[]), Err(RecordedError::Later { version: 1, .. })));

    sqlx::query("UPDATE events SET event_version = '2.0'").execute(&world.pool).await.unwrap();

    // Waiting would not help.
    assert!(matches!(world.store.load(&id).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(world.store.page("", 1).await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn a_refusal_is_told_and_nothing_is_stored() {
    let world = World::new().await;
    let id = id();

    let refused = world.store.execute(&id, Command::Add(-1), context().key("k", b"a")).await;

    assert!(matches!(refused, Err(ExecuteError::Refused(TooLittle(0)))));
    assert_eq!(world.store.load(&id).await.unwrap().version, 0);
    // The key is free: once the counter has enough, the same request may succeed.
    world.add(&id, 5).await;
    assert!(!world.store.execute(&id, Command::Add(-1), context().key("k", b"a")).await.unwrap().replayed);
}

/// Fails for a store that trusts what it remembers: a refusal, or nothing to do, that no append would have tested.
#[tokio::test]
async fn what_other_processes_append_counts_whatever_this_one_remembers() {
    let world = World::new().await;
    let id = world.count(2).await;
    let other = crate::world::store(&world.pool, &world.nats, &world.feed);

    other.execute(&id, Command::Add(5), context()).await.unwrap();
    let taken = world.store.execute(&id, Command::Add(-6), context()).await.unwrap();
    assert_eq!((taken.aggregate.value, taken.version), (1, 4));

    other.execute(&id, Command::Add(-1), context()).await.unwrap();
    let refused = world.store.execute(&id, Command::Add(-1), context()).await;
    assert!(matches!(refused, Err(ExecuteError::Refused(TooLittle(0)))));

    other.execute(&id, Command::Add(1), context()).await.unwrap();
    let idle = world.store.execute(&id, Command::Add(0), context()).await.unwrap();
    assert_eq!((idle.aggregate.value, idle.version), (1, 6));

    let created = world.store.execute(&id, Command::Add(1), context().expecting(0)).await;
    assert!(matches!(created, Err(ExecuteError::VersionMismatch { actual: 6 })));
}

/// Fails for an append that only asks whether its own place is free: behind what a restored backup lacks, it would leave a
/// hole in the history.
#[tokio::test]
async fn what_a_restored_backup_lacks_is_not_built_upon() {
    let world = World::new().await;
    let id = world.count(5).await;
    // As a backup taken after the second event has it.
    sqlx::query("DELETE FROM events WHERE sequence > 2").execute(&world.pool).await.unwrap();

    assert_eq!(world.store.load_since(&id, 1).await.unwrap().version, 2);
    let one = world.store.execute(&id, Command::Add(10), context()).await.unwrap();
    assert_eq!((one.aggregate.value, one.version), (12, 3));

    sqlx::query("DELETE FROM events WHERE sequence > 1").execute(&world.pool).await.unwrap();
    let keyed = world.store.execute(&id, Command::Count(2), context().key("k", b"two")).await.unwrap();
    assert_eq!((keyed.aggregate.value, keyed.version, keyed.replayed), (3, 3, false));
    let loaded = world.store.load(&id).await.unwrap();
    assert_eq!((loaded.aggregate, loaded.version), (Counter { value: 3 }, 3));
}

/// Fails for an append, or a look, that only asks whether there is an event before: a crash took what one process remembers,
/// and another has appended in its place.
#[tokio::test]
async fn what_stands_in_the_place_of_what_is_remembered_is_not_taken_for_it() {
    let world = World::new().await;
    let other = crate::world::store(&world.pool, &world.nats, &world.feed);
    for key in [None, Some("k")] {
        let id = world.count(2).await;
        let loaded = world.store.load(&id).await.unwrap();
        sqlx::query("DELETE FROM events WHERE aggregate_id = $1 AND sequence = 2")
            .bind(&id)
            .execute(&world.pool)
            .await
            .unwrap();
        other.execute(&id, Command::Add(100), context()).await.unwrap();

        assert_eq!(world.store.load_since(&id, 2).await.unwrap().aggregate.value, 101);
        let mut transaction = world.pool.begin().await.unwrap();
        let late = execute_in(&world.store, &mut transaction, loaded, Command::Add(1), context()).await;
        assert!(matches!(late, Err(ExecuteError::Conflict)), "{late:?}");
        let with = key.map_or_else(context, |key| context().key(key, b"add"));
        let added = world.store.execute(&id, Command::Add(10), with).await.unwrap();
        assert_eq!((added.aggregate.value, added.version), (111, 3));
    }
}

#[tokio::test]
async fn an_unexpected_version_is_a_mismatch() {
    let world = World::new().await;
    let id = world.count(2).await;

    let mismatch = world.store.execute(&id, Command::Add(1), context().expecting(1)).await;

    assert!(matches!(mismatch, Err(ExecuteError::VersionMismatch { actual: 2 })));
    world.store.execute(&id, Command::Add(1), context().expecting(2)).await.unwrap();
}

/// Fails if the key is looked up after the rules ran (the counter is empty by then), or if the answer is today's state.
#[tokio::test]
async fn a_repeated_key_answers_as_it_did_then() {
    let world = World::new().await;
    let id = id();
    world.add(&id, 5).await;
    let take = || world.store.execute(&id, Command::Add(-5), context().key("k", b"take 5"));
    let first = take().await.unwrap();
    world.add(&id, 2).await;

    let again = take().await.unwrap();

    assert!(again.replayed);
    assert_eq!((again.aggregate, again.version, again.events), (first.aggregate, first.version, first.events));
    assert_eq!(world.store.load(&id).await.unwrap().aggregate.value, 2);
    // Also when it is sent for what would be a new counter: it answers with the first one.
    let elsewhere =
        world.store.execute(&Uuid::new_v4().to_string(), Command::Add(-5), context().key("k", b"take 5")).await;
    assert_eq!(elsewhere.unwrap().id, id);
}

#[tokio::test]
async fn a_key_of_another_request_is_refused() {
    let world = World::new().await;
    let id = id();
    world.store.execute(&id, Command::Add(1), context().key("k", b"one")).await.unwrap();

    let reused = world.store.execute(&id, Command::Add(2), context().key("k", b"two")).await;

    assert!(matches!(reused, Err(ExecuteError::KeyReused)));
}

/// Fails if keys are stored with events only: the repeat would find 7 and change it.
#[tokio::test]
async fn a_command_that_changed_nothing_keeps_its_key() {
    let world = World::new().await;
    let id = world.count(1).await;
    world.store.execute(&id, Command::Add(0), context().key("k", b"zero")).await.unwrap();
    world.add(&id, 6).await;

    let again = world.store.execute(&id, Command::Add(0), context().key("k", b"zero")).await.unwrap();

    assert_eq!((again.replayed, again.version, again.aggregate.value), (true, 1, 1));
}

/// Fails if a key's unique violation is an error, or a conflict that is retried without looking the key up again.
#[tokio::test]
async fn of_concurrent_requests_with_one_key_one_executes() {
    let world = World::new().await;
    let mut requests = JoinSet::new();
    for _ in 0..16 {
        let store = world.store.clone();
        // Each for a new counter, as creating by POST is.
        requests.spawn(
            async move { store.execute(&id(), Command::Count(2), context().key("k", b"create")).await.unwrap() },
        );
    }

    let answers = requests.join_all().await;

    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(answers.iter().all(|answer| answer.id == answers[0].id && answer.version == 2 && answer.events.len() == 2));
    let events: i64 = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&world.pool).await.unwrap();
    assert_eq!(events, 2);
}

#[tokio::test]
async fn all_aggregates_come_page_by_page_as_they_are_now() {
    let world = World::new().await;
    let mut ids = vec![];
    for times in 1..=5 {
        ids.push(world.count(times).await);
    }
    world.add(&ids[0], 6).await;
    let (first, mut found, mut after) = (ids[0].clone(), vec![], String::new());
    loop {
        let page = world.store.page(&after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = last.id.clone();
        found.extend(page.into_iter().map(|one| (one.id, one.version, one.aggregate.value)));
    }
    ids.sort();
    assert_eq!(found.iter().map(|(id, ..)| id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(found.iter().find(|(id, ..)| *id == first), Some(&(first, 2, 7)));
}

/// Fails without the retry: all but one of a round would be conflicts.
#[tokio::test]
async fn concurrent_commands_on_one_aggregate_all_succeed() {
    let world = World::new().await;
    let id = id();
    let mut commands = JoinSet::new();
    for _ in 0..16 {
        let (store, id) = (world.store.clone(), id.clone());
        commands.spawn(async move { store.execute(&id, Command::Add(1), context()).await.unwrap().version });
    }

    let mut versions = commands.join_all().await;

    versions.sort_unstable();
    assert_eq!(versions, (1..=16).collect::<Vec<_>>());
    assert_eq!(world.store.load(&id).await.unwrap().aggregate.value, 16);
}

/// Fails if the command runs in the caller's own future.
#[tokio::test]
async fn a_caller_that_hangs_up_cancels_nothing() {
    let world = World::new().await;
    let id = id();
    // Before it could append: an append that was sent is carried out by the server, whoever waits for it.
    let mut other = world.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE events IN ACCESS EXCLUSIVE MODE").execute(&mut *other).await.unwrap();
    let request = tokio::spawn({
        let (store, id) = (world.store.clone(), id.clone());
        async move { store.execute(&id, Command::Add(1), context()).await }
    });
    eventually("the command waits for its aggregate", async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        waiting == 1
    })
    .await;

    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    other.rollback().await.unwrap();

    eventually("the command took effect", async || world.store.load(&id).await.unwrap().aggregate.value == 1).await;
}

#[tokio::test]
async fn inside_a_transaction_events_and_keys_are_the_callers_to_commit() {
    let world = World::new().await;
    let id = id();
    let empty = world.store.load(&id).await.unwrap();

    let mut transaction = world.pool.begin().await.unwrap();
    let first = execute_in(&world.store, &mut transaction, empty.clone(), Command::Add(1), context().key("k", b"1"))
        .await
        .unwrap();
    let second = execute_in(&world.store, &mut transaction, first.into(), Command::Add(1), context()).await.unwrap();
    assert_eq!(second.version, 2);
    transaction.rollback().await.unwrap();
    assert_eq!(world.store.load(&id).await.unwrap().version, 0);

    // Rolled back, the key is free as well.
    let mut transaction = world.pool.begin().await.unwrap();
    let executed =
        execute_in(&world.store, &mut transaction, empty.clone(), Command::Add(1), context().key("k", b"1")).await;
    assert!(!executed.unwrap().replayed);
    transaction.commit().await.unwrap();

    // What was loaded before is old now.
    let mut transaction = world.pool.begin().await.unwrap();
    let conflict = execute_in(&world.store, &mut transaction, empty, Command::Add(1), context()).await;
    assert!(matches!(conflict, Err(ExecuteError::Conflict)));
}

/// Fails for a statement that stores the one without the other: what is stored beside events that were refused, or events beside
/// what the caller was not entitled to.
#[tokio::test]
async fn beside_a_statement_all_is_stored_or_nothing() {
    let world = World::new().await;
    sqlx::raw_sql("CREATE TABLE turns (turn bigint NOT NULL); INSERT INTO turns VALUES (1)")
        .execute(&world.pool)
        .await
        .unwrap();
    let id = id();
    let empty = world.store.load(&id).await.unwrap();
    let append = async |from: &Loaded<Counter>, turn: i64, command: Command, context: Context| {
        let decided = from.clone().decide(command, &context).await.unwrap();
        let take = sqlx::query(
            "held AS (UPDATE turns SET turn = turn + 1 WHERE turn = $1 AND EXISTS (SELECT FROM follows) RETURNING turn AS answer)",
        )
        .bind(turn);
        world.store.append_beside(&mut world.pool.acquire().await.unwrap(), take, decided, &context).await.unwrap()
    };
    let turn = async || -> i64 { sqlx::query_scalar("SELECT turn FROM turns").fetch_one(&world.pool).await.unwrap() };

    // Not the caller's turn.
    assert!(append(&empty, 2, Command::Add(1), context().key("k", b"1")).await.is_none());
    assert_eq!((turn().await, world.store.load(&id).await.unwrap().version), (1, 0));

    let (executed, answer) = append(&empty, 1, Command::Count(2), context().key("k", b"2")).await.unwrap();
    assert_eq!(answer, 2);
    assert_eq!((executed.version, executed.aggregate.value, executed.events.len()), (2, 2, 2));
    assert_eq!((turn().await, world.store.load(&id).await.unwrap().version), (2, 2));
    let replayed = world.store.execute(&id, Command::Count(2), context().key("k", b"2")).await.unwrap();
    assert!(replayed.replayed, "the key is there");

    // Others appended meanwhile.
    assert!(append(&empty, 2, Command::Add(1), context()).await.is_none());
    // What it follows on is not there.
    let lost = Loaded { version: 7, ..executed.clone().into() };
    assert!(append(&lost, 2, Command::Add(1), context()).await.is_none());
    let other = Loaded { last: Some(Uuid::now_v7()), ..executed.clone().into() };
    assert!(append(&other, 2, Command::Add(1), context()).await.is_none());
    assert_eq!((turn().await, world.store.load(&id).await.unwrap().version), (2, 2));

    // One event and no key: by a shorter statement.
    let (one, answer) = append(&executed.into(), 2, Command::Add(1), context()).await.unwrap();
    assert_eq!((answer, one.version, one.aggregate.value), (3, 3, 3));
    assert_eq!((turn().await, world.store.load(&id).await.unwrap().last), (3, one.last));
}

/// Fails without the tables' checks: such an event would hold up the feed for ever.
#[tokio::test]
async fn what_could_never_be_published_is_not_stored() {
    let world = World::new().await;

    let stored = world.store.execute("no.subject > token", Command::Add(1), context()).await;

    assert!(matches!(stored, Err(ExecuteError::Corrupt(_))));
}

#[tokio::test]
async fn an_old_key_is_forgotten_and_a_younger_one_is_not() {
    let world = World::new().await;
    let id = id();
    // More than one transaction forgets.
    sqlx::query(
        "INSERT INTO command_keys (key, fingerprint, aggregate_type, aggregate_id, version, events, recorded_at)
         SELECT 'old ' || n, '', '', '', 0, 0, clock_timestamp() - interval '25 hours' FROM generate_series(1, 2500) AS n",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    for key in ["k1", "k2"] {
        world.store.execute(&id, Command::Add(1), context().key(key, b"a")).await.unwrap();
    }
    sqlx::query("UPDATE command_keys SET recorded_at = recorded_at - interval '25 hours' WHERE key = 'k1'")
        .execute(&world.pool)
        .await
        .unwrap();

    assert_eq!(forget_keys(&world.pool, Duration::from_secs(24 * 3600)).await.unwrap(), 2501);

    let again = async |key| world.store.execute(&id, Command::Add(1), context().key(key, b"a")).await.unwrap();
    assert!(again("k2").await.replayed);
    let anew = again("k1").await;
    assert_eq!((anew.replayed, anew.aggregate.value), (false, 3));
}
