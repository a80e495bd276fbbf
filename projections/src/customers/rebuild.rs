//! Building the read model anew from the log, beside the one that is read.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use sqlx::{PgPool, PgTransaction};
use tandem_eventlog::{Connections, Feed, Projector, ProjectorError, ProjectorStatus, checkpoint, last_position};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::NAME;
use super::fold::Fold;

/// How long the swap keeps the old projector waiting for the new one to draw level, before it tries again.
const LEVEL: Duration = Duration::from_secs(2);

/// Why a rebuild did not end in a swap. What is read stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The database is away: begin again later.
    #[error("the read model is unavailable")]
    Unavailable(#[from] sqlx::Error),
    /// An event cannot be applied.
    #[error("the rebuild stopped")]
    Stopped(#[source] ProjectorError),
    /// Another rebuild was begun after this one, or swapped first.
    #[error("another rebuild took over")]
    TakenOver,
}

/// Fills a new generation from nothing, then swaps it in by one transaction; reads go on meanwhile, and never see an
/// older state than before. A rebuild that is begun ends any other that is under way.
///
/// `progress` hears how far it is: the position, and the feed's last. Returns the number of events read.
///
/// # Errors
/// [`RebuildError`]; what is read then stays as it was.
pub async fn customers_rebuild(
    connections: Connections,
    nats: Client,
    feed: Feed,
    progress: impl Fn(u64, u64),
) -> Result<u64, RebuildError> {
    let pool = connections.pool();
    let generation = loop {
        if let Some(generation) = begin(pool).await? {
            break generation;
        }
    };
    let fold = Fold::new(generation, None);
    let projector = Projector::new(&connections, nats, feed, Arc::new(fold)).generation(generation);
    let mut status = projector.status();
    let stop = CancellationToken::new();
    let _stopped_on_return = stop.clone().drop_guard();
    let run = projector.run(stop);
    let swap = async {
        loop {
            // Level before anybody has to wait for it.
            follow(pool, &mut status, &progress).await?;
            if let Some(position) = swap(pool, generation).await? {
                return Ok::<u64, RebuildError>(position);
            }
        }
    };
    let position = tokio::select! {
        // Looked at first: after a swap, the projector may find itself alone or ended.
        biased;
        swapped = swap => swapped?,
        ended = run => return Err(match ended {
            Err(ProjectorError::Superseded { .. }) => RebuildError::TakenOver,
            Err(stopped) => RebuildError::Stopped(stopped),
            // It is told to stop on return only.
            Ok(()) => RebuildError::Unavailable(sqlx::Error::WorkerCrashed),
        }),
    };
    sweep(pool, generation).await?;
    Ok(position)
}

/// Opens a generation above all others, and forgets what an unfinished rebuild left. `None`: another rebuild swapped in
/// this instant, and took away the checkpoint that we waited for.
async fn begin(pool: &PgPool) -> Result<Option<u32>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    // Where nothing was ever projected, generation 1 is the live one.
    checkpoint::open(&mut transaction, NAME, 1).await?;
    let live: Option<i32> =
        sqlx::query_scalar("SELECT generation FROM checkpoints WHERE name = $1 AND live FOR UPDATE")
            .bind(NAME)
            .fetch_optional(&mut *transaction)
            .await?;
    let Some(live) = live else { return Ok(None) };
    let highest: i32 = sqlx::query_scalar(
        "SELECT greatest($2, (SELECT max(generation) FROM checkpoints WHERE name = $1),
                         (SELECT max(generation) FROM customer_rows))",
    )
    .bind(NAME)
    .bind(live)
    .fetch_one(&mut *transaction)
    .await?;
    let generation = u32::try_from(highest).unwrap_or_default() + 1;
    sqlx::query("DELETE FROM checkpoints WHERE name = $1 AND NOT live").bind(NAME).execute(&mut *transaction).await?;
    sqlx::query("DELETE FROM customer_rows WHERE generation > $1").bind(live).execute(&mut *transaction).await?;
    sqlx::query("DELETE FROM conflict_rows WHERE generation > $1").bind(live).execute(&mut *transaction).await?;
    checkpoint::open(&mut transaction, NAME, generation).await?;
    transaction.commit().await?;
    Ok(Some(generation))
}

/// Returns when the new generation has come as far as the feed.
async fn follow(
    pool: &PgPool,
    status: &mut watch::Receiver<ProjectorStatus>,
    progress: &impl Fn(u64, u64),
) -> Result<(), sqlx::Error> {
    loop {
        let head = last_position(pool).await?;
        let position = status.borrow_and_update().position;
        progress(position, head);
        if position >= head {
            return Ok(());
        }
        // The head moves, too.
        let _ = timeout(Duration::from_millis(500), status.changed()).await;
    }
}

/// Holds the old generation, lets the new one draw level, and makes it the one that is read. `None`: not now, since it
/// did not draw level in time, or another rebuild swapped in this instant.
async fn swap(pool: &PgPool, generation: u32) -> Result<Option<u64>, RebuildError> {
    let mut transaction = pool.begin().await?;
    // Should this process freeze or its host vanish, the others' projectors wait for a moment only.
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = '5s'").execute(&mut *transaction).await?;
    let held: Option<i64> = sqlx::query_scalar("SELECT position FROM checkpoints WHERE name = $1 AND live FOR UPDATE")
        .bind(NAME)
        .fetch_optional(&mut *transaction)
        .await?;
    let Some(held) = held else { return Ok(None) };
    let held = u64::try_from(held).unwrap_or_default();
    let Ok(level) = timeout(LEVEL, level(&mut transaction, generation, held)).await else { return Ok(None) };
    let position = level?;
    checkpoint::promote(&mut transaction, NAME, generation).await?;
    transaction.commit().await?;
    Ok(Some(position))
}

async fn level(transaction: &mut PgTransaction<'_>, generation: u32, held: u64) -> Result<u64, RebuildError> {
    loop {
        // Our projector only misses its checkpoint at the next event: an idle one would keep everybody waiting.
        let position = checkpoint::position(&mut **transaction, NAME, generation).await?;
        match position.ok_or(RebuildError::TakenOver)? {
            position if position >= held => return Ok(position),
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Removes the rows that nobody reads any more.
async fn sweep(pool: &PgPool, generation: u32) -> Result<(), sqlx::Error> {
    let generation = i32::try_from(generation).unwrap_or(i32::MAX);
    sqlx::query("DELETE FROM customer_rows WHERE generation < $1").bind(generation).execute(pool).await?;
    sqlx::query("DELETE FROM conflict_rows WHERE generation < $1").bind(generation).execute(pool).await?;
    Ok(())
}
