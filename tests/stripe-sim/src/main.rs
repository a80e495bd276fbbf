//! `stripe-sim`: a local Stripe in a process of its own.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Parser;
use stripe_sim::{Account, Options, RateLimit, Settings, Sim};
use tokio::signal::unix::{SignalKind, signal};

/// A Stripe that runs here: customers, events and webhooks, with Stripe's wire format.
///
/// Point an SDK at it (any key that begins with sk_test_ will do), or open its page in a browser.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 12111)]
    port: u16,
    /// Send every event to this URL, signed with this secret, or with that in this file. May be given several times.
    #[arg(long, value_name = "URL=SECRET|URL=@FILE", value_parser = webhook)]
    webhook: Vec<(String, String)>,
    /// Keep everything in this file, and go on from it.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Have another account, connected to the first: call it with the header Stripe-Account. May be given several times.
    #[arg(long, value_name = "acct_…")]
    connected: Vec<String>,
    /// Trim emails and turn them to lower case.
    #[arg(long)]
    normalise_email: bool,
    /// Answer at most so many calls a second, in all and to each endpoint (Stripe's sandbox: 25).
    #[arg(long, value_name = "N")]
    rate_limit: Option<u32>,
    /// How long a change stays invisible to search, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = Settings::default().search_lag_ms)]
    search_lag_ms: u64,
}

fn webhook(text: &str) -> anyhow::Result<(String, String)> {
    let (url, secret) = text.rsplit_once('=').ok_or_else(|| anyhow!("expected URL=SECRET"))?;
    let secret = match secret.strip_prefix('@') {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("could not read {file}"))?.trim().to_owned()
        }
        None => secret.to_owned(),
    };
    Ok((url.to_owned(), secret))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let mut terminate = signal(SignalKind::terminate()).context("could not listen for SIGTERM")?;
    let port = arguments.port;
    let sim = Sim::start(arguments.into()).await.with_context(|| format!("could not start on port {port}"))?;
    println!("stripe-sim listens on {}", sim.url());
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    sim.stop().await;
    Ok(())
}

impl From<Arguments> for Options {
    fn from(arguments: Arguments) -> Self {
        let rate_limit = arguments.rate_limit.map(|limit| RateLimit { account: limit, endpoint: limit });
        Self {
            port: arguments.port,
            webhooks: arguments.webhook,
            state: arguments.state,
            accounts: arguments.connected.iter().map(|id| Account::connected(id)).collect(),
            settings: Settings {
                normalise_email: arguments.normalise_email,
                rate_limit,
                search_lag_ms: arguments.search_lag_ms,
                ..Settings::default()
            },
            ..Self::default()
        }
    }
}
