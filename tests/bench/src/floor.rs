//! What no design could be faster than: one durable commit, one JetStream publish and delivery, one HTTP hop, one after the
//! other, with nothing around them.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::{self, consumer::pull, stream::Config};
use axum::Router;
use axum::routing::post;
use futures::StreamExt;
use sqlx::{Connection, PgConnection};
use tandem_domain::upcasters;
use tandem_eventlog::{Recorded, Store, Wake};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::appends::{insert_event, sample};
use crate::latency::Rate;
use crate::quantiles::{Quantiles, now_us};
use crate::servers::{Servers, of_a_process, pool};
use crate::world::client;

/// The bare parts, ready to be measured.
pub struct Floor {
    http: reqwest::Client,
    url: String,
    server: JoinHandle<()>,
    database: PgConnection,
    event: Recorded,
    context: jetstream::Context,
    messages: pull::Ordered,
    times: Vec<Times>,
}

/// How long each part took, in microseconds.
struct Times {
    commit: i64,
    message: i64,
    hop: i64,
}

/// What came of it.
pub struct Floors {
    pub all: Quantiles,
    pub commit: Quantiles,
    pub message: Quantiles,
    pub hop: Quantiles,
}

impl Floor {
    /// With a database, a stream and an HTTP server of its own.
    pub async fn new(servers: &Servers) -> anyhow::Result<Self> {
        let url = servers.database("floor").await?;
        let nats = async_nats::connect(servers.nats_url()).await?;
        let setup = pool(&url, 1).await?;
        tandem_eventlog::migrate(&setup).await?;
        let store = Store::new(&of_a_process(&url)?, Wake::new(nats.clone(), "FLOOR"), upcasters);
        let event = sample(&store, &setup).await?.pop().context("an event")?;
        setup.close().await;

        let context = jetstream::new(nats);
        let config = Config { name: "FLOOR".to_owned(), subjects: vec!["floor.>".to_owned()], ..Config::default() };
        let stream = context.create_stream(config).await?;
        let messages = stream.create_consumer(pull::OrderedConfig::default()).await?.messages().await?;

        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = Router::new().route("/", post(async |body: axum::body::Bytes| body.len().to_string()));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, service).await {
                eprintln!("the bare HTTP server ended: {error}");
            }
        });
        Ok(Self {
            http: client()?,
            url: format!("http://{address}/"),
            server,
            database: PgConnection::connect(&url).await?,
            event,
            context,
            messages,
            times: vec![],
        })
    }

    /// Measures at the rate at which Tandem is measured: a part that slept a while is slower.
    pub async fn measure(&mut self, rate: Rate) -> anyhow::Result<()> {
        let mut ticks = interval(rate.pause());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..rate.count() {
            ticks.tick().await;
            let times =
                tokio::time::timeout(Duration::from_secs(10), self.once()).await.context("the bare parts hang")??;
            self.times.push(times);
        }
        Ok(())
    }

    async fn once(&mut self) -> anyhow::Result<Times> {
        let body = serde_json::to_vec(&self.event.payload)?;
        let id = Uuid::now_v7().to_string();
        let start = now_us();
        insert_event(&mut self.database, &self.event, &id).await?;
        let committed = now_us();
        let acknowledged = self.context.publish(format!("floor.{id}"), body.clone().into()).await?;
        self.messages.next().await.context("the messages ended")??;
        let delivered = now_us();
        self.http.post(&self.url).body(body).send().await?.error_for_status()?.bytes().await?;
        let answered = now_us();
        acknowledged.await?;
        Ok(Times { commit: committed - start, message: delivered - committed, hop: answered - delivered })
    }

    /// What came of it.
    pub fn finish(self) -> anyhow::Result<Floors> {
        self.server.abort();
        let of = |part: fn(&Times) -> i64| Quantiles::of(self.times.iter().map(part));
        Ok(Floors {
            all: of(|times| times.commit + times.message + times.hop)?,
            commit: of(|times| times.commit)?,
            message: of(|times| times.message)?,
            hop: of(|times| times.hop)?,
        })
    }
}
