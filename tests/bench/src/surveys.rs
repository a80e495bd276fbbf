//! (f) Both sides read: a plan for many customers that are not linked, then a verification of as many that are, at the pace
//! that Stripe allows.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use sqlx::PgPool;
use stripe_sim::{Options, Sim};
use tandem_domain::upcasters;
use tandem_eventlog::{Store, Wake};

use crate::appends::sample;
use crate::row::Row;
use crate::servers::{Servers, of_a_process, pool};
use crate::tandem::{Settings, memory_of};

/// What the gateway's pacing makes of the 25 calls a second that Stripe allows to an endpoint: five at once, and then 20 a
/// second, so that there are never more than 25 within any second.
const AT_ONCE: f64 = 5.0;
const PER_SECOND: f64 = 20.0;

/// Objects on a page.
const PAGE: f64 = 100.0;

/// How many customers are made at once.
const SIDE_BY_SIDE: usize = 16;

/// With so many customers on each side.
pub async fn measure(servers: &Servers, customers: u32) -> anyhow::Result<Vec<Row>> {
    let url = servers.database("surveys").await?;
    let sim = Sim::start(Options::default()).await?;
    let settings = Settings::new(servers, &url, "SURVEYS")?.paced_stripe(&sim.url());
    watched(&settings, &["migrate"]).await?;
    let database = pool(&url, 2).await?;
    populate_here(servers, &url, &database, customers).await?;
    let stripe = sim.control();
    let create = |n: u32| {
        let stripe = &stripe;
        async move {
            let email = format!("ADA.{n}@analytical.example");
            let fields =
                [("name", "Ada Lovelace"), ("email", &email), ("phone", "+44 20 7946 0958"), ("metadata[plan]", "pro")];
            stripe.create(&fields).await.map(|_| ())
        }
    };
    let made = stream::iter(0..customers).map(create).buffer_unordered(SIDE_BY_SIDE);
    made.try_for_each(|()| async { Ok(()) }).await.context("the local Stripe")?;

    let planned = watched(&settings, &["plan", "stripe"]).await?;
    link_all(&database, customers).await?;
    let verified = watched(&settings, &["verify", "stripe"]).await?;

    let allowed = ((f64::from(customers) / PAGE).ceil() - AT_ONCE) / PER_SECOND;
    let row = |what: &str, took: Duration| {
        Row::new("f", format!("{what} of {customers} customers a side"), took.as_secs_f64(), "s")
            .against(allowed)
            .at_most(1.1)
    };
    Ok(vec![
        row("tandem plan", planned.took),
        row("tandem verify", verified.took),
        Row::new("e", "memory of tandem plan, at most", planned.memory, "MiB").below(150.0),
        Row::new("e", "memory of tandem verify, at most", verified.memory, "MiB").below(150.0),
    ])
}

async fn populate_here(servers: &Servers, url: &str, database: &PgPool, customers: u32) -> anyhow::Result<()> {
    let nats = async_nats::connect(servers.nats_url()).await?;
    let store = Store::new(&of_a_process(url)?, Wake::new(nats, "SURVEYS"), upcasters);
    let first = sample(&store, database).await?.swap_remove(0);
    sqlx::query(
        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
         SELECT aggregate_type, gen_random_uuid()::text, sequence, event_type, event_version,
                replace(payload::text, 'ada.lovelace', 'ada.' || n)::jsonb, metadata, gen_random_uuid()
         FROM generate_series(0, $1) AS n CROSS JOIN (SELECT * FROM events WHERE aggregate_id = $2 AND sequence = 1) AS e",
    )
    .bind(i32::try_from(customers)? - 1)
    .bind(&first.aggregate_id)
    .execute(database)
    .await?;
    // What was only the sample.
    sqlx::query("DELETE FROM events WHERE aggregate_id = $1").bind(&first.aggregate_id).execute(database).await?;
    Ok(())
}

/// As `tandem apply` and `tandem serve` would leave it, without their calls, which the pace makes long.
async fn link_all(database: &PgPool, customers: u32) -> anyhow::Result<()> {
    let linked = sqlx::query(
        "INSERT INTO links (gateway, customer_id, remote_id, base, base_from, base_until)
         SELECT 'stripe', customer_id, remote_id, there, now(), now() FROM plan_items WHERE action = 'link'",
    )
    .execute(database)
    .await?;
    ensure!(linked.rows_affected() == u64::from(customers), "the plan links {} pairs", linked.rows_affected());
    // The emails differ in case.
    sqlx::query("UPDATE events SET payload = replace(payload::text, 'ada.', 'ADA.')::jsonb").execute(database).await?;
    Ok(())
}

struct Watched {
    took: Duration,
    /// The most that it held, in MiB.
    memory: f64,
}

/// Runs a command to its end.
async fn watched(settings: &Settings, arguments: &[&str]) -> anyhow::Result<Watched> {
    let mut command = settings.command(arguments)?;
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn()?;
    let mut memory = 0.0_f64;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // It may have ended just now.
        memory = memory.max(memory_of(child.id(), "VmHWM:").unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let took = start.elapsed();
    let output = child.wait_with_output()?;
    ensure!(status.success(), "tandem {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Watched { took, memory })
}
