//! Giving committed events their positions.

use super::RelayStatus;
use crate::database::{signed, unsigned};
use crate::wake::Wake;
use sqlx::{Connection, PgConnection};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;

/// The most events numbered in one transaction.
const BATCH: u32 = 1000;

/// How soon the relay looks by itself after it found something; doubled each time it found nothing.
const SOONEST: Duration = Duration::from_millis(5);

/// How long it waits at most; a ring that was lost costs that much.
const LATEST: Duration = Duration::from_millis(250);

/// Numbers events as they come, until the session breaks.
pub(super) async fn run(
    session: &mut PgConnection,
    wake: &Wake,
    status: &watch::Sender<RelayStatus>,
) -> Result<Infallible, sqlx::Error> {
    let mut bell = wake.listen().await;
    let mut pause = SOONEST;
    loop {
        let numbered = if waiting(session).await? { number(session, BATCH).await? } else { None };
        match numbered {
            Some(last) => {
                status.send_modify(|status| status.numbered = last);
                pause = SOONEST;
            }
            None => {
                tokio::select! {
                    () = bell.rung() => {}
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(LATEST),
                }
            }
        }
    }
}

/// Whether any event waits for its position. Looking takes no lock and writes nothing, unlike numbering.
async fn waiting(session: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM events WHERE position IS NULL)").fetch_one(session).await
}

/// Numbers the next committed events and returns the last position, or none if nothing waits.
///
/// The feed's row is locked by a statement of its own: the one after it then sees all that the last holder of the lock
/// has committed. In one statement it would look first and wait then, and number events a second time.
pub(crate) async fn number(session: &mut PgConnection, limit: u32) -> Result<Option<u64>, sqlx::Error> {
    let mut transaction = session.begin().await?;
    let last: i64 =
        sqlx::query_scalar("SELECT last_position FROM feed FOR UPDATE").fetch_one(&mut *transaction).await?;
    let last = unsigned(last);
    let numbered: i64 = sqlx::query_scalar(
        "WITH next AS (
            SELECT aggregate_type, aggregate_id, sequence, row_number() OVER (ORDER BY ordinal) AS place
            FROM (SELECT aggregate_type, aggregate_id, sequence, ordinal FROM events
                  WHERE position IS NULL ORDER BY ordinal LIMIT $2) AS waiting
         ), numbered AS (
            UPDATE events SET position = $1 + next.place FROM next
            WHERE (events.aggregate_type, events.aggregate_id, events.sequence)
                = (next.aggregate_type, next.aggregate_id, next.sequence)
            RETURNING events.position
         ), moved AS (
            UPDATE feed SET last_position = $1 + (SELECT count(*) FROM numbered)
         )
         SELECT count(*) FROM numbered",
    )
    .bind(signed(last))
    .bind(i64::from(limit))
    .fetch_one(&mut *transaction)
    .await?;
    if numbered == 0 {
        transaction.rollback().await?;
        return Ok(None);
    }
    // Before anything is published: a position that a crash could take back must not be in the stream.
    transaction.commit().await?;
    Ok(Some(last + unsigned(numbered)))
}
