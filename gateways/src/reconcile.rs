//! Bringing one link in step: settle, observe, merge, push, until nothing differs.

mod edit_times;
mod merge;
mod observe;
mod push;
mod settle;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};
use tandem_domain::{Customer, CustomerError, GatewayName, Policy};
use tandem_eventlog::{ExecuteError, Store, StoreError};

use crate::link::{self, Link};
use crate::{CallError, Clock, Deletes, Gateway};

/// How many rounds one run takes before it lets others have a turn. Two are usual: push, then find nothing.
const ROUNDS: usize = 8;

/// Brings a leased link in step. Begin it again after a crash at any point, and it ends the same.
///
/// Each step ends in one transaction, which holds the link by its lease token: the aggregate's events, what the remote
/// was seen to hold, the inbox rows and the intent that this settles.
///
/// # Errors
/// [`RunError`] says when to try again. The link stays due.
pub(crate) async fn reconcile(run: &mut Run<'_>) -> Result<(), RunError> {
    for _ in 0..ROUNDS {
        // An open call first: nobody knows what the remote holds while it is out.
        settle::settle(run).await?;
        // What the remote is known to hold now, merged into the catalog. One transaction.
        if let Some(observation) = observe::observe(run).await? {
            merge::merge(run, observation).await?;
        }
        // What it must be told. The intent is stored here and sent by the next round's settling.
        if !push::push(run).await? {
            return Ok(());
        }
    }
    Err(RunError::Restless)
}

/// What every run of one gateway needs.
#[derive(Clone)]
pub(crate) struct Reconciler {
    pub pool: PgPool,
    pub store: Store<Customer>,
    pub gateway: Arc<dyn Gateway>,
    pub policy: Policy,
    pub deletes: Deletes,
    pub lease: Duration,
    pub clock: Clock,
}

/// One run: a link under a lease.
pub(crate) struct Run<'a> {
    pub with: &'a Reconciler,
    pub link: Link,
}

impl Run<'_> {
    fn gateway(&self) -> &dyn Gateway {
        self.with.gateway.as_ref()
    }

    fn name(&self) -> &GatewayName {
        self.with.gateway.name()
    }

    fn now(&self) -> DateTime<Utc> {
        (self.with.clock)()
    }

    /// A transaction that holds the link. Nothing is written under a lease that is lost.
    async fn begin(&self) -> Result<PgTransaction<'static>, RunError> {
        let mut tx = self.with.pool.begin().await?;
        link::hold(&mut tx, &self.link, self.with.lease).await?;
        Ok(tx)
    }

    /// Waits for a call, and keeps the lease while it lasts.
    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<Result<T, CallError>, RunError> {
        let mut call = std::pin::pin!(call);
        loop {
            let mut tx = link::forgettable(&self.with.pool).await?;
            link::hold(&mut tx, &self.link, self.with.lease).await?;
            tx.commit().await?;
            if let Ok(done) = tokio::time::timeout(self.with.lease / 3, &mut call).await {
                return Ok(done);
            }
        }
    }
}

/// Why a run ended before nothing differed, and when to try again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Somebody else works on the link now: leave it to them.
    #[error("the lease is lost")]
    LeaseLost,
    /// The gateway: again after a while.
    #[error("the gateway did not do it")]
    Call(#[from] CallError),
    /// PostgreSQL: again after a while.
    #[error("the database is unavailable")]
    Database(#[from] sqlx::Error),
    /// The event log: again after a while.
    #[error("the event log did not do it")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Both sides kept changing: again, after others had a turn.
    #[error("both sides keep changing")]
    Restless,
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        Self::Log(error.into())
    }
}

impl From<ExecuteError<CustomerError>> for RunError {
    fn from(error: ExecuteError<CustomerError>) -> Self {
        Self::Log(error.into())
    }
}
