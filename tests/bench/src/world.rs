//! Tandem between its users and a local Stripe, with customers on both sides.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::json;
use sqlx::PgPool;
use stripe_sim::{Control, Options, Sim};
use uuid::Uuid;

use crate::row::Row;
use crate::servers::{Servers, pool};
use crate::tandem::{Settings, Tandem};

/// What the local Stripe signs its webhooks with.
pub const WEBHOOK_SECRET: &str = "whsec_bench";

/// The stream that everything is published to.
pub const STREAM: &str = "BENCH";

/// How many customers are born at once.
const SIDE_BY_SIDE: usize = 16;

/// How long all work may take to be done.
const PATIENCE: Duration = Duration::from_secs(120);

/// Everything that a part of the run needs.
pub struct World {
    pub tandem: Tandem,
    pub stripe: Control,
    pub database: PgPool,
    pub http: reqwest::Client,
    pub nats_url: String,
    /// Born in the catalog.
    pub born_here: Vec<Twin>,
    /// Born at Stripe: twice as many.
    pub born_there: Vec<Twin>,
    _sim: Sim,
}

/// A customer on both sides.
#[derive(Clone, Debug)]
pub struct Twin {
    pub id: Uuid,
    pub remote_id: String,
}

impl World {
    /// Starts a local Stripe and a Tandem that knows it.
    pub async fn start(servers: &Servers) -> anyhow::Result<Self> {
        Self::start_with(servers, STREAM).await
    }

    /// The same with a stream, and a database, of that name.
    pub async fn start_with(servers: &Servers, stream: &str) -> anyhow::Result<Self> {
        let url = servers.database(&stream.to_lowercase()).await?;
        let settings = Settings::new(servers, &url, stream)?;
        let webhooks = vec![(settings.webhook_url(), WEBHOOK_SECRET.to_owned())];
        let sim = Sim::start(Options { webhooks, ..Options::default() }).await?;
        let http = client()?;
        let tandem = Tandem::start(settings.stripe(&sim.url(), WEBHOOK_SECRET), &http).await?;
        let database = pool(&url, 2).await?;
        let stripe = sim.control();
        let nats_url = servers.nats_url();
        Ok(Self { tandem, stripe, database, http, nats_url, born_here: vec![], born_there: vec![], _sim: sim })
    }

    /// Makes `size` customers here and twice as many at Stripe, and waits until each is on both sides.
    pub async fn populate(&mut self, size: usize) -> anyhow::Result<Vec<Row>> {
        let start = Instant::now();
        let here: HashSet<Uuid> =
            stream::iter(0..size).map(|n| self.create(n)).buffer_unordered(SIDE_BY_SIDE).try_collect().await?;
        self.settled().await?;
        let created = size as f64 / start.elapsed().as_secs_f64();

        let start = Instant::now();
        let there = size * 2;
        let mut born = stream::iter(0..there).map(|n| self.create_there(n)).buffer_unordered(SIDE_BY_SIDE);
        while born.try_next().await?.is_some() {}
        drop(born);
        self.settled().await?;
        let imported = there as f64 / start.elapsed().as_secs_f64();

        let twins: Vec<(Uuid, String)> =
            sqlx::query_as("SELECT customer_id, remote_id FROM links WHERE remote_id IS NOT NULL ORDER BY id")
                .fetch_all(&self.database)
                .await?;
        let twins = twins.into_iter().map(|(id, remote_id)| Twin { id, remote_id });
        (self.born_here, self.born_there) = twins.partition(|twin| here.contains(&twin.id));
        let found = (self.born_here.len(), self.born_there.len());
        ensure!(found == (size, there), "{found:?} customers are on both sides, not {:?}", (size, there));
        Ok(vec![
            Row::new("b", "customers created by REST until all are at Stripe", created, "/s"),
            Row::new("b", "customers created at Stripe until all are in the catalog", imported, "/s"),
        ])
    }

    /// Waits until nothing is left to do: no webhook on its way, no inbox row, no link due, nothing unread.
    pub async fn settled(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            self.stripe.webhooks_idle().await?;
            let left = self.work_left().await?;
            if left.is_empty() {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "not settled: {left}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts Tandem, which is stopped, with these settings besides.
    pub async fn start_again(&mut self, settings: &[(&'static str, &str)]) -> anyhow::Result<()> {
        self.tandem = self.tandem.started_again(settings, &self.http).await?;
        Ok(())
    }

    /// Stops Tandem.
    pub fn stop(mut self) {
        self.tandem.stop();
    }

    async fn work_left(&self) -> anyhow::Result<String> {
        let (due, inbox, unnumbered, unread): (i64, i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM links WHERE due_seq > done_seq),
                    (SELECT count(*) FROM inbox WHERE state IN ('new', 'waiting')),
                    (SELECT count(*) FROM events WHERE position IS NULL),
                    (SELECT last_position FROM feed) - COALESCE((SELECT min(position) FROM checkpoints WHERE live), 0)",
        )
        .fetch_one(&self.database)
        .await?;
        let quiet = due + inbox + unnumbered + unread == 0;
        Ok(if quiet {
            String::new()
        } else {
            format!("{due} links, {inbox} inbox rows, {unnumbered} unnumbered, {unread} unread")
        })
    }

    async fn create(&self, n: usize) -> anyhow::Result<Uuid> {
        #[derive(Deserialize)]
        struct Created {
            id: Uuid,
        }
        let body =
            json!({"name": format!("Ada {n}"), "email": format!("ada-{n}@here.example"), "metadata": {"plan": "pro"}});
        let answer = self.http.post(self.tandem.at("/customers")).json(&body).send().await?.error_for_status()?;
        Ok(answer.json::<Created>().await?.id)
    }

    async fn create_there(&self, n: usize) -> anyhow::Result<()> {
        let (name, email) = (format!("Bob {n}"), format!("bob-{n}@there.example"));
        self.stripe.create(&[("name", &name), ("email", &email)]).await.context("the local Stripe")?;
        Ok(())
    }
}

/// An HTTP client that keeps its connections. It never leaves this machine, so it needs no certificates.
pub fn client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().tcp_nodelay(true).tls_certs_only([]).build()?)
}
