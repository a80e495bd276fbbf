//! A PostgreSQL and a nats-server of the run's own, with the defaults that they ship with, but for where PostgreSQL shares memory.

use std::path::Path;

use anyhow::Context;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tandem_eventlog::Connections;
use tandem_local::{Nats, NatsOptions, Postgres, PostgresOptions, Scratch, create_database, tools};

/// Both servers; gone with their data when dropped.
pub struct Servers {
    // Before their folder: they must have ended when that is removed.
    postgres: Postgres,
    nats: Nats,
    scratch: Scratch,
}

impl Servers {
    /// Starts both.
    pub async fn start() -> anyhow::Result<Self> {
        let started = tokio::task::spawn_blocking(|| -> anyhow::Result<Self> {
            let scratch = Scratch::new()?;
            let tools = tools()?;
            let postgres = Postgres::start(&tools, PostgresOptions::new(scratch.path().join("postgres")))?;
            let nats = Nats::start(&tools, NatsOptions::new(scratch.path().join("nats")))?;
            Ok(Self { postgres, nats, scratch })
        });
        started.await?.context("could not start the servers")
    }

    /// Makes an empty database and returns its URL.
    pub async fn database(&self, name: &str) -> anyhow::Result<String> {
        Ok(create_database(&self.postgres.url("postgres"), name).await?)
    }

    /// The URL of a database.
    pub fn postgres_url(&self, database: &str) -> String {
        self.postgres.url(database)
    }

    /// Where nats-server is.
    pub fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// Where all data is.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }
}

/// The connections of a process of Tandem.
pub fn of_a_process(url: &str) -> anyhow::Result<Connections> {
    Ok(Connections::new(20, PgPoolOptions::new().test_before_acquire(false), url.parse()?))
}

/// A pool as Tandem sets up its own.
pub async fn pool(url: &str, connections: u32) -> anyhow::Result<PgPool> {
    let options = PgPoolOptions::new().max_connections(connections).test_before_acquire(false);
    Ok(options.connect(url).await?)
}
