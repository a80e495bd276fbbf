//! (a) Events appended through the event log, against bare transactions that insert the same rows.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::DateTime;
use futures::future::try_join_all;
use sqlx::{Connection, PgConnection, PgExecutor, PgPool};
use tandem_domain::{Create, Customer, CustomerCommand, Field, Patch, Profile, Update, Value, upcasters};
use tandem_eventlog::{Context, Loaded, Recorded, Store, Wake, history};
use uuid::Uuid;

use crate::quantiles::now_us;
use crate::row::Row;
use crate::servers::{Servers, pool};

/// How many events each customer gets: its creation, then updates. Later ones must load the earlier ones first.
const LIFE: usize = 5;

/// How often each is measured, in turns, so that what slows the machine slows both.
const TURNS: u32 = 3;

/// Appends per second of 1, 8 and 32 tasks: as the API appends, which loads and decides before, and as the reconciler does,
/// which knows the customer already and is in a transaction.
pub async fn measure(servers: &Servers, quick: bool) -> anyhow::Result<Vec<Row>> {
    let turn = Duration::from_millis(if quick { 400 } else { 1500 });
    let url = servers.database("appends").await?;
    let nats = async_nats::connect(servers.nats_url()).await?;
    let mut rows = vec![];
    for tasks in [1_u32, 8, 32] {
        let pool = pool(&url, tasks).await?;
        tandem_eventlog::migrate(&pool).await?;
        let store = Store::new(pool.clone(), Wake::new(nats.clone(), "BENCH"), upcasters);
        let sample = sample(&store, &pool).await?;
        let (mut commands, mut appends, mut bare) = (0, 0, 0);
        // Both once for nothing: caches fill, plans are made.
        for counted in (0..=TURNS).map(|turn| turn > 0) {
            let limit = if counted { turn } else { turn / 3 };
            let inserted = insert(&url, &sample, tasks, limit).await?;
            let executed = execute(&store, tasks, limit).await?;
            let appended = append(&store, &url, tasks, limit).await?;
            if counted {
                bare += inserted;
                commands += executed;
                appends += appended;
            }
        }
        let per_second = |count: u64| count as f64 / (turn * TURNS).as_secs_f64();
        for (what, count) in [("commands executed (load, decide, append)", commands), ("events appended", appends)] {
            let row =
                Row::new("a", format!("{what}, {}", tell(tasks)), per_second(count), "/s").against(per_second(bare));
            rows.push(if tasks == 32 { row.at_least(0.8) } else { row });
        }
        pool.close().await;
    }
    Ok(rows)
}

fn tell(tasks: u32) -> String {
    if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") }
}

/// Commands, as the API sends them, one after the other in each task.
async fn execute(store: &Store<Customer>, tasks: u32, limit: Duration) -> anyhow::Result<u64> {
    let deadline = Instant::now() + limit;
    let work = (0..tasks).map(|_| {
        let store = store.clone();
        async move {
            let mut appended = 0;
            while Instant::now() < deadline {
                let id = Uuid::now_v7().to_string();
                for n in 0..LIFE {
                    store.execute(&id, command(n), Context::from_origin("api")).await?;
                    appended += 1;
                }
            }
            anyhow::Ok(appended)
        }
    });
    total(work).await
}

/// Events alone, inside transactions of ours: begin, append, commit, each sent and awaited, on a connection of the task's own.
async fn append(store: &Store<Customer>, url: &str, tasks: u32, limit: Duration) -> anyhow::Result<u64> {
    let connections = connections(url, tasks).await?;
    let deadline = Instant::now() + limit;
    let work = connections.into_iter().map(|mut connection| {
        let store = store.clone();
        async move {
            let mut appended = 0;
            while Instant::now() < deadline {
                let (id, aggregate) = (Uuid::now_v7().to_string(), Customer::default());
                let mut loaded = Loaded { id, aggregate, version: 0, last: None };
                for n in 0..LIFE {
                    let mut transaction = connection.begin().await?;
                    let context = Context::from_origin("api");
                    let decided = loaded.decide(command(n), &context).await?;
                    loaded = store.append_in(&mut transaction, decided, &context).await?.into();
                    transaction.commit().await?;
                    appended += 1;
                }
            }
            connection.close().await?;
            anyhow::Ok(appended)
        }
    });
    total(work).await
}

/// The bare transaction: begin, insert, commit, each sent and awaited, on a connection of the task's own.
async fn insert(url: &str, sample: &[Recorded], tasks: u32, limit: Duration) -> anyhow::Result<u64> {
    let connections = connections(url, tasks).await?;
    let deadline = Instant::now() + limit;
    let work = connections.into_iter().map(|mut connection| {
        let sample = sample.to_vec();
        async move {
            let mut appended = 0;
            while Instant::now() < deadline {
                let id = Uuid::now_v7().to_string();
                for event in &sample {
                    let mut transaction = connection.begin().await?;
                    insert_event(&mut *transaction, event, &id).await?;
                    transaction.commit().await?;
                    appended += 1;
                }
            }
            connection.close().await?;
            anyhow::Ok(appended)
        }
    });
    total(work).await
}

async fn connections(url: &str, count: u32) -> Result<Vec<PgConnection>, sqlx::Error> {
    try_join_all((0..count).map(|_| PgConnection::connect(url))).await
}

/// Inserts a row like that event's, of another customer.
pub async fn insert_event(database: impl PgExecutor<'_>, event: &Recorded, id: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
           VALUES ($1, $2, $3, $4, $5, $6, '{"origin": "api"}', $7)"#,
    )
    .bind(&event.aggregate_type)
    .bind(id)
    .bind(i64::try_from(event.version).unwrap_or_default())
    .bind(&event.event_type)
    .bind(&event.event_version)
    .bind(&event.payload)
    .bind(Uuid::now_v7())
    .execute(database)
    .await?;
    Ok(())
}

/// The events of one customer, as the event log stores them.
pub async fn sample(store: &Store<Customer>, pool: &PgPool) -> anyhow::Result<Vec<Recorded>> {
    let id = Uuid::now_v7().to_string();
    for n in 0..LIFE {
        store.execute(&id, command(n), Context::from_origin("api")).await?;
    }
    let events = history(pool, "customer", &id).await?;
    anyhow::ensure!(events.len() == LIFE, "each command makes one event");
    Ok(events)
}

/// The nth of a customer's life.
fn command(n: usize) -> CustomerCommand {
    let text = |text: String| Value::Text(text);
    let at = DateTime::from_timestamp_micros(now_us()).unwrap_or_default();
    if n == 0 {
        let profile = Profile::default()
            .with(Field::Name, text("Ada Lovelace".to_owned()))
            .with(Field::Email, text("ada.lovelace@analytical.example".to_owned()))
            .with(Field::Phone, text("+44 20 7946 0958".to_owned()))
            .with(Field::Metadata("plan".to_owned()), text("pro".to_owned()));
        return CustomerCommand::Create(Create { profile, at });
    }
    let patch = Patch::default().with(Field::Email, Some(text(format!("ada.lovelace+{n}@analytical.example"))));
    CustomerCommand::Update(Update { patch, at })
}

async fn total<F>(work: impl Iterator<Item = F>) -> anyhow::Result<u64>
where
    F: Future<Output = anyhow::Result<u64>> + Send + 'static,
{
    let mut sum = 0;
    for task in work.map(tokio::spawn).collect::<Vec<_>>() {
        sum += task.await.context("a task ended badly")??;
    }
    Ok(sum)
}
