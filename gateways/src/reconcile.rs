//! Bringing one link in step: settle, observe, merge, push, until nothing differs.

mod edit_times;
mod merge;
mod observe;
mod push;
mod settle;
mod twins;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};
use tandem_domain::{Customer, CustomerError, GatewayName, Policies};
use tandem_eventlog::{ExecuteError, Loaded, Store, StoreError};
use tokio::time::Instant;

use crate::intent::{self, Intent};
use crate::link::{self, Link};
use crate::{CallError, Clock, Deletes, Direction, Filter, Gateway, GuardConfig, Matching, guard, inbox};

/// How many rounds one run takes before it lets others have a turn. Two are usual: push, then find nothing.
const ROUNDS: usize = 8;

/// Brings a leased link in step. Begin it again after a crash at any point, and it ends the same.
///
/// Each step ends in one transaction, which holds the link by its lease token: the aggregate's events, what the remote
/// was seen to hold, the inbox rows and the intent that this settles. Returns on how many fields both sides differ until a
/// person decides.
///
/// # Errors
/// [`RunError`] says when to try again. The link stays due.
pub(crate) async fn reconcile(run: &mut Run<'_>) -> Result<usize, RunError> {
    let (mut open, mut told, mut customer) = run.look_around().await?;
    run.link.may_begin(open.is_some(), run.link.look || !told.is_empty())?;
    for _ in 0..ROUNDS {
        // An open call first: nobody knows what the remote holds while it is out.
        if let Some(intent) = open {
            settle::settle(run, &intent).await?;
            (told, customer) = run.look_again().await?;
        }
        // What the remote is known to hold now, merged into the catalog. One transaction.
        if let Some(observation) = observe::observe(run, told).await?
            && let Some(observation) = twins::may_be_imported(run, observation, &customer).await?
        {
            customer = merge::merge(run, observation, customer).await?;
        }
        // What it must be told. The intent is stored here and sent by the next round's settling.
        open = push::push(run, &customer).await?;
        if open.is_none() {
            return Ok(customer.aggregate.held(run.name()).count());
        }
        told = vec![];
    }
    Err(RunError::Restless)
}

/// What every run of one gateway needs.
#[derive(Clone)]
pub(crate) struct Reconciler {
    pub pool: PgPool,
    /// For leases, and for what is looked at again if it is lost: its commits do not wait for the disk.
    pub relaxed: PgPool,
    pub store: Store<Customer>,
    pub gateway: Arc<dyn Gateway>,
    pub policies: Policies,
    pub deletes: Deletes,
    pub filter: Option<Filter>,
    pub matching: Matching,
    pub guard: GuardConfig,
    pub lease: Duration,
    pub clock: Clock,
}

/// One run: a link under a lease.
pub(crate) struct Run<'a> {
    pub with: &'a Reconciler,
    pub link: Link,
    /// When the lease was last known to be ours.
    held: Instant,
}

impl<'a> Run<'a> {
    /// A link that was leased just now.
    pub fn new(with: &'a Reconciler, link: Link) -> Self {
        Self { with, link, held: Instant::now() }
    }

    fn gateway(&self) -> &'a dyn Gateway {
        self.with.gateway.as_ref()
    }

    fn name(&self) -> &GatewayName {
        self.with.gateway.name()
    }

    fn now(&self) -> DateTime<Utc> {
        (self.with.clock)()
    }

    /// All that a run begins with, asked for at once: the open call, what the inbox says, and the customer. What comes
    /// later marks the link due again.
    async fn look_around(&self) -> Result<(Option<Intent>, Vec<inbox::Row>, Loaded<Customer>), RunError> {
        let open = async { Ok(intent::open(&self.with.relaxed, self.link.id).await?) };
        let told = async { Ok(inbox::waiting(&self.with.relaxed, self.link.id).await?) };
        let (id, version) = (self.link.customer_id.to_string(), self.link.due_version);
        let customer = async { Ok::<_, RunError>(self.with.store.load_since(&id, version).await?) };
        tokio::try_join!(open, told, customer)
    }

    async fn look_again(&self) -> Result<(Vec<inbox::Row>, Loaded<Customer>), RunError> {
        let told = async { Ok(inbox::waiting(&self.with.relaxed, self.link.id).await?) };
        tokio::try_join!(told, self.load())
    }

    async fn load(&self) -> Result<Loaded<Customer>, RunError> {
        Ok(self.with.store.load(&self.link.customer_id.to_string()).await?)
    }

    /// A transaction that holds the link. Nothing is written under a lease that is lost.
    async fn begin(&mut self) -> Result<PgTransaction<'static>, RunError> {
        self.begin_in(&self.with.pool).await
    }

    /// The same, in a pool.
    async fn begin_in(&mut self, pool: &PgPool) -> Result<PgTransaction<'static>, RunError> {
        let mut tx = pool.begin().await?;
        link::hold(&mut *tx, &self.link, self.with.lease).await?;
        self.held = Instant::now();
        Ok(tx)
    }

    /// Counts a deletion in the transaction that makes it so. One too many pauses the direction, and nothing is deleted.
    async fn guard_deletion(
        &self,
        mut tx: PgTransaction<'static>,
        direction: Direction,
    ) -> Result<PgTransaction<'static>, RunError> {
        let Reconciler { pool, guard, .. } = self.with;
        if guard::may_delete(&mut tx, self.name(), direction, self.link.customer_id, *guard).await? {
            return Ok(tx);
        }
        tx.rollback().await?;
        guard::stop_deleting(pool, self.name(), direction, *guard).await?;
        Err(RunError::Paused(direction))
    }

    /// Waits for a call, and keeps the lease while it lasts.
    async fn call<T>(
        &mut self,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<Result<T, CallError>, RunError> {
        let mut call = std::pin::pin!(call);
        loop {
            // A lease that was ours a moment ago still is: it lasts longer than any call.
            if self.held.elapsed() > self.with.lease / 6 {
                link::hold(&self.with.relaxed, &self.link, self.with.lease).await?;
                self.held = Instant::now();
            }
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
    /// The feed has not told of all that has happened here: again after a while.
    #[error("the feed is behind")]
    Behind,
    /// Somebody, or the guard, paused a direction that it needs: again when that is resumed.
    #[error("{0} is paused")]
    Paused(Direction),
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
