//! What one of all processes does for all.

use crate::answer::answer;
use sqlx::pool::PoolConnection;
use sqlx::{Connection, PgPool, Postgres};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

/// What this process does for all, by session locks of PostgreSQL: whoever has a duty is the only one, and a process that is killed
/// gives it back. All of them take one connection. Cheap to clone; one duty is taken once among clones, too.
#[derive(Debug, Clone)]
pub struct Duties {
    pool: PgPool,
    session: Arc<Mutex<Session>>,
}

#[derive(Debug, Default)]
struct Session {
    connection: Option<PoolConnection<Postgres>>,
    /// How many connections there were: locks of an earlier one are gone.
    opened: u64,
    held: BTreeSet<String>,
}

/// A duty of this process's, until it is dropped, or the session with the database is lost.
#[derive(Debug)]
pub struct Duty {
    duties: Duties,
    name: String,
    session: u64,
}

impl Duties {
    /// In that database. None is taken yet.
    pub(crate) fn of(pool: &PgPool) -> Self {
        Self { pool: pool.clone(), session: Arc::default() }
    }

    /// Stands by for a duty that is done again and again.
    pub fn stand_by(&self, name: impl Into<String>) -> StandBy {
        StandBy { duties: self.clone(), name: name.into(), duty: None }
    }

    /// Takes that duty. `None`: somebody else has it.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn take(&self, name: &str) -> Result<Option<Duty>, sqlx::Error> {
        let mut session = self.session.lock().await;
        if session.connection.is_none() {
            session.held.clear();
        }
        // PostgreSQL would give a session the same lock twice.
        if session.held.contains(name) || !self.lock(&mut session, name).await? {
            return Ok(None);
        }
        session.held.insert(name.to_owned());
        Ok(Some(Duty { duties: self.clone(), name: name.to_owned(), session: session.opened }))
    }

    async fn lock(&self, session: &mut Session, name: &str) -> Result<bool, sqlx::Error> {
        let mut connection = match session.connection.take() {
            Some(connection) => connection,
            None => {
                session.opened += 1;
                let mut fresh = self.pool.acquire().await?;
                // In the pool's hands nobody else could have its locks.
                fresh.close_on_drop();
                fresh
            }
        };
        let lock = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))").bind(name);
        let locked = answer(lock.fetch_one(&mut *connection)).await?;
        session.connection = Some(connection);
        Ok(locked)
    }

    async fn give_back(&self, name: &str, of: u64) {
        let mut session = self.session.lock().await;
        if session.opened != of || !session.held.remove(name) {
            return;
        }
        let Some(mut connection) = session.connection.take() else { return };
        let unlock = sqlx::query("SELECT pg_advisory_unlock(hashtextextended($1, 0))").bind(name);
        // Else it is closed, which gives back all that it held.
        if answer(unlock.execute(&mut *connection)).await.is_ok() {
            session.connection = Some(connection);
        }
    }
}

/// One who stands by for a duty, and keeps it once it is theirs.
#[derive(Debug)]
pub struct StandBy {
    duties: Duties,
    name: String,
    duty: Option<Duty>,
}

impl StandBy {
    /// Whether the duty is this one's now, for as long as the session with the database lasts.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn is_ours(&mut self) -> Result<bool, sqlx::Error> {
        if let Some(duty) = &self.duty
            && duty.is_held().await
        {
            return Ok(true);
        }
        self.duty = self.duties.take(&self.name).await?;
        Ok(self.duty.is_some())
    }
}

impl Duty {
    async fn is_held(&self) -> bool {
        let mut session = self.duties.session.lock().await;
        if session.opened != self.session {
            return false;
        }
        let Some(mut connection) = session.connection.take() else { return false };
        let is_there = answer(connection.ping()).await.is_ok();
        session.connection = is_there.then_some(connection);
        is_there
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        let (duties, name, session) = (self.duties.clone(), std::mem::take(&mut self.name), self.session);
        // Without a runtime the process ends, and with it the session.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { duties.give_back(&name, session).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::time::Duration;

    /// Every session that has a duty.
    const KILL: &str = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
                            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

    async fn processes() -> Result<(PgPool, Duties, Duties), sqlx::Error> {
        let url = tandem_local::test::database().await.url;
        let pool = PgPool::connect(&url).await?;
        Ok((pool.clone(), Duties::of(&pool), Duties::of(&pool)))
    }

    async fn taken(duties: &Duties, name: &str) -> Duty {
        loop {
            if let Ok(Some(duty)) = duties.take(name).await {
                return duty;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_duty_is_taken_once_and_given_back() -> anyhow::Result<()> {
        let (_, one, other) = processes().await?;
        let sweep = one.take("sweep").await?.context("nobody has it")?;

        assert!(other.take("sweep").await?.is_none(), "another process");
        assert!(one.clone().take("sweep").await?.is_none(), "the same process");
        assert!(other.take("count").await?.is_some(), "another duty");

        drop(sweep);
        taken(&other, "sweep").await;
        Ok(())
    }

    #[tokio::test]
    async fn one_who_stands_by_takes_over_and_keeps_it() -> anyhow::Result<()> {
        let (pool, one, other) = processes().await?;
        let (mut first, mut second) = (one.stand_by("sweep"), other.stand_by("sweep"));
        assert!(first.is_ours().await? && first.is_ours().await?);
        assert!(!second.is_ours().await?);

        sqlx::query(KILL).execute(&pool).await?;

        while !second.is_ours().await.unwrap_or_default() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!first.is_ours().await?);
        Ok(())
    }

    #[tokio::test]
    async fn a_session_that_is_lost_loses_its_duties_and_is_replaced() -> anyhow::Result<()> {
        let (pool, one, other) = processes().await?;
        let of_before = one.take("sweep").await?.context("nobody has it")?;
        sqlx::query(KILL).execute(&pool).await?;

        let sweep = taken(&other, "sweep").await;
        // By this it learns that its session is lost.
        let _count = taken(&one, "count").await;
        assert!(one.take("sweep").await?.is_none(), "another process has it");
        drop(sweep);
        let _sweep = taken(&one, "sweep").await;
        // Of a session of before: it gives nothing back.
        drop(of_before);
        let _other = taken(&one, "verify").await;
        assert!(other.take("sweep").await?.is_none());
        Ok(())
    }
}
