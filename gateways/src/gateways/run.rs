//! What runs for the gateways.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tandem_eventlog::Projector;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::report::report;
use super::{Configured, Gateways};
use crate::due::Due;
use crate::inbox::Routed;
use crate::ledger::Postgres;
use crate::parked::Unread;
use crate::reconcile::Reconciler;
use crate::rest::Resting;
use crate::sweep::{Sweeping, sweep};
use crate::timer::Stopwatch;
use crate::verify::watch;
use crate::worker::{Links, News, Runs};
use crate::{Sides, backlog, error_chain, inbox, parked, pause, retention, share_pace, worker};

/// How long what the feed tells waits for more of it: workers hear sooner of what this process changes. Only an import, which
/// needs all that the feed tells of emails, waits for it.
const PATIENCE: Duration = Duration::from_millis(10);

/// From one forgetting of what was done long ago to the next.
const FORGETTING: Duration = Duration::from_secs(3600);

impl Gateways {
    /// Runs them until told to stop; then lets the work in hand end.
    ///
    /// # Panics
    /// When one of their tasks does.
    pub async fn run(&self, shutdown: CancellationToken) {
        let leases = worker::Leases::new(rand::random());
        // However this ends: no webhook begins a run any more, and no run goes on.
        let _runs = Listed(self);
        let mut tasks = JoinSet::new();
        // To the end: while runs end, nobody else may take their links.
        let alive = CancellationToken::new();
        let staying = tokio::spawn(worker::stay_alive(self.pool.clone(), leases.clone(), alive.clone()));
        let gateways = self.configured.iter().map(|one| Arc::clone(&one.gateway)).collect();
        tasks.spawn(share_pace(self.pool.clone(), self.nats.clone(), self.feed.clone(), gateways, shutdown.clone()));
        tasks.spawn(report(self.clone(), shutdown.clone()));
        tasks.spawn(forget_done(self.clone(), shutdown.clone()));
        tasks.spawn(read_again(self.clone(), shutdown.clone()));
        for one in self.configured.iter() {
            tasks.spawn(follow(self.clone(), one.clone(), shutdown.clone()));
            tasks.spawn(route(self.clone(), one.clone(), shutdown.clone()));
            tasks.spawn(sweep_one(self.clone(), one.clone(), shutdown.clone()));
            tasks.spawn(go_on(self.clone(), one.clone(), shutdown.clone()));
            tasks.spawn(count_backlog(self.clone(), one.clone(), shutdown.clone()));
            if let Some(interval) = one.verify_interval {
                let sides = Sides {
                    pool: self.pool.clone(),
                    duties: self.duties.clone(),
                    store: self.store.clone(),
                    gateway: one.gateway.in_bulk(),
                    filter: one.filter.clone(),
                    grace: one.verify_grace,
                };
                tasks.spawn(watch(sides, interval, shutdown.clone()));
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
                in_bulk: one.gateway.in_bulk(),
                policies: one.policies.clone(),
                deletes: one.deletes,
                filter: one.filter.clone(),
                matching: one.matching,
                lease: self.config.lease(),
                clock: Arc::clone(&self.clock),
                timer: Arc::new(Stopwatch::start()),
            };
            let links = Links {
                pool: self.pool.clone(),
                relaxed: self.relaxed.clone(),
                leases: leases.clone(),
                resting: Resting::default(),
            };
            let news = News { due: self.due.clone(), appended: self.store.appended() };
            let runs = Runs::new(with, links, self.workers());
            self.runs().insert(one.gateway.name().clone(), runs.clone());
            tasks.spawn(worker::work(runs, news, shutdown.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            let Err(error) = ended else { continue };
            error!(error = %error_chain(&error), "a gateway's task ended badly");
            if let Ok(panic) = error.try_into_panic() {
                // Nothing would do that task's work any more, and all would look well. What the others do ends here, too: it may
                // end anywhere.
                std::panic::resume_unwind(panic);
            }
        }
        alive.cancel();
        if let Err(error) = staying.await {
            error!(error = %error_chain(&error), "the lock that shows this process ended badly");
        }
    }
}

/// Runs of all gateways for each connection: most of the time a run waits for a call. More would wait for connections, in vain at last
/// where the machine is busy.
const RUNS: u32 = 4;

impl Gateways {
    /// How many runs of each gateway there may be.
    fn workers(&self) -> u32 {
        let gateways = u32::try_from(self.configured.len()).unwrap_or(u32::MAX).max(1);
        self.config.workers.min((RUNS * self.connections.most() / gateways).max(1))
    }
}

/// The runs that webhooks may begin, for as long as this is there.
struct Listed<'a>(&'a Gateways);

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.0.runs().clear();
    }
}

