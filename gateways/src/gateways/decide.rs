//! What a person decides, each once for its key.

use tandem_domain::GatewayName;
use tandem_eventlog::{CommandKey, OnceError, begin_once};
use tracing::info;

use super::Gateways;
use crate::link::Priority;
use crate::{Direction, ParkedError, Verdict, VerdictError, deletions, join, parked, pause};

impl Gateways {
    /// Tries a parked thing again. False if that was done before, under this key.
    ///
    /// # Errors
    /// [`ParkedError`].
    pub async fn retry(&self, id: i64, key: Option<&CommandKey>) -> Result<bool, ParkedError> {
        let Some(mut tx) = begin_once(&self.pool, key).await? else { return Ok(false) };
        parked::retry(&mut tx, id, Priority::Live).await?;
        tx.commit().await?;
        self.due.ring();
        self.inbox.wake.ring();
        Ok(true)
    }

    /// Links what is parked as ambiguous to its twin: the only candidate, or the chosen one. False if that was done
    /// before, under this key.
    ///
    /// # Errors
    /// [`ParkedError`].
    pub async fn link(&self, id: i64, chosen: Option<&str>, key: Option<&CommandKey>) -> Result<bool, ParkedError> {
        let Some(mut tx) = begin_once(&self.pool, key).await? else { return Ok(false) };
        join::link(&mut tx, id, chosen).await?;
        tx.commit().await?;
        self.due.ring();
        self.inbox.wake.ring();
        Ok(true)
    }

    /// Lets a parked thing be. False if that was done before, under this key.
    ///
    /// # Errors
    /// [`ParkedError`].
    pub async fn dismiss(&self, id: i64, key: Option<&CommandKey>) -> Result<bool, ParkedError> {
        let Some(mut tx) = begin_once(&self.pool, key).await? else { return Ok(false) };
        parked::dismiss(&mut tx, id).await?;
        tx.commit().await?;
        self.due.ring();
        Ok(true)
    }

    /// Decides about a parked deletion. False if that was done before, under this key; saying the same once more changes
    /// nothing.
    ///
    /// # Errors
    /// [`VerdictError`].
    pub async fn decide(&self, id: i64, verdict: Verdict, key: Option<&CommandKey>) -> Result<bool, VerdictError> {
        let Some(mut tx) = begin_once(&self.pool, key).await? else { return Ok(false) };
        deletions::decide(&mut tx, id, verdict).await?;
        tx.commit().await?;
        info!(parked.id = id, verdict = verdict.as_str(), "a person decided about a deletion");
        self.due.ring();
        Ok(true)
    }

    /// Pauses a direction of a gateway, or both. False if that was done before, under this key.
    ///
    /// # Errors
    /// [`OnceError`].
    pub async fn pause(
        &self,
        gateway: &GatewayName,
        direction: Option<Direction>,
        reason: &str,
        key: Option<&CommandKey>,
    ) -> Result<bool, OnceError> {
        let Some(mut tx) = begin_once(&self.pool, key).await? else { return Ok(false) };
        pause::store(&mut *tx, gateway, direction, reason, "person").await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Lets a direction of a gateway go on, or both. False if that was done before, under this key.
    ///
    /// # Errors
    /// [`OnceError`].
    pub async fn resume(
        &self,
        gateway: &GatewayName,
        direction: Option<Direction>,
        key: Option<&CommandKey>,
    ) -> Result<bool, OnceError> {
        let Some(mut tx) = begin_once(&self.pool, key).await? else { return Ok(false) };
        pause::resume_in(&mut tx, gateway, direction).await?;
        tx.commit().await?;
        self.resumed.notify_waiters();
        Ok(true)
    }
}
