//! (a) Events appended through the event log, against bare transactions that insert the same rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::DateTime;
use futures::future::try_join_all;
use sqlx::{Connection, PgConnection, PgExecutor, PgPool};
use tandem_domain::{Create, Customer, CustomerCommand, Field, Patch, Profile, Update, Value, upcasters};
use tandem_eventlog::{Context, Loaded, Recorded, Store, Wake, history};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::quantiles::now_us;
use crate::row::Row;
use crate::servers::{Servers, of_a_process, pool};

/// How many events each customer gets: its creation, then updates. Later ones build on the earlier ones.
const LIFE: usize = 5;

/// How often each is measured, in short turns, so that what slows the machine slows all.
const TURNS: u32 = 18;

/// Appends per second of 1, 8 and 32 tasks: as the API appends, which loads and decides before, and as the reconciler does,
/// which knows the customer already and stores the events with what is its own: mostly in one statement, else in a transaction.
pub async fn measure(servers: &Servers, quick: bool) -> anyhow::Result<Vec<Row>> {
    let turn = Duration::from_millis(if quick { 75 } else { 250 });
    let url = servers.database("appends").await?;
    let nats = async_nats::connect(servers.nats_url()).await?;
    let mut rows = vec![];
    for tasks in [1_u32, 8, 32] {
        let pool = pool(&url, tasks).await?;
        tandem_eventlog::migrate(&pool).await?;
        let store = Store::new(&of_a_process(&url)?, Wake::new(nats.clone(), "BENCH"), upcasters);
        let sample = sample(&store, &pool).await?;
        let connections = connections(&url, tasks).await?;
        let mut sums = [0.0; 4];
        // Some for nothing: caches fill, plans are made.
        for counted in (0..TURNS + 3).map(|turn| turn >= 3) {
            let paces = [
                insert(&connections, &sample, turn).await?,
                execute(&store, tasks, turn).await?,
                append(&store, &connections, Within::Statement, turn).await?,
                append(&store, &connections, Within::Transaction, turn).await?,
            ];
            if counted {
                sums.iter_mut().zip(paces).for_each(|(sum, pace)| *sum += pace);
            }
        }
        let [bare, commands, beside, within] = sums.map(|sum| sum / f64::from(TURNS));
        let row = |what, pace| Row::new("a", format!("{what}, {}", tell(tasks)), pace, "/s").against(bare);
        let asked = |row: Row| if tasks == 32 { row.at_least(0.8) } else { row };
        rows.push(asked(row("commands executed (load, decide, append)", commands)));
        rows.push(asked(row("events appended in a caller's statement", beside)));
        rows.push(row("events appended in a caller's transaction", within));
        pool.close().await;
    }
    Ok(rows)
}

fn tell(tasks: u32) -> String {
    if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") }
}

/// Commands, as the API sends them, one after the other in each task.
async fn execute(store: &Store<Customer>, tasks: u32, limit: Duration) -> anyhow::Result<f64> {
    let (began, deadline) = (Instant::now(), Instant::now() + limit);
    let work = (0..tasks).map(|_| {
        let store = store.clone();
        async move {
            let mut appended = 0;
            while Instant::now() < deadline {
                let id = Uuid::now_v7().to_string();
                for n in 0..LIFE {
                    let context = Context::from_origin("api");
                    let context = if n == 0 { context.expecting(0) } else { context };
                    store.execute(&id, command(n), context).await?;
                    appended += 1;
                }
            }
            anyhow::Ok(appended)
        }
    });
    per_second(began, work).await
}

/// What of a caller's the events are stored with.
#[derive(Clone, Copy)]
enum Within {
    /// One statement, which commits by itself.
    Statement,
    /// Begin, append, commit, each sent and awaited.
    Transaction,
}

/// Events alone, on a connection of the task's own.
async fn append(store: &Store<Customer>, connections: &[Own], within: Within, limit: Duration) -> anyhow::Result<f64> {
    let (began, deadline) = (Instant::now(), Instant::now() + limit);
    let work = connections.iter().map(|connection| {
        let (store, connection) = (store.clone(), Arc::clone(connection));
        async move {
            let mut connection = connection.lock().await;
            let mut appended = 0;
            while Instant::now() < deadline {
                let (id, aggregate) = (Uuid::now_v7().to_string(), Customer::default());
                let mut loaded = Loaded { id, aggregate, version: 0, last: None };
                for n in 0..LIFE {
                    let context = Context::from_origin("api");
                    let decided = loaded.decide(command(n), &context).await?;
                    let executed = match within {
                        Within::Statement => {
                            let held = sqlx::query("held AS (SELECT $1::bigint AS answer FROM follows)").bind(1_i64);
                            let appended = store.append_beside(&mut connection, held, decided, &context).await?;
                            appended.context("nobody else appends to this customer")?.0
                        }
                        Within::Transaction => {
                            let mut transaction = connection.begin().await?;
                            let executed = store.append_in(&mut transaction, decided, &context).await?;
                            transaction.commit().await?;
                            executed
                        }
                    };
                    loaded = executed.into();
                    appended += 1;
                }
            }
            anyhow::Ok(appended)
        }
    });
    per_second(began, work).await
}

/// The bare transaction: begin, insert, commit, each sent and awaited, on a connection of the task's own.
async fn insert(connections: &[Own], sample: &[Recorded], limit: Duration) -> anyhow::Result<f64> {
    let (began, deadline) = (Instant::now(), Instant::now() + limit);
    let work = connections.iter().map(|connection| {
        let (sample, connection) = (sample.to_vec(), Arc::clone(connection));
        async move {
            let mut connection = connection.lock().await;
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
            anyhow::Ok(appended)
        }
    });
    per_second(began, work).await
}

/// A connection that one task of each kind uses, in turns: they are opened before anything is measured.
type Own = Arc<Mutex<PgConnection>>;

async fn connections(url: &str, count: u32) -> Result<Vec<Own>, sqlx::Error> {
    let opened = try_join_all((0..count).map(|_| PgConnection::connect(url))).await?;
    Ok(opened.into_iter().map(|connection| Arc::new(Mutex::new(connection))).collect())
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

/// What all have done, by how long it took: each life that was begun by the deadline is lived to its end.
async fn per_second<F>(began: Instant, work: impl Iterator<Item = F>) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<u32>> + Send + 'static,
{
    let mut sum = 0;
    for task in work.map(tokio::spawn).collect::<Vec<_>>() {
        sum += task.await.context("a task ended badly")??;
    }
    Ok(f64::from(sum) / began.elapsed().as_secs_f64())
}
