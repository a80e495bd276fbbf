//! Giving committed events their positions.

use super::{Relay, wrong};
use crate::answer::answer;
use crate::crash;
use crate::database::{signed, unsigned};
use crate::recorded::Recorded;
use sqlx::{FromRow, PgConnection, Row};
use std::convert::Infallible;
use std::time::Duration;
use uuid::Uuid;

/// The most events numbered in one transaction.
const BATCH: u32 = 1000;

/// The most events that are handed to the publisher as they were numbered: it reads what is more.
const FEW: i32 = 32;

/// How soon the relay looks by itself after it found something; doubled each time it found nothing.
const SOONEST: Duration = Duration::from_millis(5);

/// How long it waits at most; a ring that was lost costs that much.
const LATEST: Duration = Duration::from_millis(250);

/// Numbers events as they come, until the session breaks.
pub(super) async fn run(relay: &Relay, session: &mut PgConnection) -> Result<Infallible, sqlx::Error> {
    let mut bell = relay.wake.listen().await;
    let mut memory = wrong::Memory::default();
    let mut pause = SOONEST;
    loop {
        let before = relay.status.borrow().numbered;
        let numbered = match wrong::number_as_played(&mut memory, relay, session, BATCH).await {
            Some(wrong) => wrong?.map(|last| Numbered { last, fresh: None }),
            None => answer(number(session, BATCH, before)).await?,
        };
        if let Some(Numbered { last, fresh }) = numbered {
            crash::at("relay-numbered");
            relay.hand_over(fresh);
            relay.status.send_modify(|status| status.numbered = last);
            pause = SOONEST;
            if last.saturating_sub(before) >= u64::from(BATCH) {
                continue;
            }
        }
        tokio::select! {
            () = bell.rung() => {}
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LATEST),
        }
    }
}

/// What was numbered.
#[derive(Debug)]
pub(crate) struct Numbered {
    /// The last position.
    pub(crate) last: u64,
    /// What has a position after the last known one, if it is little.
    pub(super) fresh: Option<Fresh>,
}

/// Events as they were when they were numbered.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) epoch: Uuid,
    pub(super) events: Vec<Recorded>,
}

impl Fresh {
    /// Whether they are what comes after that position.
    pub(super) fn follows(&self, position: u64) -> bool {
        self.events.first().is_some_and(|first| first.position == position + 1)
    }
}

/// Numbers the next committed events; none if nothing waits. `known` is the last position before, as far as known.
///
/// The statement commits before anything is published: a position that a crash could take back must not be in the stream.
pub(crate) async fn number(
    session: &mut PgConnection,
    limit: u32,
    known: u64,
) -> Result<Option<Numbered>, sqlx::Error> {
    let rows = sqlx::query("SELECT last, epoch, (event).* FROM number_and_read_events($1, $2, $3)")
        .bind(i32::try_from(limit).unwrap_or(i32::MAX))
        .bind(signed(known))
        .bind(FEW)
        .fetch_all(session)
        .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let last = unsigned(first.try_get("last")?);
    let fresh = match first.try_get::<Option<i64>, _>("position")? {
        Some(_) => {
            let events = rows.iter().map(Recorded::from_row).collect::<Result<_, _>>()?;
            Some(Fresh { epoch: first.try_get("epoch")?, events })
        }
        None => None,
    };
    Ok(Some(Numbered { last, fresh }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{last_position, migrate};
    use sqlx::PgPool;

    async fn append(pool: &PgPool, aggregate: &str, sequence: i64) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
             VALUES ('counter', $1, $2, 'added', '1', '{}', '{}', $3)",
        )
        .bind(aggregate)
        .bind(sequence)
        .bind(Uuid::now_v7())
        .execute(pool)
        .await?;
        Ok(())
    }

    /// Fails if the row is locked in the statement that numbers: it looks first and waits then, so that two of them
    /// give the same events positions twice, or the same position to two events.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_that_number_at_once_leave_no_gap_and_no_double() -> anyhow::Result<()> {
        let url = tandem_local::test::database().await.url;
        let pool = PgPool::connect(&url).await?;
        migrate(&pool).await?;
        let writers = (0..4).map(|writer| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for sequence in 1..=100 {
                    append(&pool, &format!("counter-{writer}"), sequence).await?;
                }
                anyhow::Ok(())
            })
        });
        let writers: Vec<_> = writers.collect();
        let numberers = (0..2).map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut session = pool.acquire().await?;
                while last_position(&mut *session).await? < 400 {
                    number(&mut session, 7, 0).await?;
                }
                anyhow::Ok(())
            })
        });
        for task in writers.into_iter().chain(numberers.collect::<Vec<_>>()) {
            task.await??;
        }

        let positions: Vec<Option<i64>> =
            sqlx::query_scalar("SELECT position FROM events ORDER BY position").fetch_all(&pool).await?;
        assert_eq!(positions, (1..=400).map(Some).collect::<Vec<_>>());
        Ok(())
    }
}
