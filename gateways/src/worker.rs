//! The workers of one gateway: lease what is due, reconcile many links at once and one link never twice.

use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use metrics::counter;
use sqlx::PgPool;
use tandem_eventlog::{Appended, Wake, crash};
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info_span, warn};
use uuid::Uuid;

use crate::link::{self, Link, Terms, backoff};
use crate::reconcile::{Reconciler, Run, RunError, reconcile};
use crate::{CallError, due, error_chain, pause};

/// How long a worker that nobody wakes waits before it looks by itself: what waited out its backoff, and lost rings.
const POLL: Duration = Duration::from_millis(200);

/// What this process has leased and works on: its number among the processes, and the tokens.
///
/// The database may hold leases for us that we do not know of: the reply to our asking was lost, or we could not end
/// one. They would keep everybody from their links until they run out.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    pub holder: i32,
    running: Arc<Mutex<HashSet<Uuid>>>,
}

impl Leases {
    pub fn new(holder: i32) -> Self {
        Self { holder, running: Arc::default() }
    }

    fn begin(&self, token: Uuid) -> Running {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(token);
        Running { leases: self.clone(), token }
    }

    fn running(&self) -> Vec<Uuid> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

/// A lease that is worked on, for as long as this is there, however the run ends.
struct Running {
    leases: Leases,
    token: Uuid,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.leases.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.token);
    }
}

/// Where this process's leases are.
#[derive(Clone)]
pub(crate) struct Links {
    pub pool: PgPool,
    pub relaxed: PgPool,
    pub leases: Leases,
}

/// What workers listen to: that links are due, and what this process has just changed.
pub(crate) struct News {
    pub due: Wake,
    pub appended: broadcast::Receiver<Appended>,
}

