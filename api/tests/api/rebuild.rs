//! Rebuilding the read model while it is read.

use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::PgPool;
use tandem_eventlog::checkpoint;
use tandem_projections::{RebuildError, customers_rebuild};

use crate::service::{Answer, PATIENCE, Service, connections, database};

/// Fails for a rebuild that empties the table first, and for one whose swap leaves the running projector behind.
#[tokio::test]
async fn reads_go_on_while_the_read_model_is_rebuilt() {
    let service = Service::start().await;
    let mut ids = vec![];
    for n in 0..50 {
        ids.push(service.create(json!({"name": format!("Ada {n}")})).await);
    }
    let deleted = ids.pop().unwrap();
    service.delete(&deleted).await;
    assert_eq!(service.get(&format!("/customers/{deleted}?min_version=2")).await.status, 410);
    let pool = database(&service.config).await;
    // Something that only a rebuild mends.
    sqlx::query("UPDATE customer_rows SET profile = '{\"name\": \"wrong\"}' WHERE id::text = $1")
        .bind(&ids[0])
        .execute(&pool)
        .await
        .unwrap();

    let done = AtomicBool::new(false);
    let reading = async {
        let mut written = 0;
        while !done.load(Ordering::Relaxed) {
            assert_eq!(service.get("/customers?limit=100").await.body["data"].as_array().unwrap().len(), 49);
            written += 1;
            let patched = service.patch(&ids[1], json!({"phone": written.to_string()})).await;
            let version = &patched.body["version"];
            let read = service.get(&format!("/customers/{}?min_version={version}", ids[1])).await;
            assert_eq!((read.status, &read.body["phone"]), (200, &json!(written.to_string())));
        }
        written
    };
    let rebuilding = async {
        let nats = async_nats::connect(service.config.nats.url.expose_secret()).await.unwrap();
        let rebuilt = customers_rebuild(connections(&service.config), nats, service.config.feed(), |_, _| {}).await;
        done.store(true, Ordering::Relaxed);
        rebuilt.unwrap()
    };
    let (position, written) = tokio::join!(rebuilding, reading);

    assert!(position >= 51, "{position}");
    assert_eq!(service.get(&format!("/customers/{}", ids[0])).await.body["name"], "Ada 0");
    assert_eq!(service.get(&format!("/customers/{}", ids[1])).await.body["phone"], json!(written.to_string()));
    let generations: Vec<i32> =
        sqlx::query_scalar("SELECT DISTINCT generation FROM customer_rows").fetch_all(&pool).await.unwrap();
    assert_eq!(generations, [2]);
    // The running projector goes on with the new one.
    let id = service.ada().await;
    assert_eq!(service.get(&format!("/customers/{id}")).await.status, 200);
    service.ready().await;
}

/// Fails for a rebuild that waits for a checkpoint which another one took away, and keeps the projector waiting, too.
#[tokio::test]
async fn of_two_rebuilds_one_swaps_and_the_other_says_so() {
    let service = Service::start().await;
    let id = service.ada().await;
    let rebuild = || async {
        let nats = async_nats::connect(service.config.nats.url.expose_secret()).await.unwrap();
        customers_rebuild(connections(&service.config), nats, service.config.feed(), |_, _| {}).await
    };

    let (one, other) = tokio::join!(rebuild(), rebuild());

    let told = |ended: &Result<u64, RebuildError>| matches!(ended, Ok(_) | Err(RebuildError::TakenOver));
    assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
    assert!(told(&one) && told(&other), "{one:?} {other:?}");
    assert_eq!(service.get(&format!("/customers/{id}")).await.status, 200);
    let later = service.ada().await;
    assert_eq!(service.get(&format!("/customers/{later}")).await.status, 200);
    rebuild().await.unwrap();
    assert_eq!(service.get("/customers").await.body["data"].as_array().unwrap().len(), 2);
}

