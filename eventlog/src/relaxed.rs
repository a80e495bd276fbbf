//! Connections whose commits do not wait for the disk.

use sqlx::pool::PoolConnection;
use sqlx::{Connection, PgConnection, PgPool, Postgres};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// Connections whose commits do not wait for the disk: for what is made again from what is durable, should the database
/// lose it in a crash, and for what is promised to nobody before [`crate::Disk::reached`]. Cheap to clone. None is made yet.
#[derive(Debug, Clone)]
pub struct Relaxed {
    pool: PgPool,
    kept: Kept,
}

/// A few connections beside the pool, lent last in, first out.
#[derive(Debug, Clone)]
struct Kept {
    idle: Arc<Mutex<Vec<(PgConnection, Instant)>>>,
    turns: Arc<Semaphore>,
}

/// How long after its last use a kept one is taken for one that is still there. Later it is asked first: the server may have been
/// started anew, and a person who waits a moment does not notice.
const FRESH: Duration = Duration::from_millis(100);

/// How long it may take to answer that.
const PATIENCE: Duration = Duration::from_secs(1);

impl Relaxed {
    /// To the same database; `most` at once in the pool, and `kept` beside it.
    pub(crate) fn of(pool: &PgPool, most: u32, kept: u32) -> Self {
        let connect = (*pool.connect_options()).clone().options([("synchronous_commit", "off")]);
        let pool = pool.options().clone().max_connections(most).connect_lazy_with(connect);
        Self { pool, kept: Kept { idle: Arc::default(), turns: Arc::new(Semaphore::new(kept as usize)) } }
    }

    /// For what takes a while, or several statements.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// For one statement that people wait for: the connection that was used last.
    ///
    /// A pool of sqlx lends the one that was idle longest, whose server process has everything to fetch into its caches, and asks
    /// the server each time that one comes back: such a statement takes half as long again. While all that are kept
    /// are lent, this is one of the pool's.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn lend(&self) -> Result<Lent, sqlx::Error> {
        let turn = Arc::clone(&self.kept.turns).try_acquire_owned();
        self.in_time(self.lend_for(turn.ok())).await
    }

    /// The same for what many do at once: it waits for one of the kept to come back. More server processes than these would only take
    /// turns, each with cold caches.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn lend_in_turn(&self) -> Result<Lent, sqlx::Error> {
        let turns = Arc::clone(&self.kept.turns);
        self.in_time(async { self.lend_for(turns.acquire_owned().await.ok()).await }).await
    }

    async fn in_time(&self, lending: impl Future<Output = Result<Lent, sqlx::Error>>) -> Result<Lent, sqlx::Error> {
        let longest = self.pool.options().get_acquire_timeout();
        timeout(longest, lending).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn lend_for(&self, turn: Option<OwnedSemaphorePermit>) -> Result<Lent, sqlx::Error> {
        let kept = match turn {
            Some(turn) => self.last_or_new().await.map(|connection| (connection, turn)),
            None => None,
        };
        Ok(Lent(match kept {
            Some((connection, turn)) => {
                Place::Kept { connection, lost: Lost { kept: self.kept.clone(), is_so: true }, turn }
            }
            // A pool also waits until a server that is starting lets us in.
            None => Place::Pool(self.pool.acquire().await?),
        }))
    }

    async fn last_or_new(&self) -> Option<PgConnection> {
        let last = self.kept.idle().pop();
        if let Some((mut last, used)) = last {
            if used.elapsed() < FRESH || matches!(timeout(PATIENCE, last.ping()).await, Ok(Ok(()))) {
                return Some(last);
            }
            // All others are older.
            self.kept.idle().clear();
        }
        PgConnection::connect_with(&self.pool.connect_options()).await.ok()
    }
}

impl Kept {
    fn idle(&self) -> MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is lent. A kept one that is not given back is closed: its statement may be going on.
#[derive(Debug)]
pub struct Lent(Place);

#[derive(Debug)]
enum Place {
    Kept { connection: PgConnection, lost: Lost, turn: OwnedSemaphorePermit },
    Pool(PoolConnection<Postgres>),
}

impl Lent {
    /// Gives it back, once its statement was answered.
    pub fn give_back(self) {
        if let Place::Kept { connection, mut lost, turn } = self.0 {
            lost.is_so = false;
            lost.kept.idle().push((connection, Instant::now()));
            drop(turn);
        }
    }
}

/// What broke a connection that does not come back may have broken those that are idle: they are closed, too.
#[derive(Debug)]
struct Lost {
    kept: Kept,
    is_so: bool,
}

impl Drop for Lost {
    fn drop(&mut self) {
        if self.is_so {
            self.kept.idle().clear();
        }
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.0 {
            Place::Kept { connection, .. } => connection,
            Place::Pool(connection) => connection,
        }
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.0 {
            Place::Kept { connection, .. } => connection,
            Place::Pool(connection) => connection,
        }
    }
}