async fn follow(all: Gateways, one: Configured, shutdown: CancellationToken) {
    let due = Due::new(one.gateway.name(), one.guard, all.due.clone());
    let projector = Projector::new(&all.connections, all.nats.clone(), all.feed.clone(), due).patient(PATIENCE);
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
        match inbox::route(all.relaxed.pool(), one.gateway.name()).await {
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

/// Lets what has waited for a resume go on: at once where this process is told of one, else within a second.
async fn go_on(all: Gateways, one: Configured, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        match pause::go_on(all.relaxed.pool(), one.gateway.name()).await {
            Ok(false) => {}
            Ok(true) => {
                all.due.ring();
                continue;
            }
            Err(error) => debug!(error = %error_chain(&error), "what waited for a resume cannot go on now"),
        }
        tokio::select! {
            () = all.resumed.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Keeps about how much is due, as the one who does.
async fn count_backlog(all: Gateways, one: Configured, shutdown: CancellationToken) {
    let name = one.gateway.name();
    let mut duty = all.duties.stand_by(format!("backlog {name}"));
    while !shutdown.is_cancelled() {
        let counting =
            async { if duty.is_ours().await? { backlog::count(&all.pool, name).await } else { Ok(backlog::INTERVAL) } };
        let next = counting.await.unwrap_or_else(|error: sqlx::Error| {
            debug!(error = %error_chain(&error), "what is due cannot be counted now");
            backlog::INTERVAL
        });
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn sweep_one(all: Gateways, one: Configured, shutdown: CancellationToken) {
    let overlap = TimeDelta::from_std(one.sweep_overlap).unwrap_or(TimeDelta::MAX);
    let sweeping = Sweeping { interval: one.sweep_interval, overlap };
    let duty = all.duties.stand_by(format!("sweep {}", one.gateway.name()));
    let clock = Arc::clone(&all.clock);
    sweep(all.pool.clone(), duty, one.gateway.as_ref(), all.inbox.clone(), sweeping, clock, shutdown).await;
}

/// From one trial of what another version could not read to the next: while versions change, the other may try it, too.
const READING_AGAIN: Duration = Duration::from_secs(600);

/// Tries again what could not be read: all of it once, and then what processes of other versions could not.
async fn read_again(all: Gateways, shutdown: CancellationToken) {
    let mut which = Unread::All;
    while !shutdown.is_cancelled() {
        match parked::retry_unread(&all.pool, which).await {
            Ok(0) => which = Unread::ByOtherVersions,
            Ok(links) => {
                which = Unread::ByOtherVersions;
                info!(links, "trying again what could not be read before");
                all.due.ring();
                all.inbox.wake.ring();
            }
            Err(error) => debug!(error = %error_chain(&error), "what is parked cannot be tried again now"),
        }
        tokio::select! {
            () = tokio::time::sleep(READING_AGAIN) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Now and then.
async fn forget_done(all: Gateways, shutdown: CancellationToken) {
    let mut duty = all.duties.stand_by("forget what is done");
    while !shutdown.is_cancelled() {
        let forgetting = async {
            if duty.is_ours().await? {
                retention::forget_done(&all.pool, all.config.done_kept_days).await
            } else {
                Ok(0)
            }
        };
        match forgetting.await {
            Ok(0) => {}
            Ok(rows) => debug!(rows, "forgot what was done long ago"),
            Err::<_, sqlx::Error>(error) => {
                debug!(error = %error_chain(&error), "what was done long ago cannot be forgotten now");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(FORGETTING) => {}
            () = shutdown.cancelled() => {}
        }
    }
}
