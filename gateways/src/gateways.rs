//! All gateways of this process: what they run, and what others ask of them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use metrics::gauge;
use sqlx::PgPool;
use tandem_domain::{Customer, CustomerId, GatewayName, Policies};
use tandem_eventlog::zoo::plays;
use tandem_eventlog::{Feed, Projector, ProjectorStatus, Store, Wake, crash, relaxed};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::due::{Due, hear};
use crate::inbox::Routed;
use crate::ledger::Postgres;
use crate::reconcile::Reconciler;
use crate::sweep::{Sweeping, sweep};
use crate::timer::Stopwatch;
use crate::verify::watch;
use crate::worker::Links;
use crate::{
    Deletes, Direction, Filter, Gateway, GatewayStatus, GatewaysConfig, GuardConfig, LinkStatus, Matching, Notice,
    Parked, ParkedError, Pause, RemoteChange, Sides, Verdict, VerdictError, WebhookError, deletions, error_chain,
    guard, inbox, join, link, parked, pause, status, worker,
};

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
}

/// All gateways. Cheap to clone.
#[derive(Clone)]
pub struct Gateways {
    pool: PgPool,
    relaxed: PgPool,
    nats: async_nats::Client,
    store: Store<Customer>,
    feed: Feed,
    configured: Arc<[Configured]>,
    config: GatewaysConfig,
    clock: Clock,
    inbox: Inbox,
    due: Wake,
    projectors: Arc<[(GatewayName, watch::Sender<ProjectorStatus>)]>,
}

/// Where changes are stored before anybody acts on them.
#[derive(Clone)]
pub(crate) struct Inbox {
    pool: PgPool,
    wake: Wake,
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

impl Gateways {
    /// These gateways, not yet at work.
    ///
    /// Must be called inside a Tokio runtime.
    pub fn new(
        pool: PgPool,
        nats: async_nats::Client,
        store: Store<Customer>,
        feed: Feed,
        configured: Vec<Configured>,
        config: GatewaysConfig,
        clock: Clock,
    ) -> Self {
        let inbox = Inbox { pool: pool.clone(), wake: Wake::new(nats.clone(), &format!("{}.inbox", feed.stream)) };
        let due = Wake::new(nats.clone(), &format!("{}.links", feed.stream));
        let projectors = configured.iter().map(|one| (one.gateway.name().clone(), watch::Sender::default())).collect();
        let relaxed = relaxed(&pool, pool.options().get_max_connections() / 2);
        Self { pool, relaxed, nats, store, feed, configured: configured.into(), config, clock, inbox, due, projectors }
    }

    /// Runs them until told to stop; then lets the work in hand end.
    pub async fn run(&self, shutdown: CancellationToken) {
        let leases = worker::Leases::new(rand::random());
        let mut tasks = JoinSet::new();
        // To the end: while runs end, nobody else may take their links.
        let alive = CancellationToken::new();
        let staying = tokio::spawn(worker::stay_alive(self.pool.clone(), leases.clone(), alive.clone()));
        tasks.spawn(report(self.clone(), shutdown.clone()));
        for one in self.configured.iter() {
            tasks.spawn(follow(self.clone(), one.clone(), shutdown.clone()));
            let (relaxed, name) = (self.relaxed.clone(), one.gateway.name().clone());
            tasks.spawn(hear(relaxed, name, self.store.appended(), self.due.clone(), shutdown.clone()));
            tasks.spawn(route(self.clone(), one.clone(), shutdown.clone()));
            tasks.spawn(sweep_one(self.clone(), one.clone(), shutdown.clone()));
            if let Some(interval) = one.verify_interval {
                let (pool, store, gateway) = (self.pool.clone(), self.store.clone(), Arc::clone(&one.gateway));
                tasks.spawn(watch(Sides { pool, store, gateway }, interval, shutdown.clone()));
            }
            let ledger = Postgres {
                pool: self.pool.clone(),
                relaxed: self.relaxed.clone(),
                store: self.store.clone(),
                gateway: one.gateway.name().clone(),
                lease: self.config.lease(),
                guard: one.guard,
            };
            let with = Reconciler {
                ledger: Arc::new(ledger),
                gateway: Arc::clone(&one.gateway),
                policies: one.policies.clone(),
                deletes: one.deletes,
                filter: one.filter.clone(),
                matching: one.matching,
                lease: self.config.lease(),
                clock: Arc::clone(&self.clock),
                timer: Arc::new(Stopwatch::start()),
            };
            let links = Links { pool: self.pool.clone(), relaxed: self.relaxed.clone(), leases: leases.clone() };
            tasks.spawn(worker::work(with, links, self.config.workers, self.due.clone(), shutdown.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                error!(error = %error_chain(&error), "a gateway's task ended badly");
            }
        }
        alive.cancel();
        if let Err(error) = staying.await {
            error!(error = %error_chain(&error), "the lock that shows this process ended badly");
        }
    }

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

    /// Tries a parked thing again.
    ///
    /// # Errors
    /// [`ParkedError`].
    pub async fn retry(&self, id: i64) -> Result<(), ParkedError> {
        parked::retry(&self.pool, id).await?;
        self.due.ring();
        self.inbox.wake.ring();
        Ok(())
    }

    /// Links what is parked as ambiguous to its twin: the only candidate, or the chosen one.
    ///
    /// # Errors
    /// [`ParkedError`].
    pub async fn link(&self, id: i64, chosen: Option<&str>) -> Result<(), ParkedError> {
        join::link(&self.pool, id, chosen).await?;
        self.due.ring();
        Ok(())
    }

    /// Lets a parked thing be.
    ///
    /// # Errors
    /// [`ParkedError`].
    pub async fn dismiss(&self, id: i64) -> Result<(), ParkedError> {
        parked::dismiss(&self.pool, id).await?;
        self.due.ring();
        Ok(())
    }

    /// Decides about a parked deletion. Saying the same once more changes nothing.
    ///
    /// # Errors
    /// [`VerdictError`].
    pub async fn decide(&self, id: i64, verdict: Verdict) -> Result<(), VerdictError> {
        deletions::decide(&self.pool, &self.store, id, verdict).await?;
        self.due.ring();
        Ok(())
    }

    /// Pauses a direction of a gateway, or both.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn pause(
        &self,
        gateway: &GatewayName,
        direction: Option<Direction>,
        reason: &str,
    ) -> Result<(), sqlx::Error> {
        pause::pause(&self.pool, gateway, direction, reason).await
    }

