//! The workers of one gateway: lease what is due, reconcile many links at once and one link never twice.

mod runs;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tandem_eventlog::{Appended, Wake};
use tokio::sync::broadcast;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::link::{self, Link};
use crate::{due, error_chain};

#[cfg(test)]
pub(crate) use runs::wait_after;
pub(crate) use runs::{Links, Runs, Turn};

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

/// What workers listen to: that links are due, and what this process has just changed.
pub(crate) struct News {
    pub due: Wake,
    pub appended: broadcast::Receiver<Appended>,
}

/// Leases and reconciles until told to stop; then lets the runs in hand end.
pub(crate) async fn work(runs: Runs, mut news: News, shutdown: CancellationToken) {
    let mut rings = news.due.listen().await;
    let mut polls = tokio::time::interval(POLL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changed = BTreeMap::new();
    while !shutdown.is_cancelled() {
        let turns = runs.turns();
        let free = turns.len();
        let (gateway, terms) = (runs.gateway(), runs.terms(free));
        let leasing = match std::mem::take(&mut changed) {
            none if none.is_empty() && free == 0 => Ok(vec![]),
            none if none.is_empty() => link::lease(runs.relaxed(), gateway, terms).await,
            changed => {
                let leasing = due::lease_changed(runs.relaxed(), gateway, &changed, terms).await;
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
        let in_bulk = leased.iter().filter(|link| link.bulk).count();
        let full_of_bulk = in_bulk == terms.most_in_bulk;
        let more = free > 0 && leased.len() == free || in_bulk > 0 && full_of_bulk;
        for (link, turn) in leased.into_iter().zip(turns) {
            turn.begin(link);
        }
        if more {
            continue;
        }
        tokio::select! {
            now = due::heard(&mut news.appended, gateway) => changed = now,
            () = rings.rung() => {}
            _ = polls.tick() => {}
            // A turn came free while all were taken: there may be more to do.
            () = runs.freed(), if free == 0 => {}
            () = runs.freed_in_bulk(), if full_of_bulk => {}
            () = shutdown.cancelled() => {}
        }
    }
    runs.ended().await;
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
