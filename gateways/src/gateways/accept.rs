//! Taking a webhook.

use chrono::{DateTime, Utc};
use http::HeaderMap;
use sqlx::PgPool;
use tandem_domain::GatewayName;
use tandem_eventlog::zoo::plays;
use tandem_eventlog::{Wake, crash};

use super::Gateways;
use crate::{Notice, RemoteChange, WebhookError, inbox};

impl Gateways {
    /// Takes a webhook: verified, then stored, then answered. Acted on later.
    ///
    /// # Errors
    /// [`AcceptError`]: nothing is stored, and the sender sends it again.
    pub async fn accept(
        &self,
        name: &str,
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Accepted, AcceptError> {
        let one = self.configured.iter().find(|one| one.gateway.name().as_str() == name);
        let gateway = &one.ok_or(AcceptError::UnknownGateway)?.gateway;
        match gateway.verify(headers, body, now)? {
            Notice::Change(change) => {
                if plays("acknowledged-before-stored") {
                    let (inbox, name) = (self.inbox.clone(), gateway.name().clone());
                    tokio::spawn(async move { inbox.store(&name, std::slice::from_ref(&*change)).await });
                    return Ok(Accepted::Stored);
                }
                crash::at("webhook-verified");
                let new = self.inbox.store(gateway.name(), std::slice::from_ref(&*change)).await?;
                crash::at("webhook-stored");
                Ok(if new == 1 { Accepted::Stored } else { Accepted::Repeated })
            }
            Notice::Ignored(kind) => Ok(Accepted::Ignored(kind)),
        }
    }
}

/// What became of a genuine webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Stored; durable.
    Stored,
    /// It had come before.
    Repeated,
    /// Of a type that is not ours to follow.
    Ignored(String),
}

/// Why a webhook was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// No gateway has this name.
    #[error("there is no gateway of this name")]
    UnknownGateway,
    /// It is not genuine, or not for us.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// It could not be stored: the sender must send it again.
    #[error("the database is unavailable")]
    Unavailable(#[from] sqlx::Error),
}

/// Where changes are stored before anybody acts on them.
#[derive(Clone)]
pub(crate) struct Inbox {
    pub(super) pool: PgPool,
    pub(super) wake: Wake,
}

impl Inbox {
    /// Stores changes, each once. Returns how many were new.
    pub async fn store(&self, gateway: &GatewayName, changes: &[RemoteChange]) -> Result<u64, sqlx::Error> {
        let new = inbox::store(&self.pool, gateway, changes).await?;
        if new > 0 {
            self.wake.ring();
        }
        Ok(new)
    }
}
