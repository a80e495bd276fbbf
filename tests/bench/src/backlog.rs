//! (h) Live edits while a backlog is worked off: a million links due, of which nobody waits for any one, at the pace that Stripe allows.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use sqlx::PgPool;
use tokio::time::timeout;
use uuid::Uuid;

use crate::inbound::edit;
use crate::latency::Rate;
use crate::quantiles::{Quantiles, now_us};
use crate::row::Row;
use crate::world::{Twin, World};

/// Of Stripe's 25 calls a second 18.75 may go to a backlog: one at once, and the rest as they come.
const IN_BULK_PER_SECOND: f64 = 17.75;

/// How many links are worked off while it is measured, at most: of each, a look for its twin, and its create.
const WORKED_OFF: i32 = 3000;

/// The parameter of a call whose value tells the edits here apart.
const OUT: &str = "metadata[out]";

/// How long one edit may take before the measuring is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// With so many links due. The world's customers are on both sides, and in step.
pub async fn measure(world: &mut World, links: u32) -> anyhow::Result<Vec<Row>> {
    world.tandem.stop();
    make_due(&world.database, i32::try_from(links)?).await?;
    world
        .start_again(&[
            ("TANDEM_STRIPE__REQUESTS_PER_SECOND", "25"),
            ("TANDEM_STRIPE__ENDPOINT_REQUESTS_PER_SECOND", "25"),
        ])
        .await?;
    world.stripe.clear_calls().await?;
    let begun = Instant::now();

    let rate = Rate { per_second: 2, seconds: 30 };
    let (out, back) = tokio::try_join!(there(world, rate), here(world, rate))?;

    let took = begun.elapsed().as_secs_f64();
    let calls = world.stripe.calls().await?;
    let in_bulk = calls.iter().filter(|call| call.path == "/v1/customers").count() as f64 / took;
    let mut rows = vec![];
    for (what, times) in [("REST write → at Stripe", &out), ("edit at Stripe → visible by REST", &back)] {
        rows.push(Row::new("h", format!("{links} links due: {what}, p50"), times.ms(0.5), "ms"));
        rows.push(Row::new("h", format!("{links} links due: {what}, p99"), times.ms(0.99), "ms").below(1000.0));
    }
    rows.push(
        Row::new("h", "… and of these links are worked off, calls", in_bulk, "/s")
            .against(IN_BULK_PER_SECOND)
            .at_least(0.9),
    );
    for path in ["/gateways", "/metrics"] {
        let times = asked(world, path).await?;
        rows.push(Row::new("h", format!("… GET {path} meanwhile, p99"), times.ms(0.99), "ms").below(50.0));
    }
    let mut times = vec![];
    for _ in 0..5 {
        times.push(i64::try_from(world.tandem.found(&["status"]).await?.as_micros())?);
    }
    rows.push(Row::new("h", "… tandem status, start and end included, p50", Quantiles::of(times)?.ms(0.5), "ms"));
    Ok(rows)
}

/// Links that wait to be created in Stripe. Those that are worked off first have customers.
async fn make_due(database: &PgPool, links: i32) -> anyhow::Result<()> {
    let one = "SELECT * FROM events WHERE event_type = 'created' AND sequence = 1 LIMIT 1";
    let made = sqlx::query(&format!(
        "WITH customers AS MATERIALIZED (SELECT gen_random_uuid() AS id, n FROM generate_series(1, $1) AS n), events AS (
             INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
             SELECT aggregate_type, customers.id::text, 1, event_type, event_version,
                    jsonb_set(payload, '{{profile,email}}', to_jsonb('eve-' || n || '@backlog.example')), metadata,
                    gen_random_uuid()
             FROM customers, ({one}) AS one
         )
         INSERT INTO links (gateway, customer_id, due_seq, due_version, bulk, not_before)
         SELECT 'stripe', id, 1, 1, true, now() - interval '1 hour' FROM customers"
    ))
    .bind(WORKED_OFF)
    .execute(database)
    .await?;
    ensure!(made.rows_affected() == u64::try_from(WORKED_OFF)?, "no customer is there to be copied");
    sqlx::query(
        "INSERT INTO links (gateway, customer_id, due_seq, due_version, bulk)
         SELECT 'stripe', gen_random_uuid(), 1, 1, true FROM generate_series(1, $1)",
    )
    .bind(links - WORKED_OFF)
    .execute(database)
    .await?;
    // As the server does by itself, a minute later.
    sqlx::query("ANALYZE links").execute(database).await?;
    Ok(())
}

async fn there(world: &World, rate: Rate) -> anyhow::Result<Quantiles> {
    let written = rate.drive(|n| {
        let id = world.born_here[n as usize % world.born_here.len()].id;
        let request = world.http.patch(world.tandem.at(&format!("/customers/{id}")));
        let request = request.json(&json!({"metadata": {"out": n.to_string()}}));
        async move {
            let sent = now_us();
            request.send().await?.error_for_status()?;
            Ok((n.to_string(), sent))
        }
    });
    let written = written.await?;
    let arrives = world.stripe.calls_when(written.len(), |call| call.params.contains_key(OUT));
    let calls = timeout(PATIENCE, arrives).await.context("an edit did not arrive at Stripe")??;
    let arrived: HashMap<&String, i64> =
        calls.iter().filter_map(|call| Some((call.params.get(OUT)?, call.received_us))).collect();
    let times = written.iter().map(|(n, sent)| Ok(arrived.get(n).context("an edit that made no call")? - sent));
    Quantiles::of(times.collect::<anyhow::Result<Vec<_>>>()?)
}

async fn here(world: &World, rate: Rate) -> anyhow::Result<Quantiles> {
    let mut versions = vec![];
    for Twin { id, .. } in &world.born_there {
        let version = "SELECT max(sequence) FROM events WHERE aggregate_type = 'customer' AND aggregate_id = $1";
        let version: i64 = sqlx::query_scalar(version).bind(id.to_string()).fetch_one(&world.database).await?;
        versions.push(version);
    }
    let url = |id: Uuid, version: i64| world.tandem.at(&format!("/customers/{id}?min_version={version}"));
    let seen = rate.drive(|n| {
        let (round, index) = (n as usize / versions.len(), n as usize % versions.len());
        let Twin { id, remote_id } = world.born_there[index].clone();
        let edited = edit(world, n, remote_id, url(id, versions[index] + 1 + round as i64));
        async move { timeout(PATIENCE, edited).await.context("an edit did not become visible")? }
    });
    Quantiles::of(seen.await?.into_iter().map(|(_, sent, seen)| seen - sent))
}

async fn asked(world: &World, path: &str) -> anyhow::Result<Quantiles> {
    let mut times = vec![];
    for _ in 0..50 {
        let asked = now_us();
        world.http.get(world.tandem.at(path)).send().await?.error_for_status()?.bytes().await?;
        times.push(now_us() - asked);
    }
    Quantiles::of(times)
}
