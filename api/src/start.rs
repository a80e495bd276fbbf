//! Starting: waiting for PostgreSQL and NATS, and making what the service needs there.

use std::time::Duration;

use async_nats::connection::State;
use sqlx::PgPool;
use sqlx::migrate::MigrateError;
use tandem_eventlog::stream::{self, StreamError};
use tandem_eventlog::{Feed, is_transient};
use tokio::sync::watch;

use crate::config::{Config, ConfigError};
use crate::connect::{Unreachable, probe};
use crate::log::chain;
use crate::nats::{self, NatsRefused};
use crate::room::Room;

/// From one attempt to the next.
const AGAIN: Duration = Duration::from_millis(500);

/// Why the service cannot start: a person has to mend it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// PostgreSQL refuses us: the database, the user or the password is wrong.
    #[error(transparent)]
    Database(#[from] Unreachable),
    /// A setting of NATS is wrong.
    #[error("the settings are wrong")]
    Config(#[from] ConfigError),
    /// NATS refuses us, or is not the one that we trust.
    #[error("NATS cannot be used")]
    Nats(#[from] NatsRefused),
    /// The tables cannot be made or upgraded.
    #[error("the database cannot be migrated")]
    Migrate(#[source] MigrateError),
    /// The stream cannot be used.
    #[error("the stream cannot be used")]
    Stream(#[source] StreamError),
}

impl StartError {
    /// It may pass by itself.
    fn is_transient(&self) -> bool {
        match self {
            Self::Database(unreachable) => is_transient(&unreachable.source),
            Self::Migrate(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                is_transient(error)
            }
            Self::Migrate(_) | Self::Config(_) | Self::Nats(_) => false,
            Self::Stream(error) => error.is_transient(),
        }
    }
}

/// Makes all tables and the stream, waiting for PostgreSQL and NATS for as long as it takes. `waiting` says for what.
///
/// Safe to run from several processes at once.
///
/// # Errors
/// What a person has to mend; waiting would not help.
pub(crate) async fn start(
    config: &Config,
    pool: &PgPool,
    nats: &async_nats::Client,
    feed: &Feed,
    waiting: &watch::Sender<Option<String>>,
) -> Result<(), StartError> {
    until_done(waiting, || migrate(pool)).await?;
    match Room::read(pool).await {
        Ok(room) => {
            if let Some(lack) = room.lack(config.database.max_connections) {
                tracing::warn!("{lack}");
            }
        }
        Err(error) => {
            tracing::debug!(error = %chain(&error), "how many connections PostgreSQL allows cannot be read now")
        }
    }
    waiting.send_replace(Some("NATS".to_owned()));
    until_done(waiting, async || {
        if nats.connection_state() != State::Connected {
            let (servers, options) = nats::options(&config.nats)?;
            nats::probe(&servers, options).await?;
        }
        stream::prepare(pool, nats, feed).await.map_err(StartError::Stream)
    })
    .await?;
    waiting.send_replace(None);
    Ok(())
}

/// Makes or upgrades all tables.
///
/// # Errors
/// [`StartError`].
pub(crate) async fn migrate(pool: &PgPool) -> Result<(), StartError> {
    probe(&pool.connect_options()).await?;
    tandem_eventlog::migrate(pool).await.map_err(StartError::Migrate)?;
    tandem_projections::migrate(pool).await.map_err(StartError::Migrate)?;
    tandem_gateways::migrate(pool).await.map_err(StartError::Migrate)
}

async fn until_done<F>(waiting: &watch::Sender<Option<String>>, attempt: impl Fn() -> F) -> Result<(), StartError>
where
    F: Future<Output = Result<(), StartError>>,
{
    let mut told = false;
    loop {
        match attempt().await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_transient() => {
                let reason = chain(&error);
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(error = %reason, "cannot start yet, and tries again");
                }
                waiting.send_replace(Some(reason));
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
}
