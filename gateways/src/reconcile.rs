//! Bringing one link in step: settle, observe, merge, push, until nothing differs.

mod at_once;
mod deletions;
mod echoes;
mod edit_times;
mod history;
mod merge;
mod observe;
mod order;
mod push;
mod settle;
mod twins;
mod unreadable;

pub(crate) use at_once::take_in;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::{Either, select};
use tandem_domain::{Customer, CustomerError, GatewayName, Policies, Profile};
use tandem_eventlog::{ExecuteError, Executed, Loaded, StoreError};

use crate::crossed::crossed;
use crate::inbox::Row;
use crate::intent::Intent;
use crate::ledger::{Change, Ledger, NotCommitted, Step};
use crate::link::Link;
use crate::timer::Timer;
use crate::{CallError, Clock, Deletes, Direction, Filter, Gateway, Matching, error_chain};

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
    match rounds(run).await {
        Err(RunError::Call(error)) => {
            unreadable::park(run, error).await?;
            Ok(held(run, &run.load().await?))
        }
        Err(RunError::Corrupt(error)) => {
            unreadable::park_stored(run, error_chain(&*error)).await?;
            Ok(0)
        }
        ended => ended,
    }
}

async fn rounds(run: &mut Run<'_>) -> Result<usize, RunError> {
    let (mut open, mut told, mut customer) = run.with.ledger.look_around(&run.link).await?;
    for _ in 0..ROUNDS {
        // An open call first: nobody knows what the remote holds while it is out.
        if let Some(intent) = open {
            may_go_on(run, Some(&intent), &told).await?;
            settle::settle(run, &intent).await?;
            (told, customer) = run.with.ledger.look_again(&run.link).await?;
        }
        if deletions::waits(run, &mut told, &mut customer).await? {
            return Ok(held(run, &customer));
        }
        may_go_on(run, None, &told).await?;
        // What the remote is known to hold now, merged into the catalog. One transaction.
        if let Some(observation) = observe::observe(run, told).await?
            && let Some(observation) = twins::may_be_imported(run, observation, &customer).await?
        {
            customer = merge::merge(run, observation, customer).await?;
        }
        // What it must be told. The intent is stored here and sent by the next round's settling.
        open = push::push(run, &customer).await?;
        if open.is_none() {
            return Ok(held(run, &customer));
        }
        told = vec![];
    }
    Err(RunError::Restless)
}

/// Whether a run may begin, or go on: with an open call it would send, with news it would take in.
async fn may_go_on(run: &Run<'_>, open: Option<&Intent>, told: &[Row]) -> Result<(), RunError> {
    if open.is_some() {
        run.link.may(Direction::Outbound)?;
    }
    // What waits inbound also keeps a push back: it might write over it.
    match run.link.may(Direction::Inbound) {
        Err(paused) if run.link.look || observe::is_news(run, open, told).await? => Err(paused),
        _ => Ok(()),
    }
}

/// On how many fields both sides differ until a person decides.
fn held(run: &Run<'_>, customer: &Loaded<Customer>) -> usize {
    customer.aggregate.held(run.name()).count()
}

/// What every run of one gateway needs.
#[derive(Clone)]
pub(crate) struct Reconciler {
    pub ledger: Arc<dyn Ledger>,
    pub gateway: Arc<dyn Gateway>,
    /// The same, for links for which nobody waits.
    pub in_bulk: Arc<dyn Gateway>,
    pub policies: Policies,
    pub deletes: Deletes,
    pub filter: Option<Filter>,
    pub matching: Matching,
    pub lease: Duration,
    pub clock: Clock,
    pub timer: Arc<dyn Timer>,
}

/// One run: a link under a lease, or at rest.
pub(crate) struct Run<'a> {
    pub with: &'a Reconciler,
    pub link: Link,
    /// When the lease was last known to be ours, by the timer; `None` if there is none.
    held: Option<Duration>,
    /// When it began, by the timer.
    began: Duration,
}

impl<'a> Run<'a> {
    /// A link that was leased just now.
    pub fn new(with: &'a Reconciler, link: Link) -> Self {
        let began = with.timer.reading();
        Self { with, link, held: Some(began), began }
    }

    /// A link that was not leased: no call is made.
    fn without_lease(with: &'a Reconciler, link: Link) -> Self {
        Self { with, link, held: None, began: with.timer.reading() }
    }