    /// Lets a direction of a gateway go on, or both.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn resume(&self, gateway: &GatewayName, direction: Option<Direction>) -> Result<(), sqlx::Error> {
        pause::resume(&self.pool, gateway, direction).await?;
        self.due.ring();
        Ok(())
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

async fn follow(all: Gateways, one: Configured, shutdown: CancellationToken) {
    let due = Due::new(one.gateway.name(), one.guard, all.due.clone());
    let projector = Projector::new(all.pool.clone(), all.nats.clone(), all.feed.clone(), due);
    let mut status = projector.status();
    let shown = all.projectors.iter().find(|(name, _)| name == one.gateway.name()).map(|(_, shown)| shown);
    let mirror = async {
        while status.changed().await.is_ok() {
            let now = status.borrow_and_update().clone();
            if let Some(shown) = shown {
                shown.send_replace(now);
            }
        }
    };
    // The projector says itself why it stopped.
    let (_, ()) = tokio::join!(projector.run(shutdown), mirror);
}

/// Routes the inbox when it is rung, and now and then.
async fn route(all: Gateways, one: Configured, shutdown: CancellationToken) {
    let mut rings = all.inbox.wake.listen().await;
    while !shutdown.is_cancelled() {
        match inbox::route(&all.relaxed, one.gateway.name()).await {
            Ok(Routed::Nothing) => {}
            Ok(Routed::All) => all.due.ring(),
            Ok(Routed::Some) => {
                all.due.ring();
                continue;
            }
            Err(error) => debug!(error = %error_chain(&error), "the inbox cannot be routed now"),
        }
        tokio::select! {
            () = rings.rung() => {}
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn sweep_one(all: Gateways, one: Configured, shutdown: CancellationToken) {
    let overlap = TimeDelta::from_std(one.sweep_overlap).unwrap_or(TimeDelta::MAX);
    let sweeping = Sweeping { interval: one.sweep_interval, overlap };
    sweep(all.pool.clone(), one.gateway.as_ref(), all.inbox.clone(), sweeping, Arc::clone(&all.clock), shutdown).await;
}

/// Shows how the gateways stand to whoever scrapes.
async fn report(all: Gateways, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        match all.status().await {
            Ok(statuses) => {
                for status in statuses {
                    let name = status.name;
                    gauge!("tandem_gateway_due_links", "gateway" => name.clone()).set(status.due as f64);
                    gauge!("tandem_gateway_lag_seconds", "gateway" => name.clone()).set(status.oldest_due_seconds);
                    gauge!("tandem_gateway_inbox", "gateway" => name.clone()).set(status.inbox as f64);
                    gauge!("tandem_gateway_parked", "gateway" => name.clone()).set(status.parked as f64);
                    for direction in Direction::ALL {
                        let paused = status.paused.iter().any(|one| one == direction.as_str());
                        gauge!("tandem_gateway_paused", "gateway" => name.clone(), "direction" => direction.as_str())
                            .set(if paused { 1 } else { 0 });
                    }
                    gauge!("tandem_gateway_contested", "gateway" => name.clone()).set(status.contested as f64);
                    let Some(verified_at) = status.verified_at else { continue };
                    gauge!("tandem_verify_compared", "gateway" => name.clone()).set(status.verify_compared as f64);
                    gauge!("tandem_verify_drift", "gateway" => name.clone()).set(status.verify_drift as f64);
                    gauge!("tandem_verify_timestamp_seconds", "gateway" => name).set(verified_at.timestamp() as f64);
                }
            }
            Err(error) => debug!(error = %error_chain(&error), "the gateways' state cannot be read now"),
        }
        for one in all.configured.iter() {
            // What is forgotten late counts for nothing.
            let _ = guard::forget(&all.pool, one.gateway.name(), one.guard).await;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
            () = shutdown.cancelled() => {}
        }
    }
}
