//! Waiting for the disk: what was committed without it is seen by others at once, and promised to nobody before.

use crate::answer::answer;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// The database's disk. Cheap to clone; those who wait on clones at once wait for one write.
#[derive(Debug, Clone)]
pub struct Disk {
    options: Arc<PgConnectOptions>,
    flushes: Arc<Flushes>,
}

/// A session with the database. A crash ends it, so while it lasts nothing that was committed is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session(u64);

#[derive(Debug, Default)]
struct Flushes {
    /// The session that is there, as far as is known. 0 when there is none.
    session: AtomicU64,
    begun: AtomicU64,
    /// Held by whoever waits for the database.
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    connection: Option<PgConnection>,
    /// How many sessions there were.
    opened: u64,
    /// The last flush that succeeded.
    done: u64,
}

impl Disk {
    /// The disk of that database. No connection is made yet; it takes one, besides the pool's.
    pub fn of(pool: &PgPool) -> Self {
        Self { options: pool.connect_options(), flushes: Arc::default() }
    }

    /// The session that is there, or a new one: to be asked for before something is committed.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn session(&self) -> Result<Session, sqlx::Error> {
        match self.flushes.session.load(Ordering::SeqCst) {
            0 => answer(self.open()).await,
            there => Ok(Session(there)),
        }
    }

    async fn open(&self) -> Result<Session, sqlx::Error> {
        let mut kept = self.flushes.kept.lock().await;
        if kept.connection.is_none() {
            kept.connection = Some(PgConnection::connect_with(&self.options).await?);
            kept.opened += 1;
            self.flushes.session.store(kept.opened, Ordering::SeqCst);
        }
        Ok(Session(kept.opened))
    }

    /// Returns once all that had committed when it was called is durable, if that session was there before.
    ///
    /// # Errors
    /// The session is lost: what was committed since may be durable or lost.
    pub async fn reached(&self, since: Session) -> Result<(), sqlx::Error> {
        let asked = self.flushes.begun.load(Ordering::SeqCst);
        let mut kept = Arc::clone(&self.flushes.kept).lock_owned().await;
        let is_there = kept.opened == since.0;
        let Some(mut connection) = kept.connection.take_if(|_| is_there) else {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the database's session was lost").into());
        };
        // One that began later has written everything of before, too.
        if kept.done > asked {
            kept.connection = Some(connection);
            return Ok(());
        }
        let this = self.flushes.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let flushes = Arc::clone(&self.flushes);
        // In a task of its own: should the one who waits be gone, others wait for this, too.
        let flushing = tokio::spawn(async move {
            match answer(flush(&mut connection)).await {
                Ok(()) => {
                    kept.connection = Some(connection);
                    kept.done = this;
                    Ok(())
                }
                Err(error) => {
                    flushes.session.store(0, Ordering::SeqCst);
                    Err(error)
                }
            }
        });
        flushing.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }
}

/// A commit that waits for the disk waits for all before it, since the log is written in order; one that wrote nothing
/// waits for nothing (PostgreSQL, "Asynchronous Commit").
async fn flush(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_logical_emit_message(true, 'tandem', '')").execute(session).await?;
    Ok(())
}