    /// What the link was due for has crossed in that direction. Without a lease nothing has, before it is stored.
    fn crossed(&self, direction: Direction) {
        if self.held.is_some() {
            let since_began = self.with.timer.reading().saturating_sub(self.began);
            crossed(self.name(), direction, self.link.due_for + since_began);
        }
    }

    fn gateway(&self) -> &'a dyn Gateway {
        if self.link.bulk { self.with.in_bulk.as_ref() } else { self.with.gateway.as_ref() }
    }

    fn name(&self) -> &GatewayName {
        self.with.gateway.name()
    }

    fn now(&self) -> DateTime<Utc> {
        (self.with.clock)()
    }

    /// What the remote was last seen to hold.
    fn known(&self) -> Profile {
        self.link.base.as_ref().map(|base| base.profile.clone()).unwrap_or_default()
    }

    async fn load(&self) -> Result<Loaded<Customer>, RunError> {
        self.with.ledger.load(self.link.customer_id).await
    }

    /// Ends a step. Nothing is written under a lease that is lost.
    async fn commit(&mut self, step: Step) -> Result<Option<Executed<Customer>>, NotCommitted> {
        let asked = self.with.timer.reading();
        let executed = self.with.ledger.commit(&self.link, step).await?;
        self.held = self.held.and(Some(asked));
        self.link.step += 1;
        Ok(executed)
    }

    /// Stores these together, and nothing that the customer must decide.
    async fn store(&mut self, changes: impl IntoIterator<Item = Change>) -> Result<(), RunError> {
        self.commit(Step::of(changes)).await?;
        Ok(())
    }

    /// Waits for a call, and keeps the lease while it lasts.
    async fn call<T>(
        &mut self,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<Result<T, CallError>, RunError> {
        let mut call = std::pin::pin!(call);
        loop {
            // A lease that was ours a moment ago still is: it lasts longer than any call.
            let asked = self.with.timer.reading();
            let held = self.held.ok_or(RunError::LeaseLost)?;
            if asked.saturating_sub(held) > self.with.lease / 6 {
                self.with.ledger.hold(&self.link).await?;
                self.held = Some(asked);
                self.link.step += 1;
            }
            if let Either::Left((done, _)) = select(&mut call, self.with.timer.wait(self.with.lease / 3)).await {
                return Ok(done);
            }
        }
    }
}

/// Why a run ended before nothing differed, and when to try again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Somebody else works on the link now: leave it to them. Or there was no lease.
    #[error("the lease is lost")]
    LeaseLost,
    /// The gateway: again after a while.
    #[error("the gateway did not do it")]
    Call(#[from] CallError),
    /// PostgreSQL: again after a while.
    #[error("the database is unavailable")]
    Database(#[source] sqlx::Error),
    /// Events or rows that are stored cannot be read, or new ones cannot be stored: repeating cannot help, a person must look, or
    /// another version of Tandem.
    #[error("what is stored cannot be read")]
    Corrupt(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The customer refuses what follows from what was seen. A fault of ours: again after a while.
    #[error("the customer does not allow it")]
    Refused(#[source] CustomerError),
    /// The feed has not told of all that has happened here: again after a while.
    #[error("the feed is behind")]
    Behind,
    /// A fault of ours: again after a while.
    #[error("the run panicked: the log says where")]
    Panicked,
    /// Somebody, or the guard, paused a direction that it needs: again when that is resumed.
    #[error("{0} is paused")]
    Paused(Direction),
    /// Both sides kept changing: again, after others had a turn.
    #[error("both sides keep changing")]
    Restless,
}

impl From<sqlx::Error> for RunError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt(error.into()),
            error => Self::Database(error),
        }
    }
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(error) => Self::Database(error),
            StoreError::Corrupt(_) | StoreError::NoSuchVersion { .. } => Self::Corrupt(error.into()),
        }
    }
}

impl From<ExecuteError<CustomerError>> for RunError {
    fn from(error: ExecuteError<CustomerError>) -> Self {
        match error {
            ExecuteError::Unavailable(error) => Self::Database(error),
            ExecuteError::Corrupt(_) => Self::Corrupt(error.into()),
            ExecuteError::Refused(refusal) => Self::Refused(refusal),
            // Others were there before. No command of a run has a key.
            ExecuteError::Conflict | ExecuteError::VersionMismatch { .. } | ExecuteError::KeyReused => Self::Restless,
        }
    }
}
