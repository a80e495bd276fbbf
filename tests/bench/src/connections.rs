//! (g) Connections that ask nothing: what each costs, and that health is told meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::StreamExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::quantiles::Quantiles;
use crate::row::Row;
use crate::servers::Servers;
use crate::tandem::{Settings, Tandem};
use crate::world::client;

/// How many are made at once.
const AT_ONCE: usize = 64;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// With so many connections, each of which has had one answer.
pub async fn measure(servers: &Servers, connections: u16) -> anyhow::Result<Vec<Row>> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let needed = u64::from(connections) + 1000;
    ensure!(maximum.is_none_or(|maximum| maximum >= needed), "`ulimit -Hn` has to be {needed} at least");

    let url = servers.database("connections").await?;
    // Longer than this takes: what is measured is what they cost while they are there.
    let settings = Settings::new(servers, &url, "CONNECTIONS")?
        .with("TANDEM_HTTP__IDLE_TIMEOUT_MS", "600000")
        .with("TANDEM_HTTP__MAX_CONNECTIONS", "20000");
    let http = client()?;
    let mut tandem = Tandem::start(settings, &http).await?;
    let address = tandem.url.strip_prefix("http://").context("an address")?.to_owned();
    let before = tandem.memory()?;
    let open = futures::stream::iter(0..connections).map(|_| idle(&address)).buffer_unordered(AT_ONCE);
    let open: Vec<anyhow::Result<TcpStream>> = open.collect().await;
    let open = open.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let after = tandem.memory()?;

    let mut times = vec![];
    for _ in 0..200 {
        let start = Instant::now();
        http.get(tandem.at("/healthz")).send().await?.error_for_status()?.bytes().await?;
        times.push(i64::try_from(start.elapsed().as_micros())?);
    }
    let health = Quantiles::of(times)?;
    let many = open.len();
    drop(open);
    tandem.stop();
    Ok(vec![
        Row::new("g", format!("memory of tandem serve with {many} idle connections"), after, "MiB").below(300.0),
        Row::new("g", "… of it for each of them", (after - before) * 1024.0 / many as f64, "KiB"),
        Row::new("g", "… /healthz meanwhile, p99", health.ms(0.99), "ms"),
    ])
}

async fn idle(address: &str) -> anyhow::Result<TcpStream> {
    let answered = async {
        let mut connection = TcpStream::connect(address).await?;
        connection.write_all(HEALTH).await?;
        let (mut text, mut buffer) = (vec![], [0; 1024]);
        while !text.ends_with(b"}") {
            let length = connection.read(&mut buffer).await?;
            ensure!(length > 0, "a connection was closed");
            text.extend_from_slice(&buffer[..length]);
        }
        Ok(connection)
    };
    tokio::time::timeout(PATIENCE, answered).await.context("no answer")?
}
