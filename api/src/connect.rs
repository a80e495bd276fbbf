//! Connecting to PostgreSQL and to NATS.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{ClientError, Event};
use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use tandem_eventlog::Connections;

use crate::config::{Config, ConfigError};

/// After half a minute PostgreSQL takes a client whose host has vanished for gone, and frees what it holds: locks, and rows
/// of a transaction. By the system's own defaults it would take two hours.
const VANISHED: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "30s"),
];

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many messages of one subscription may wait here. The rest is dropped, and read from PostgreSQL: one reader who does not
/// read on must not fill the memory.
const WAITING: usize = 1024;

/// The connections of this process, none of which is made yet.
///
/// # Errors
/// The URL cannot be read.
pub(crate) fn connections(config: &Config) -> Result<Connections, ConfigError> {
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(config.database.acquire_timeout_ms))
        // A broken connection shows itself by its next statement, which every caller of ours survives.
        .test_before_acquire(false);
    let connect = options(config)?.application_name("tandem").options(VANISHED);
    Ok(Connections::new(config.database.max_connections, pool, connect))
}

/// A part of them, for a command that reads or changes a few rows.
///
/// # Errors
/// The URL cannot be read.
pub(crate) fn postgres(config: &Config) -> Result<PgPool, ConfigError> {
    Ok(connections(config)?.pool().clone())
}

/// Where PostgreSQL is.
///
/// # Errors
/// The URL cannot be read.
pub(crate) fn options(config: &Config) -> Result<PgConnectOptions, ConfigError> {
    let url = config.database.url.expose_secret();
    let is_ours = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let options = if is_ours { url.parse().ok() } else { None };
    options.ok_or_else(|| wrong("TANDEM_DATABASE__URL", "is no URL of a PostgreSQL database"))
}

/// PostgreSQL cannot be reached, or refuses us.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL at {place} (TANDEM_DATABASE__URL) cannot be used")]
pub struct Unreachable {
    place: String,
    /// Why.
    pub(crate) source: sqlx::Error,
}

/// Connects once: a pool would only say that it waited in vain.
///
/// # Errors
/// [`Unreachable`] says where, and why not.
pub(crate) async fn probe(options: &PgConnectOptions) -> Result<(), Unreachable> {
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let connecting = async { PgConnection::connect_with(options).await?.close().await };
    let connected = tokio::time::timeout(PATIENCE, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    connected.map_err(|source| Unreachable { place, source })
}

/// A client that connects in the background, and again whenever the connection breaks.
///
/// # Errors
/// A setting is wrong, or its file cannot be read.
pub(crate) async fn nats(config: &Config) -> Result<async_nats::Client, ConfigError> {
    let (servers, options) = crate::nats::options(&config.nats)?;
    let failing = Arc::new(Mutex::new(None));
    options
        .subscription_capacity(WAITING)
        .retry_on_initial_connect()
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(u64::try_from(attempts).unwrap_or(u64::MAX).saturating_mul(50).min(1000))
        })
        .event_callback(move |event| {
            let failing = Arc::clone(&failing);
            async move { tell(&event, &mut failing.lock().unwrap_or_else(PoisonError::into_inner)) }
        })
        .connect(servers)
        .await
        .map_err(|_| wrong("TANDEM_NATS__URL", "is no URL of a NATS server"))
}

/// The same, for a command that a person waits for: refused credentials or a bad certificate are told at once.
///
/// # Errors
/// A setting is wrong, or NATS refuses us. That it is away is no failure.
pub(crate) async fn nats_now(config: &Config) -> Result<async_nats::Client, Box<dyn std::error::Error + Send + Sync>> {
    let (servers, options) = crate::nats::options(&config.nats)?;
    crate::nats::probe(&servers, options).await?;
    Ok(nats(config).await?)
}

/// Logs an event; attempts that fail for the same reason as the one before, at DEBUG only.
fn tell(event: &Event, failing: &mut Option<String>) {
    match event {
        Event::Connected => {
            *failing = None;
            tracing::info!("connected to NATS");
        }
        Event::Disconnected => tracing::warn!("lost the connection to NATS; connecting again"),
        Event::ServerError(error) => tracing::warn!(%error, "NATS reports an error"),
        Event::ClientError(ClientError::Other(reason)) if failing.as_ref() != Some(reason) => {
            tracing::warn!(reason, "there is no connection to NATS; trying again and again");
            *failing = Some(reason.clone());
        }
        Event::ClientError(error) => tracing::debug!(%error, "the NATS client reports an error"),
        other => tracing::debug!(event = %other, "NATS"),
    }
}

pub(crate) fn wrong(setting: &str, reason: &str) -> ConfigError {
    ConfigError::Setting { setting: setting.to_owned(), reason: reason.to_owned() }
}
