//! `tandem serve` as a child process, with the settings that it ships with.

use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tandem_local::process::{Process, command};
use tandem_local::{Signal, port};

use crate::servers::Servers;

/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running Tandem. Killed when dropped.
pub struct Tandem {
    /// Where it answers.
    pub url: String,
    settings: Settings,
    process: Process,
}

/// What differs from the defaults: where everything is.
#[derive(Clone)]
pub struct Settings {
    environment: Vec<(&'static str, String)>,
    folder: PathBuf,
    port: u16,
}

impl Settings {
    /// With that database and stream, and with no gateway.
    pub fn new(servers: &Servers, database_url: &str, stream: &str) -> anyhow::Result<Self> {
        let port = port::free()?;
        let environment = vec![
            ("TANDEM_DATABASE__URL", database_url.to_owned()),
            ("TANDEM_NATS__URL", servers.nats_url()),
            ("TANDEM_NATS__STREAM", stream.to_owned()),
            ("TANDEM_NATS__ROOT", stream.to_lowercase()),
            ("TANDEM_HTTP__BIND", format!("127.0.0.1:{port}")),
        ];
        Ok(Self { environment, folder: servers.folder().to_owned(), port })
    }

    /// Where it takes Stripe's webhooks.
    pub fn webhook_url(&self) -> String {
        format!("http://127.0.0.1:{}/webhooks/stripe", self.port)
    }

    /// With a Stripe whose rate limits are off: the pace that Stripe allows is not Tandem's speed.
    pub fn stripe(mut self, url: &str, webhook_secret: &str) -> Self {
        self.environment.extend([
            ("TANDEM_STRIPE__API_BASE", format!("{url}/")),
            ("TANDEM_STRIPE__SECRET_KEY", "sk_test_bench".to_owned()),
            ("TANDEM_STRIPE__WEBHOOK_SECRETS", webhook_secret.to_owned()),
            ("TANDEM_STRIPE__REQUESTS_PER_SECOND", "10000".to_owned()),
            // It edits everybody, as a bad script would.
            ("TANDEM_STRIPE__GUARD_CHANGES_PERCENT", "0".to_owned()),
            ("TANDEM_STRIPE__ENDPOINT_REQUESTS_PER_SECOND", "10000".to_owned()),
        ]);
        self
    }

    /// With a setting of its own.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// With a Stripe whose rate limits are kept: those of a test account.
    pub fn paced_stripe(mut self, url: &str) -> Self {
        self.environment.extend([
            ("TANDEM_STRIPE__API_BASE", format!("{url}/")),
            ("TANDEM_STRIPE__SECRET_KEY", "sk_test_bench".to_owned()),
        ]);
        self
    }

    /// `tandem` with these arguments.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<std::process::Command> {
        let mut command = command(&program()?, &[]);
        // Where no tandem.toml of the caller's changes what is measured.
        command.current_dir(&self.folder).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(arguments);
        Ok(command)
    }
}

impl Tandem {
    /// Starts it and waits until it is ready.
    pub async fn start(settings: Settings, http: &reqwest::Client) -> anyhow::Result<Self> {
        let url = format!("http://127.0.0.1:{}", settings.port);
        let log = settings.folder.join(format!("tandem-{}.log", settings.port));
        let process = Process::start("tandem", settings.command(&["serve"])?, &log)?;
        let mut tandem = Self { url, settings, process };
        let start = Instant::now();
        while !http.get(tandem.at("/readyz")).send().await.is_ok_and(|answer| answer.status().is_success()) {
            let ended = tandem.process.ended();
            if ended.is_some() || start.elapsed() > PATIENCE {
                let tail = tandem_local::process::tail(&log, 20);
                bail!("tandem serve is not ready ({ended:?}):\n{tail}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(tandem)
    }

    /// Another with the same settings and some more.
    pub async fn started_again(
        &self,
        settings: &[(&'static str, &str)],
        http: &reqwest::Client,
    ) -> anyhow::Result<Self> {
        let mut all = self.settings.clone();
        for (name, value) in settings {
            all = all.with(name, value);
        }
        Self::start(all, http).await
    }

    /// The address of a path.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// What it holds in memory, in MiB: its resident set, as Linux tells it.
    pub fn memory(&self) -> anyhow::Result<f64> {
        memory_of(self.process.id(), "VmRSS:")
    }

    /// Runs another `tandem` command with the same settings, which must end well, and returns how long it took.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<Duration> {
        let (output, took) = self.ran(arguments).await?;
        ensure!(output.status.success(), "tandem {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(took)
    }

    /// The same, for one that may find something amiss.
    pub async fn found(&self, arguments: &[&str]) -> anyhow::Result<Duration> {
        Ok(self.ran(arguments).await?.1)
    }

    async fn ran(&self, arguments: &[&str]) -> anyhow::Result<(Output, Duration)> {
        let mut command = self.settings.command(arguments)?;
        let start = Instant::now();
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        Ok((output, start.elapsed()))
    }

    /// Stops it as an operator would.
    pub fn stop(&mut self) {
        self.process.stop(Signal::TERM, Duration::from_secs(20));
    }
}

/// What Linux says of a process's memory, in MiB: `VmRSS:` what it holds, `VmHWM:` the most that it held.
pub fn memory_of(process: u32, what: &str) -> anyhow::Result<f64> {
    let file = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&file).with_context(|| format!("could not read {file}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)).with_context(|| format!("no {what}"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// Beside this program.
fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("tandem");
    ensure!(program.is_file(), "{} is missing: run `make bench`", program.display());
    Ok(program)
}
