//! Runs: so many at once, each of a link that is leased for it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use metrics::counter;
use sqlx::PgPool;
use tandem_domain::GatewayName;
use tandem_eventlog::{Relaxed, crash};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tracing::{Instrument, debug, error, info_span, warn};

use super::Leases;
use crate::crossed::crossed;
use crate::link::{self, IN_BULK, Link, Terms, backoff};
use crate::reconcile::{Reconciler, Run, RunError, reconcile, take_in};
use crate::rest::{self, Resting};
use crate::{CallError, Direction, RemoteChange, error_chain, pause};

/// One gateway's runs in this process. Cheap to clone; when the last clone is dropped, its runs end wherever they are.
#[derive(Clone)]
pub(crate) struct Runs {
    with: Arc<Reconciler>,
    links: Links,
    turns: Arc<Semaphore>,
    /// Of these turns, those that may go to links for which nobody waits.
    in_bulk: Arc<Semaphore>,
    most: u32,
    in_hand: Arc<Mutex<JoinSet<()>>>,
}

/// The right to one run. Whoever leases a link has it before, so that no lease waits.
pub(crate) struct Turn<'a> {
    runs: &'a Runs,
    permit: OwnedSemaphorePermit,
}

/// Where this process's leases are.
#[derive(Clone)]
pub(crate) struct Links {
    pub pool: PgPool,
    pub relaxed: Relaxed,
    pub leases: Leases,
    pub resting: Resting,
}

impl Runs {
    /// At most so many at once.
    pub fn new(with: Reconciler, links: Links, most: u32) -> Self {
        let most_in_bulk = ((f64::from(most) * IN_BULK) as usize).max(1);
        let turns = Arc::new(Semaphore::new(most as usize));
        let in_bulk = Arc::new(Semaphore::new(most_in_bulk));
        Self { with: Arc::new(with), links, turns, in_bulk, most, in_hand: Arc::default() }
    }

    /// All turns that are free.
    pub fn turns(&self) -> Vec<Turn<'_>> {
        std::iter::from_fn(|| self.turn()).collect()
    }

    /// A turn for what has just come, while most are free: what waits longer goes first.
    pub fn spare_turn(&self) -> Option<Turn<'_>> {
        if self.turns.available_permits() > self.most as usize / 2 { self.turn() } else { None }
    }

    fn turn(&self) -> Option<Turn<'_>> {
        let permit = Arc::clone(&self.turns).try_acquire_owned().ok()?;
        Some(Turn { runs: self, permit })
    }

    /// Takes in what was told of a link that rests, without a turn or a lease, if that is all there is to do: it is stored then.
    pub async fn take_in(&self, change: &RemoteChange) -> bool {
        let Runs { with, links, .. } = self;
        let began = with.timer.reading();
        let Some(rest) = links.resting.of(&change.remote_id) else { return false };
        let gateway = with.gateway.name();
        let span = info_span!("take_in", customer.id = %rest.link.customer_id, %gateway);
        match take_in(with, rest, change).instrument(span).await {
            Ok(None) => false,
            Ok(Some(taken)) => {
                crash::at("taken-at-once");
                counter!("tandem_changes_taken_at_once_total", "gateway" => gateway.to_string()).increment(1);
                crossed(gateway, Direction::Inbound, with.timer.reading().saturating_sub(began));
                links.resting.set(&change.remote_id, Some(taken));
                true
            }
            Err(error) => {
                debug!(error = %error_chain(&error), "what was told may be stored or not");
                links.resting.set(&change.remote_id, None);
                false
            }
        }
    }

    /// Waits until a turn is free.
    pub async fn freed(&self) {
        drop(self.turns.acquire().await);
    }

    /// Waits until one is free that may go to a link for which nobody waits.
    pub async fn freed_in_bulk(&self) {
        drop(self.in_bulk.acquire().await);
    }

    /// Waits until no run is in hand. None begins after that.
    pub async fn ended(&self) {
        let _all = self.turns.acquire_many(self.most).await;
        self.turns.close();
    }

    /// How links are leased for so many turns.
    pub fn terms(&self, most: usize) -> Terms {
        let most_in_bulk = self.in_bulk.available_permits();
        Terms { holder: self.links.leases.holder, duration: self.with.lease, most, most_in_bulk }
    }

    /// Whose they are.
    pub fn gateway(&self) -> &GatewayName {
        self.with.gateway.name()
    }

    /// The connections by which links are leased.
    pub fn relaxed(&self) -> &PgPool {
        self.links.relaxed.pool()
    }
}

impl Turn<'_> {
    /// How a link is leased for it.
    pub fn terms(&self) -> Terms {
        self.runs.terms(1)
    }

    /// Reconciles a link that was leased for it.
    pub fn begin(self, link: Link) {
        let Runs { with, links, in_hand, .. } = self.runs;
        let (with, links) = (Arc::clone(with), links.clone());
        // Of no request: it goes on when that is answered.
        let span =
            info_span!(parent: None, "reconcile", customer.id = %link.customer_id, gateway = %with.gateway.name());
        let (running, permit) = (links.leases.begin(link.token), self.permit);
        // Whoever leases such links is alone in it, and leases as many as there are of these.
        let in_bulk = if link.bulk { Arc::clone(&self.runs.in_bulk).try_acquire_owned().ok() } else { None };
        let run = async move {
            one(&with, &links, link).await;
            drop((running, permit, in_bulk));
        };
        let mut in_hand = in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        while in_hand.try_join_next().is_some() {}
        in_hand.spawn(run.instrument(span));
    }
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
        Err(RunError::Database(_)) => "database_unavailable",
        Err(RunError::Corrupt(_)) => "unreadable",
        Err(RunError::Refused(_)) => "refused",
    };
    counter!("tandem_reconciles_total", "gateway" => gateway.clone(), "outcome" => outcome).increment(1);
    let ended = match result {
        Ok(contested) => {
            crash::at("link-settled");
            rest::release(&links.relaxed, &run.link, contested).await.map(|rest| {
                if let Some(remote_id) = &run.link.remote_id {
                    links.resting.set(remote_id, rest);
                }
            })
        }
        Err(RunError::LeaseLost) => Ok(()),
        Err(RunError::Paused(on)) => pause::wait(&links.pool, with.gateway.name(), &run.link, on).await,
        Err(error) => {
            counter!("tandem_gateway_retries_total", "gateway" => gateway).increment(1);
            let reason = error_chain(&error);
            let wait = wait_after(&error, run.link.attempts, rand::random());
            match &error {
                RunError::Corrupt(_) | RunError::Refused(_) | RunError::Panicked => {
                    error!(error = %reason, "a link cannot be brought in step")
                }
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
        | RunError::Corrupt(_)
        | RunError::Refused(_)
        | RunError::LeaseLost
        | RunError::Panicked
        | RunError::Paused(_)
        | RunError::Behind
        | RunError::Restless => wait,
    }
}
