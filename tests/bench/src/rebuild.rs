//! (d) Many events at once: numbered, published, projected as they come, then projected again by `tandem rebuild`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::jetstream;
use tandem_domain::upcasters;
use tandem_eventlog::{Store, Wake, last_position};

use crate::appends::sample;
use crate::row::Row;
use crate::servers::{Servers, of_a_process, pool};
use crate::tandem::{Settings, Tandem};
use crate::world::client;

const STREAM: &str = "REBUILD";

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// With so many events, five a customer.
pub async fn measure(servers: &Servers, events: u32) -> anyhow::Result<Vec<Row>> {
    let url = servers.database("rebuild").await?;
    let settings = Settings::new(servers, &url, STREAM)?;
    let mut tandem = Tandem::start(settings, &client()?).await?;
    let database = pool(&url, 2).await?;
    let nats = async_nats::connect(servers.nats_url()).await?;
    let store = Store::new(&of_a_process(&url)?, Wake::new(nats.clone(), STREAM), upcasters);
    let sample = sample(&store, &database).await?;
    let first = sample.first().context("an event")?.aggregate_id.clone();
    let life = u32::try_from(sample.len())?;

    // One transaction: all of them come in one instant, when it commits.
    sqlx::query(
        r#"WITH customers AS MATERIALIZED (
               SELECT n, gen_random_uuid()::text AS id FROM generate_series(1, $1) AS n
           )
           INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
           SELECT e.aggregate_type, c.id, e.sequence, e.event_type, e.event_version,
                  replace(e.payload::text, 'ada.lovelace', 'ada.' || c.n)::jsonb, e.metadata, gen_random_uuid()
           FROM customers AS c CROSS JOIN (SELECT * FROM events WHERE aggregate_id = $2) AS e
           ORDER BY c.n, e.sequence"#,
    )
    .bind(i32::try_from(events / life - 1)?)
    .bind(&first)
    .execute(&database)
    .await?;
    store.wake().ring();
    let start = Instant::now();
    let context = jetstream::new(nats);
    let (mut published, mut projected) = (None, None);
    while published.is_none() || projected.is_none() {
        ensure!(start.elapsed() < PATIENCE, "the events are not projected");
        let mut stream = context.get_stream(STREAM).await?;
        if published.is_none() && stream.info().await?.state.messages >= u64::from(events) {
            published = Some(start.elapsed());
        }
        let position: i64 = sqlx::query_scalar("SELECT COALESCE(min(position), 0) FROM checkpoints WHERE live")
            .fetch_one(&database)
            .await?;
        if position >= i64::from(events) {
            projected = Some(start.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ensure!(last_position(&database).await? == u64::from(events), "not every event has its position");

    let rebuilt = tandem.run(&["rebuild", "customers"]).await?;
    let memory = tandem.memory()?;
    tandem.stop();
    let rate = |took: Duration| f64::from(events) / took.as_secs_f64();
    let row = |what: &str, took| Row::new("d", what, took, "/s");
    let many = format!("{events} events");
    Ok(vec![
        row(&format!("{many} that come at once: numbered and published"), published.map(rate).unwrap_or_default()),
        row("… and projected as they come", projected.map(rate).unwrap_or_default()),
        row("… and again by `tandem rebuild customers`, start and swap included", rate(rebuilt)),
        Row::new("e", format!("memory of tandem serve, after {many}"), memory, "MiB"),
    ])
}
