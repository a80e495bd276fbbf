//! All gateways of this process: what they are, and how they stand.

mod accept;
mod decide;
mod report;
mod run;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tandem_domain::{Customer, CustomerId, GatewayName, Policies};
use tandem_eventlog::{Connections, Duties, Feed, ProjectorStatus, Relaxed, Store, Wake};
use tokio::sync::{Notify, watch};

use crate::foreign::Foreigners;
use crate::worker::Runs;
use crate::{
    Deletes, Filter, Gateway, GatewayStatus, GatewaysConfig, GuardConfig, LinkStatus, Matching, Parked, Pause, link,
    parked, pause, status,
};

pub(crate) use accept::Inbox;
pub use accept::{AcceptError, Accepted};

/// Tells the time. A test's may stand still, or jump.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// One gateway with its settings.
#[derive(Clone)]
pub struct Configured {
    /// The adapter.
    pub gateway: Arc<dyn Gateway>,
    /// Who wins a conflict, field by field.
    pub policies: Policies,
    /// What deletions do.
    pub deletes: Deletes,
    /// Which customers are created there; all without one.
    pub filter: Option<Filter>,
    /// What is done about twins.
    pub matching: Matching,
    /// How much may happen at once.
    pub guard: GuardConfig,
    /// How often its list of changes is read for what the webhooks missed.
    pub sweep_interval: Duration,
    /// How far back each sweep begins before the end of the last.
    pub sweep_overlap: Duration,
    /// From one verification to the next; never if `None`.
    pub verify_interval: Option<Duration>,
    /// How long after a customer was seen to differ a verification looks again.
    pub verify_grace: Duration,
}

/// All gateways. Cheap to clone.
#[derive(Clone)]
pub struct Gateways {
    connections: Connections,
    pool: PgPool,
    relaxed: Relaxed,
    /// What this process does for all of them.
    duties: Duties,
    nats: async_nats::Client,
    store: Store<Customer>,
    feed: Feed,
    configured: Arc<[Configured]>,
    config: GatewaysConfig,
    clock: Clock,
    inbox: Inbox,
    due: Wake,
    /// A person has resumed a direction.
    resumed: Arc<Notify>,
    foreign: Arc<Foreigners>,
    projectors: Arc<[(GatewayName, watch::Sender<ProjectorStatus>)]>,
    /// Of those that are at work.
    runs: Arc<Mutex<BTreeMap<GatewayName, Runs>>>,
}

impl Gateways {
    /// These gateways, not yet at work.
    ///
    /// Must be called inside a Tokio runtime.
    pub fn new(
        connections: Connections,
        nats: async_nats::Client,
        store: Store<Customer>,
        feed: Feed,
        configured: Vec<Configured>,
        config: GatewaysConfig,
        clock: Clock,
    ) -> Self {
        let due = Wake::new(nats.clone(), &format!("{}.links", feed.stream));
        let projectors = configured.iter().map(|one| (one.gateway.name().clone(), watch::Sender::default())).collect();
        let (pool, relaxed) = (connections.pool().clone(), connections.relaxed().clone());
        let duties = connections.duties().clone();
        let inbox = Inbox {
            relaxed: relaxed.clone(),
            disk: connections.disk().clone(),
            wake: Wake::new(nats.clone(), &format!("{}.inbox", feed.stream)),
            due: due.clone(),
        };
        let (configured, runs, foreign, resumed) = (configured.into(), Arc::default(), Arc::default(), Arc::default());
        Self {
            connections,
            pool,
            relaxed,
            duties,
            nats,
            store,
            feed,
            configured,
            config,
            clock,
            inbox,
            due,
            resumed,
            foreign,
            projectors,
            runs,
        }
    }

    /// Tries at once what waits for this gateway to come back: something has changed that may let it through.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn hurry(&self, gateway: &GatewayName) -> Result<(), sqlx::Error> {
        link::hurry(&self.pool, gateway).await?;
        self.due.ring();
        Ok(())
    }

    /// How a customer stands at each gateway that has heard of it.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn links(&self, customer: CustomerId) -> Result<Vec<LinkStatus>, sqlx::Error> {
        status::links(&self.pool, customer).await
    }

    /// What waits for a person, oldest first: at one gateway or at all, after that number, at most `limit`.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn parked(&self, gateway: Option<&str>, after: i64, limit: i64) -> Result<Vec<Parked>, sqlx::Error> {
        parked::list(&self.pool, gateway, after, limit).await
    }

    /// What is paused.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn pauses(&self) -> Result<Vec<Pause>, sqlx::Error> {
        pause::pauses(&self.pool, &self.names()).await
    }

    /// The gateway of that name, if it is switched on.
    pub fn named(&self, name: &str) -> Option<&GatewayName> {
        self.configured.iter().map(|one| one.gateway.name()).find(|one| one.as_str() == name)
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<GatewayName, Runs>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> Vec<&str> {
        self.configured.iter().map(|one| one.gateway.name().as_str()).collect()
    }

    /// How each gateway stands.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn status(&self) -> Result<Vec<GatewayStatus>, sqlx::Error> {
        status::status(&self.pool, &self.names()).await
    }

    /// What each gateway's projector, which marks links due, is doing in this process.
    pub fn projectors(&self) -> Vec<(GatewayName, watch::Receiver<ProjectorStatus>)> {
        self.projectors.iter().map(|(name, status)| (name.clone(), status.subscribe())).collect()
    }
}