/// Leases and reconciles until told to stop; then lets the runs in hand end.
pub(crate) async fn work(with: Reconciler, links: Links, workers: usize, mut news: News, shutdown: CancellationToken) {
    let turns = Arc::new(Semaphore::new(workers));
    let mut runs = JoinSet::new();
    let mut rings = news.due.listen().await;
    let mut polls = tokio::time::interval(POLL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changed = BTreeMap::new();
    while !shutdown.is_cancelled() {
        while runs.try_join_next().is_some() {}
        let free = turns.available_permits();
        let (name, holder) = (with.gateway.name(), links.leases.holder);
        let terms = Terms { holder, duration: with.lease, most: free };
        let leasing = match std::mem::take(&mut changed) {
            none if none.is_empty() => link::lease(&links.relaxed, name, terms).await,
            changed => {
                let leasing = due::lease_changed(&links.relaxed, name, &changed, terms).await;
                let is_leased = |customer, leased: &[Link]| leased.iter().any(|link| link.customer_id == customer);
                if leasing.as_ref().is_ok_and(|leased| !changed.keys().all(|customer| is_leased(*customer, leased))) {
                    // Other processes may have turns.
                    news.due.ring();
                }
                leasing
            }
        };
        let leased = leasing.unwrap_or_else(|error| {
            debug!(error = %error_chain(&error), "links cannot be leased now");
            vec![]
        });
        let more = free > 0 && leased.len() == free;
        for link in leased {
            let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
            let with = with.clone();
            let span = info_span!("reconcile", customer.id = %link.customer_id, gateway = %with.gateway.name());
            let (links, running) = (links.clone(), links.leases.begin(link.token));
            let run = async move {
                one(&with, &links, link).await;
                drop((running, turn));
            };
            runs.spawn(run.instrument(span));
        }
        if more {
            continue;
        }
        tokio::select! {
            now = due::heard(&mut news.appended, with.gateway.name()) => changed = now,
            () = rings.rung() => {}
            _ = polls.tick() => {}
            // A turn came free while all were taken: there may be more to do.
            Some(_) = runs.join_next(), if free == 0 => {}
            () = shutdown.cancelled() => {}
        }
    }
    while runs.join_next().await.is_some() {}
}

/// Reconciles one link and ends its lease.
async fn one(with: &Reconciler, links: &Links, link: Link) {
    let mut run = Run::new(with, link);
    // One customer's trouble holds up no other. What the run knew of the link is not used after a panic.
    let result = AssertUnwindSafe(reconcile(&mut run)).catch_unwind().await.unwrap_or(Err(RunError::Panicked));
    let gateway = with.gateway.name().to_string();
    let outcome = match &result {
        Ok(_) if run.link.refused.is_of_a_read() => "unreadable",
        Ok(_) => "settled",
        Err(RunError::Panicked) => "panicked",
        Err(RunError::LeaseLost) => "lease_lost",
        Err(RunError::Restless) => "restless",
        Err(RunError::Paused(_)) => "paused",
        Err(RunError::Behind) => "feed_behind",
        Err(RunError::Call(_)) => "gateway_unavailable",
        Err(RunError::Database(_) | RunError::Log(_)) => "database_unavailable",
    };
    counter!("tandem_reconciles_total", "gateway" => gateway.clone(), "outcome" => outcome).increment(1);
    let ended = match result {
        Ok(contested) => {
            crash::at("link-settled");
            link::release(&links.relaxed, &run.link, contested).await
        }
        Err(RunError::LeaseLost) => Ok(()),
        Err(RunError::Paused(on)) => pause::wait(&links.pool, with.gateway.name(), &run.link, on).await,
        Err(error) => {
            counter!("tandem_gateway_retries_total", "gateway" => gateway).increment(1);
            let reason = error_chain(&error);
            let wait = wait_after(&error, run.link.attempts, rand::random());
            match &error {
                RunError::Log(_) | RunError::Panicked => error!(error = %reason, "a link cannot be brought in step"),
                _ => warn!(error = %reason, wait_ms = wait.as_millis() as u64, "a link must be tried again"),
            }
            link::postpone(&links.pool, &run.link, wait, &reason).await
        }
    };
    if let Err(error) = ended {
        debug!(error = %error_chain(&error), "a lease could not be ended: it is freed when the database is back");
    }
}

/// How long a link waits after its run ended with this error.
pub(crate) fn wait_after(error: &RunError, attempts: i32, jitter: f64) -> Duration {
    let wait = backoff(attempts, jitter);
    match error {
        RunError::Restless if attempts < 3 => Duration::ZERO,
        RunError::Call(CallError::Unavailable { retry_after: Some(asked), .. }) => wait.max(*asked),
        RunError::Call(CallError::Unauthorised { .. }) => wait.max(Duration::from_secs(5)),
        RunError::Call(_)
        | RunError::Database(_)
        | RunError::Log(_)
        | RunError::LeaseLost
        | RunError::Panicked
        | RunError::Paused(_)
        | RunError::Behind
        | RunError::Restless => wait,
    }
}

/// Keeps a session lock, which shows that this process is there, and frees what nobody works on.
pub(crate) async fn stay_alive(pool: PgPool, leases: Leases, shutdown: CancellationToken) {
    let mut connection = None;
    while !shutdown.is_cancelled() {
        if let Err(error) = beat(&pool, &leases, &mut connection).await {
            debug!(error = %error_chain(&error), "the lock that shows this process is lost");
            connection = None;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

type Connection = sqlx::pool::PoolConnection<sqlx::Postgres>;

async fn beat(pool: &PgPool, leases: &Leases, kept: &mut Option<Connection>) -> Result<(), sqlx::Error> {
    let connection = match kept {
        Some(connection) => connection,
        None => {
            // Detached when dropped with its lock, or the pool would lend out a connection that shows us alive.
            let mut fresh = pool.acquire().await?;
            fresh.close_on_drop();
            link::announce(&mut *fresh, leases.holder).await?;
            kept.insert(fresh)
        }
    };
    // What runs is asked when nothing is waited for any more: what began meanwhile is no orphan.
    let freed = link::free_orphans(&mut **connection, leases.holder, &leases.running()).await?;
    if freed > 0 {
        warn!(links = freed, "freed links that were leased and nobody worked on");
    }
    Ok(())
}
