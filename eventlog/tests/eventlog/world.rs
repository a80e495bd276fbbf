//! What a test needs: a database, a stream of its own, a store, and waiting for what is to come.

use crate::counter::{Command, Counter, TooLittle};
use async_nats::Client;
use async_nats::jetstream;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, PgTransaction};
use std::str::FromStr;
use std::time::Duration;
use tandem_eventlog::{
    Connections, Context, ExecuteError, Executed, Feed, Loaded, Relay, RelayStatus, Store, Wake, migrate, stream,
};
use tandem_local::test::Looks;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long anything may take before a test gives up on it. In the zoo nobody wants to wait.
pub fn patience() -> Duration {
    let set = std::env::var("TANDEM_TEST_PATIENCE_S").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(set.unwrap_or(60))
}

pub struct World {
    pub pool: PgPool,
    pub nats: Client,
    pub nats_url: String,
    pub feed: Feed,
    pub store: Store<Counter>,
}

impl World {
    /// On the servers that all tests share.
    pub async fn new() -> Self {
        Self::on(&tandem_local::test::database().await.url, &tandem_local::test::nats().await).await
    }

    pub async fn on(database_url: &str, nats_url: &str) -> Self {
        let pool = pool(database_url).await;
        migrate(&pool).await.unwrap();
        let id = Uuid::new_v4().simple();
        let feed = Feed { stream: format!("TEST_{id}"), root: format!("test_{id}"), replicas: 1 };
        let nats = connect(nats_url).await;
        let store = store(&pool, &nats, &feed);
        Self { pool, nats, nats_url: nats_url.to_owned(), feed, store }
    }

    pub fn relay(&self) -> RunningRelay {
        self.relay_by(self.nats.clone())
    }

    /// A relay with a NATS connection of its own.
    pub fn relay_by(&self, nats: Client) -> RunningRelay {
        self.relay_on(self.pool.clone(), nats)
    }

    /// A relay with connections of its own.
    pub fn relay_on(&self, pool: PgPool, nats: Client) -> RunningRelay {
        let relay = Relay::new(pool, nats, self.feed.clone(), self.store.wake().clone());
        let status = relay.status();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(relay.run(shutdown.clone()));
        RunningRelay { status, shutdown, task }
    }

    /// Adds to a new counter that many times, each an event.
    pub async fn count(&self, times: u32) -> String {
        let id = Uuid::new_v4().to_string();
        self.store.execute(&id, Command::Count(times), Context::from_origin("test")).await.unwrap();
        id
    }

    pub async fn add(&self, id: &str, by: i64) {
        self.store.execute(id, Command::Add(by), Context::from_origin("test")).await.unwrap();
    }

    pub async fn stream_last(&self) -> Option<u64> {
        let stream = jetstream::new(self.nats.clone()).get_stream(&self.feed.stream).await.ok()?;
        Some(stream.cached_info().state.last_sequence)
    }

    /// Waits until the stream has that many messages, then compares it with the database.
    pub async fn settles_at(&self, last: u64) {
        eventually(&format!("the stream is at {last}"), async || self.stream_last().await == Some(last)).await;
        let report = stream::check(&self.pool, &self.nats, &self.feed).await.unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!((report.database_last, report.stream_last, report.unnumbered), (last, last, 0), "{report:?}");
    }
}

pub struct RunningRelay {
    pub status: watch::Receiver<RelayStatus>,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<()>,
}

impl RunningRelay {
    /// As a killed process: nothing is finished, nothing is given back in order.
    pub async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub async fn reaches(&self, what: &str, reached: impl Fn(&RelayStatus) -> bool) -> RelayStatus {
        let mut status = self.status.clone();
        match tokio::time::timeout(patience(), status.wait_for(|status| reached(status))).await {
            Ok(status) => status.unwrap().clone(),
            Err(_) => panic!("the relay never {what}: {:?}", self.status.borrow()),
        }
    }
}

pub async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(40)
        // A test's own questions do not survive a broken connection.
        .test_before_acquire(true)
        .connect_with(PgConnectOptions::from_str(url).unwrap())
        .await
        .unwrap()
}

/// One server, or several separated by commas.
pub async fn connect(urls: &str) -> Client {
    let options = async_nats::ConnectOptions::new()
        .reconnect_delay_callback(|_| Duration::from_millis(20))
        .retry_on_initial_connect();
    let servers: Vec<&str> = urls.split(',').collect();
    options.connect(&servers[..]).await.unwrap()
}

/// Those of a process beside that pool, to the same database.
pub fn connections(pool: &PgPool) -> Connections {
    Connections::new(20, pool.options().clone().test_before_acquire(false), (*pool.connect_options()).clone())
}

pub fn store(pool: &PgPool, nats: &Client, feed: &Feed) -> Store<Counter> {
    Store::new(&connections(pool), Wake::new(nats.clone(), &feed.stream), Vec::new)
}

/// Waits for a condition, never for time.
pub async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        let mut looks = Looks::default();
        while !condition().await {
            looks.pause().await;
        }
    };
    assert!(tokio::time::timeout(patience(), waiting).await.is_ok(), "never came true: {what}");
}

/// Executes a command in that transaction.
pub async fn execute_in(
    store: &Store<Counter>,
    transaction: &mut PgTransaction<'_>,
    loaded: Loaded<Counter>,
    command: Command,
    context: Context,
) -> Result<Executed<Counter>, ExecuteError<TooLittle>> {
    let decided = loaded.decide(command, &context).await?;
    store.append_in(transaction, decided, &context).await
}