/// Fails for a rebuild that opens its checkpoint again after a later one took it away.
#[tokio::test]
async fn a_rebuild_that_is_begun_ends_the_one_under_way() {
    let service = Service::start().await;
    let id = service.ada().await;
    assert_eq!(service.get(&format!("/customers/{id}")).await.status, 200);
    let pool = database(&service.config).await;
    let nats = async_nats::connect(service.config.nats.url.expose_secret()).await.unwrap();
    let rebuild = || {
        let rebuilding =
            customers_rebuild(connections(&service.config), nats.clone(), service.config.feed(), |_, _| {});
        tokio::spawn(rebuilding)
    };
    // The row that the first one will write is taken till then.
    let mut held = pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO customer_rows SELECT 2, id, state, profile, name_key, email_key, version, seen, position, created_at,
                                          updated_at FROM customer_rows",
    )
    .execute(&mut *held)
    .await
    .unwrap();
    let first = rebuild();
    until_one_waits(&pool, "%INSERT INTO customer_rows%").await;
    let second = rebuild();
    until_one_waits(&pool, "%DELETE FROM checkpoints%").await;

    held.rollback().await.unwrap();

    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert!(matches!(first, Err(RebuildError::TakenOver)), "{first:?}");
    assert_eq!(second.unwrap(), 1);
    let generations: Vec<i32> = sqlx::query_scalar("SELECT generation FROM checkpoints WHERE name = 'customers'")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(generations, [3]);
    assert_eq!(service.get(&format!("/customers/{id}")).await.status, 200);
}

/// Fails for a rebuild that takes the checkpoint it waited for to be there still.
#[tokio::test]
async fn a_rebuild_that_begins_in_the_instant_of_a_swap_goes_on_after_it() {
    let service = Service::start().await;
    let id = service.ada().await;
    let pool = database(&service.config).await;
    let mut swap = pool.begin().await.unwrap();
    checkpoint::open(&mut swap, "customers", 2).await.unwrap();
    sqlx::query("SELECT FROM checkpoints WHERE name = 'customers' FOR UPDATE").execute(&mut *swap).await.unwrap();
    let nats = async_nats::connect(service.config.nats.url.expose_secret()).await.unwrap();
    let rebuild = tokio::spawn(customers_rebuild(connections(&service.config), nats, service.config.feed(), |_, _| {}));
    until_one_waits(&pool, "%FROM checkpoints%FOR UPDATE%").await;

    checkpoint::promote(&mut swap, "customers", 2).await.unwrap();
    swap.commit().await.unwrap();

    assert_eq!(rebuild.await.unwrap().unwrap(), 1);
    assert_eq!(service.get(&format!("/customers/{id}")).await.status, 200);
}

/// Fails for a service whose projector ends for good when it stops: what is read stands still until a restart.
#[tokio::test]
async fn a_rebuild_mends_a_projector_that_has_stopped_and_the_service_is_ready_again() {
    let mut first = Service::start().await;
    let id = first.ada().await;
    assert_eq!(first.get(&format!("/customers/{id}")).await.status, 200);
    first.shutdown.cancel();
    first.served.take().unwrap().await.unwrap().unwrap();
    let pool = database(&first.config).await;
    sqlx::query("DELETE FROM customer_rows WHERE id::text = $1").bind(&id).execute(&pool).await.unwrap();
    let service = Service::run(first.config.clone()).await;
    service.ready().await;
    assert_eq!(service.patch(&id, json!({"name": "Eve"})).await.status, 200);
    let tells = |answer: &Answer| {
        let problem = answer.body["projectors"][0]["problem"].as_str();
        problem.is_some_and(|problem| problem.contains("stopped before position"))
    };
    assert_eq!(service.until("/readyz", tells).await.status, 503);

    let nats = async_nats::connect(service.config.nats.url.expose_secret()).await.unwrap();
    customers_rebuild(connections(&service.config), nats, service.config.feed(), |_, _| {}).await.unwrap();

    service.ready().await;
    assert_eq!(service.get(&format!("/customers/{id}?min_version=2")).await.body["name"], "Eve");
    let later = service.ada().await;
    assert_eq!(service.get(&format!("/customers/{later}")).await.status, 200);
}

async fn until_one_waits(pool: &PgPool, statement: &str) {
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                   AND wait_event_type = 'Lock' AND query LIKE $1)";
    let asking =
        async { while !sqlx::query_scalar::<_, bool>(waiting).bind(statement).fetch_one(pool).await.unwrap() {} };
    assert!(tokio::time::timeout(PATIENCE, asking).await.is_ok(), "nobody waits in {statement}");
}
