//! The sweep: what the webhooks missed is read from the gateway's list of changes, into the same inbox.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tandem_domain::{GatewayName, RemoteId};
use tandem_eventlog::{StandBy, crash};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::link::{Priority, backoff, mark_due};
use crate::survey::patiently_within;
use crate::verify::created;
use crate::{CallError, Clock, Gateway, Inbox, RemoteChange, error_chain};

/// How often, and how far back into what it read before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweeping {
    pub interval: Duration,
    pub overlap: TimeDelta,
}

/// Beyond this Stripe keeps no events ("List all events").
const EVENTS_KEPT: TimeDelta = TimeDelta::days(30);

/// How often one who stands by looks whether the sweeps are theirs: one that was killed is missed no longer.
const STANDING_BY: Duration = Duration::from_secs(1);

/// Sweeps at start and at the interval until told to stop, as the one who does.
pub(crate) async fn sweep(
    pool: PgPool,
    mut duty: StandBy,
    gateway: &dyn Gateway,
    inbox: Inbox,
    sweeping: Sweeping,
    clock: Clock,
    shutdown: CancellationToken,
) {
    let mut failures = 0;
    while !shutdown.is_cancelled() {
        let sweeping_once = async {
            let is_ours = duty.is_ours().await?;
            if is_ours { once(&pool, gateway, &inbox, sweeping, clock()).await.map(Some) } else { Ok(None) }
        };
        let swept = tokio::select! {
            swept = sweeping_once => swept,
            () = shutdown.cancelled() => return,
        };
        let wait = match swept {
            Ok(None) => STANDING_BY,
            Ok(Some(0)) => {
                failures = 0;
                sweeping.interval
            }
            Ok(Some(missed)) => {
                failures = 0;
                info!(gateway = %gateway.name(), missed, "the sweep found changes that no webhook had told");
                sweeping.interval
            }
            Err(error) => {
                failures += 1;
                warn!(gateway = %gateway.name(), error = %error_chain(&error), "the sweep must be tried again");
                backoff(failures, rand::random()).min(sweeping.interval)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Why a sweep was not finished.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error("the gateway did not list its changes")]
    Call(#[from] CallError),
    #[error("the database is unavailable")]
    Database(#[from] sqlx::Error),
}

/// Reads on from where the last one ended, less the overlap. Returns how many changes were new.
async fn once(
    pool: &PgPool,
    gateway: &dyn Gateway,
    inbox: &Inbox,
    sweeping: Sweeping,
    now: DateTime<Utc>,
) -> Result<u64, SweepError> {
    let from = swept_until(pool, gateway.name(), now + gateway.clock_offset()).await?;
    let since = from.checked_sub_signed(sweeping.overlap).unwrap_or(DateTime::UNIX_EPOCH);
    let missed = take_in_since(since, gateway, inbox, sweeping).await?;
    crash::at("sweep-stored");
    // Only now is the gateway's clock known, by its reply. Whatever was believed before, this is where the sweep began.
    let began = now + gateway.clock_offset();
    if began - from > EVENTS_KEPT {
        warn!(gateway = %gateway.name(), "the gateway no longer lists all changes since the last sweep: asking for every linked customer");
        look_at_all(pool, gateway.name()).await?;
        take_in_born_since(since, pool, gateway, inbox, sweeping).await?;
    }
    sqlx::query("UPDATE sweeps SET swept_until = $2, swept_at = clock_timestamp() WHERE gateway = $1")
        .bind(gateway.name().as_str())
        .bind(began)
        .execute(pool)
        .await?;
    crash::at("sweep-marked");
    Ok(missed)
}

/// Where the last sweep began. Before the first, now: what changed there before Tandem came is not news.
async fn swept_until(pool: &PgPool, gateway: &GatewayName, now: DateTime<Utc>) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query("INSERT INTO sweeps (gateway, swept_until) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(gateway.as_str())
        .bind(now)
        .execute(pool)
        .await?;
    sqlx::query_scalar("SELECT swept_until FROM sweeps WHERE gateway = $1").bind(gateway.as_str()).fetch_one(pool).await
}

/// Hands page after page of what changed to the inbox. Returns how many changes were new.
///
/// The newest come first: what happens meanwhile is newer than the first page, and than the time from which the next sweep
/// reads on. One that breaks off leaves a gap behind what it has taken in; that time moves only at the end, so the next one
/// reads over all of it again, and each change is stored once. In which order changes come in means nothing: webhooks keep
/// none.
async fn take_in_since(
    since: DateTime<Utc>,
    gateway: &dyn Gateway,
    inbox: &Inbox,
    sweeping: Sweeping,
) -> Result<u64, SweepError> {
    let (mut missed, mut cursor) = (0, None::<String>);
    loop {
        let page = patiently_within(sweeping.interval, || gateway.changes(since, None, cursor.as_deref())).await?;
        debug!(gateway = %gateway.name(), changes = page.changes.len(), "swept");
        crash::at("sweep-listed");
        missed += inbox.store(gateway.name(), &page.changes).await?;
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(missed),
        }
    }
}

/// How many links are marked in one transaction.
const BATCH: i64 = 500;

/// The list does not reach back far enough: every linked object is asked itself.
async fn look_at_all(pool: &PgPool, gateway: &GatewayName) -> Result<(), sqlx::Error> {
    let mut after = 0;
    loop {
        let mut tx = pool.begin().await?;
        let links: Vec<i64> = sqlx::query_scalar(
            "WITH page AS (SELECT id FROM links WHERE gateway = $1 AND state = 'active' AND remote_id IS NOT NULL AND id > $2
                           ORDER BY id LIMIT $3)
             UPDATE links SET look = true
             WHERE id = ANY(ARRAY(SELECT id FROM links WHERE id IN (SELECT id FROM page) ORDER BY customer_id FOR UPDATE))
             RETURNING id",
        )
        .bind(gateway.as_str())
        .bind(after)
        .bind(BATCH)
        .fetch_all(&mut *tx)
        .await?;
        let Some(last) = links.iter().max() else { return Ok(()) };
        after = *last;
        mark_due(&mut tx, &links, Priority::Bulk).await?;
        tx.commit().await?;
    }
}

/// And what was created since is listed as objects, not as changes. What was there before Tandem came is no news now either.
async fn take_in_born_since(
    since: DateTime<Utc>,
    pool: &PgPool,
    gateway: &dyn Gateway,
    inbox: &Inbox,
    sweeping: Sweeping,
) -> Result<(), SweepError> {
    let (by, mut cursor) = (format!("sweep-{}", since.timestamp()), None::<RemoteId>);
    loop {
        let page = patiently_within(sweeping.interval, || gateway.list(Some(since), cursor.as_ref())).await?;
        let born: Vec<RemoteChange> = page.seen.iter().filter_map(|seen| created(by.clone(), seen)).collect();
        let ids: Vec<&str> = born.iter().map(|change| change.remote_id.as_str()).collect();
        // Of what is linked this would say that all of it was edited just now.
        let strangers: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM unnest($2::text[]) AS listed (id)
             WHERE NOT EXISTS (SELECT FROM links WHERE gateway = $1 AND remote_id = listed.id)",
        )
        .bind(gateway.name().as_str())
        .bind(ids)
        .fetch_all(pool)
        .await?;
        let is_strange = |change: &RemoteChange| strangers.iter().any(|id| id == change.remote_id.as_str());
        let born: Vec<RemoteChange> = born.into_iter().filter(is_strange).collect();
        inbox.store(gateway.name(), &born).await?;
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}
