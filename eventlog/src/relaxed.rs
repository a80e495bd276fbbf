//! Connections whose commits do not wait for the disk.

use sqlx::pool::PoolConnection;
use sqlx::{Connection, PgConnection, PgPool, Postgres};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Connections whose commits do not wait for the disk: for what is made again from what is durable, should the database
/// lose it in a crash. Nothing that is only there may be written through them. Cheap to clone. None is made yet.
#[derive(Debug, Clone)]
pub struct Relaxed {
    pool: PgPool,
    kept: Kept,
}

/// A few connections beside the pool, lent last in, first out.
#[derive(Debug, Clone)]
struct Kept {
    idle: Arc<Mutex<Vec<PgConnection>>>,
    turns: Arc<Semaphore>,
}

/// How many are kept beside the pool.
const KEPT: usize = 2;

impl Relaxed {
    /// To the same database; `most` at once in the pool, and two beside it.
    pub fn of(pool: &PgPool, most: u32) -> Self {
        let connect = (*pool.connect_options()).clone().options([("synchronous_commit", "off")]);
        let pool = pool.options().clone().max_connections(most).connect_lazy_with(connect);
        Self { pool, kept: Kept { idle: Arc::default(), turns: Arc::new(Semaphore::new(KEPT)) } }
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
        let kept = match Arc::clone(&self.kept.turns).try_acquire_owned() {
            Ok(turn) => self.last_or_new().await?.map(|connection| (connection, turn)),
            Err(_) => None,
        };
        Ok(Lent(match kept {
            Some((connection, turn)) => Place::Kept { connection, kept: self.kept.clone(), turn },
            // A pool also waits until a server that is starting lets us in.
            None => Place::Pool(self.pool.acquire().await?),
        }))
    }

    async fn last_or_new(&self) -> Result<Option<PgConnection>, sqlx::Error> {
        let last = self.kept.idle().pop();
        if last.is_some() {
            return Ok(last);
        }
        let options = self.pool.connect_options();
        let connecting = timeout(self.pool.options().get_acquire_timeout(), PgConnection::connect_with(&options));
        Ok(connecting.await.map_err(|_| sqlx::Error::PoolTimedOut)?.ok())
    }
}

impl Kept {
    fn idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is lent. A kept one that is not given back is closed: its statement may be going on.
#[derive(Debug)]
pub struct Lent(Place);

#[derive(Debug)]
enum Place {
    Kept { connection: PgConnection, kept: Kept, turn: OwnedSemaphorePermit },
    Pool(PoolConnection<Postgres>),
}

impl Lent {
    /// Gives it back, once its statement was answered.
    pub fn give_back(self) {
        if let Place::Kept { connection, kept, turn } = self.0 {
            kept.idle().push(connection);
            drop(turn);
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
