//! Taking a webhook.

use chrono::{DateTime, Utc};
use http::HeaderMap;
use tandem_domain::GatewayName;
use tandem_eventlog::zoo::plays;
use tandem_eventlog::{Disk, Relaxed, Wake, crash};
use tracing::Instrument;

use super::Gateways;
use crate::inbox::Stored;
use crate::worker::{Runs, Turn};
use crate::{Foreign, Notice, RemoteChange, WebhookError, inbox};

impl Gateways {
    /// Whether a webhook with these headers may be accepted, whatever its body.
    ///
    /// # Errors
    /// [`AcceptError`], as [`Gateways::accept`] would say.
    pub fn expects(&self, name: &str, headers: &HeaderMap, now: DateTime<Utc>) -> Result<(), AcceptError> {
        let one = self.configured.iter().find(|one| one.gateway.name().as_str() == name);
        Ok(one.ok_or(AcceptError::UnknownGateway)?.gateway.may_be_genuine(headers, now)?)
    }

    /// Takes a webhook: verified, then stored, then answered. Acted on as soon as it is stored.
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
                crash::at("webhook-verified");
                let (inbox, name) = (self.inbox.clone(), gateway.name().clone());
                let runs = self.runs().get(&name).cloned();
                // In a task of its own: a sender that hangs up leaves no lease behind that nobody knows of.
                let storing = async move { inbox.store_one(&name, &change, runs.as_ref()).await };
                let (storing, apart) = (storing.in_current_span(), self.store.apart().clone());
                if plays("acknowledged-before-stored") {
                    tokio::spawn(async move { apart.run(storing).await });
                    return Ok(Accepted::Stored);
                }
                let new = apart.run(storing).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))?;
                crash::at("webhook-stored");
                Ok(if new { Accepted::Stored } else { Accepted::Repeated })
            }
            Notice::Ignored(kind) => Ok(Accepted::Ignored(kind)),
            Notice::Foreign(whose) => {
                self.foreign.count(gateway.name(), whose, now);
                Ok(Accepted::Foreign(whose))
            }
            Notice::Sample => Ok(Accepted::Sample),
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
    /// Of another account or mode: counted, and nothing else.
    Foreign(Foreign),
    /// The gateway tried the endpoint.
    Sample,
}

/// Why a webhook was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// No gateway has this name.
    #[error("there is no gateway of this name")]
    UnknownGateway,
    /// It is not genuine, or cannot be read.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// It could not be stored: the sender must send it again.
    #[error("the database is unavailable")]
    Unavailable(#[from] sqlx::Error),
}

/// Where changes are stored before anybody acts on them.
#[derive(Clone)]
pub(crate) struct Inbox {
    pub(super) relaxed: Relaxed,
    pub(super) disk: Disk,
    pub(super) wake: Wake,
    pub(super) due: Wake,
}

impl Inbox {
    /// Stores changes, each once. Returns how many were new. Durable when it returns; acted on as soon as they are stored.
    pub async fn store(&self, gateway: &GatewayName, changes: &[RemoteChange]) -> Result<u64, sqlx::Error> {
        let since = self.disk.session().await?;
        let new = inbox::store(self.relaxed.pool(), gateway, changes).await?;
        if new > 0 {
            self.wake.ring();
        }
        self.disk.reached(since).await?;
        Ok(new)
    }

    /// The same of one change, in less time: taken in with it, or by a run that begins at once, if there is a turn for its link.
    /// Returns whether it was new.
    async fn store_one(
        &self,
        gateway: &GatewayName,
        change: &RemoteChange,
        runs: Option<&Runs>,
    ) -> Result<bool, sqlx::Error> {
        let since = self.disk.session().await?;
        let taken_in = match runs {
            Some(runs) => runs.take_in(change).await,
            None => false,
        };
        let new = taken_in || self.store_to_be_taken_in(gateway, change, runs).await?;
        if !plays("acknowledged-before-durable") {
            // Also what had come before: whoever brought it first may be waiting still.
            self.disk.reached(since).await?;
        }
        Ok(new)
    }

    async fn store_to_be_taken_in(
        &self,
        gateway: &GatewayName,
        change: &RemoteChange,
        runs: Option<&Runs>,
    ) -> Result<bool, sqlx::Error> {
        let turn = runs.and_then(Runs::spare_turn);
        let terms = turn.as_ref().map(Turn::terms);
        let mut lent = self.relaxed.lend().await?;
        let stored = inbox::store_one(&mut lent, gateway, change, terms).await?;
        lent.give_back();
        let new = !matches!(stored, Stored::Before);
        match (stored, turn) {
            (Stored::Before, _) => {}
            (Stored::New, _) => self.wake.ring(),
            (Stored::Leased(link), Some(turn)) => turn.begin(*link),
            (Stored::Leased(_) | Stored::Routed, _) => self.due.ring(),
        }
        Ok(new)
    }
}
