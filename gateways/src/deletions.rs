//! Deletions that a person is asked about: what waits, and what they said.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgTransaction, Row};
use tandem_domain::GatewayName;
use tandem_eventlog::OnceError;

use crate::link::Link;
use crate::{Direction, join};

/// What a person said of a deletion on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The other side is deleted, too.
    Delete,
    /// The other side lives on, and is no longer kept in step.
    Keep,
}

impl Verdict {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Keep => "keep",
        }
    }

    /// How a parked deletion ends that was decided so.
    fn ended(self) -> &'static str {
        match self {
            Self::Delete => "deleted",
            Self::Keep => "kept",
        }
    }
}

/// A link's deletion that a person is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Which way it would be carried.
    pub direction: Direction,
    /// What the person said, once they did.
    pub verdict: Option<Verdict>,
}

impl Asked {
    pub fn read(row: &PgRow) -> Result<Option<Self>, sqlx::Error> {
        let Some(asks) = row.try_get::<Option<&str>, _>("asks")? else { return Ok(None) };
        let direction = asks.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))?;
        let verdict = match row.try_get::<Option<&str>, _>("verdict")? {
            None => None,
            Some("delete") => Some(Verdict::Delete),
            Some("keep") => Some(Verdict::Keep),
            Some(other) => return Err(sqlx::Error::Decode(format!("unknown verdict {other}").into())),
        };
        Ok(Some(Self { direction, verdict }))
    }

    /// Nobody has said anything yet.
    pub fn is_open(self) -> bool {
        self.verdict.is_none()
    }
}

/// Why a deletion was not decided.
#[derive(Debug, thiserror::Error)]
pub enum VerdictError {
    /// Nothing is, or was, parked under this number.
    #[error("nothing is parked under this number")]
    NotParked,
    /// It is something else.
    #[error("it is no deletion")]
    NotADeletion,
    /// The opposite was said before.
    #[error("it is decided already: {0}")]
    Decided(&'static str),
    /// Both sides are deleted by now.
    #[error("there is nothing to decide any more: both sides are deleted")]
    Moot,
    /// Its key was used for another request, or the database is unavailable.
    #[error(transparent)]
    Once(#[from] OnceError),
    /// Try again later.
    #[error("the database is unavailable")]
    Database(#[from] sqlx::Error),
}

/// Stores what a person says of a parked deletion, and has it carried out. Saying the same once more changes nothing.
pub(crate) async fn decide(tx: &mut PgTransaction<'_>, id: i64, verdict: Verdict) -> Result<(), VerdictError> {
    // The link first, as a run does: whoever asks or takes the question back holds it.
    let link: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM links WHERE id = (SELECT link_id FROM parked WHERE id = $1) FOR NO KEY UPDATE",
    )
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(link_id) = link else {
        // It has no link: a change that could not be stored.
        let parked: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM parked WHERE id = $1)")
            .bind(id)
            .fetch_one(&mut **tx)
            .await?;
        return Err(if parked { VerdictError::NotADeletion } else { VerdictError::NotParked });
    };
    // Deleted here, too, a moment ago: the link's next run takes the question back.
    let (kind, state, moot): (String, String, bool) = sqlx::query_as(
        "SELECT kind, parked.state, deleted_side = 'gateway' IS TRUE AND EXISTS (
             SELECT FROM events WHERE aggregate_type = 'customer' AND aggregate_id = links.customer_id::text
                 AND event_type = 'deleted')
         FROM parked JOIN links ON links.id = link_id WHERE parked.id = $1",
    )
    .bind(id)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(VerdictError::NotParked)?;
    match (kind.as_str(), state.as_str()) {
        ("deletion", "open") if moot => return Err(VerdictError::Moot),
        ("deletion", "open") => {}
        ("deletion", state) if state == verdict.ended() => return Ok(()),
        ("deletion", "deleted") => return Err(VerdictError::Decided("it is carried out")),
        ("deletion", "kept") => return Err(VerdictError::Decided("the other side is kept")),
        ("deletion", _) => return Err(VerdictError::Moot),
        _ => return Err(VerdictError::NotADeletion),
    }
    sqlx::query("UPDATE parked SET state = $2, closed_at = clock_timestamp() WHERE id = $1")
        .bind(id)
        .bind(verdict.ended())
        .execute(&mut **tx)
        .await?;
    sqlx::query("UPDATE links SET verdict = $2 WHERE id = $1")
        .bind(link_id)
        .bind(verdict.as_str())
        .execute(&mut **tx)
        .await?;
    let_go_of_what_is_held(tx, link_id).await?;
    Ok(join::look_again(tx, &[link_id]).await?)
}

/// Parks a deletion in place of carrying it out. Until it is decided the link asks.
pub(crate) async fn park(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    link: &Link,
    direction: Direction,
    deleted_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let (side, reason) = match direction {
        Direction::Inbound => (
            "gateway",
            "the gateway's object is deleted, and the customer is not: a person must say whether it shall be",
        ),
        Direction::Outbound => (
            "catalog",
            "the customer is deleted, and the gateway's object is not: a person must say whether it shall be",
        ),
    };
    // The remote is asked once it is decided: not all that is known of the deletion is in the inbox.
    sqlx::query("UPDATE links SET asks = $2, look = true WHERE id = $1")
        .bind(link.id)
        .bind(direction.as_str())
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT INTO parked (gateway, link_id, kind, reason, deleted_side, deleted_at)
         VALUES ($1, $2, 'deletion', $3, $4, $5)
         ON CONFLICT (link_id) WHERE state = 'open' AND kind = 'deletion' DO NOTHING",
    )
    .bind(gateway.as_str())
    .bind(link.id)
    .bind(reason)
    .bind(side)
    .bind(deleted_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps rows of the inbox until the deletion is decided. If it is by now, they are told to the next run.
pub(crate) async fn hold(tx: &mut PgTransaction<'_>, link: &Link, rows: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE inbox SET state = 'held'
         WHERE id = ANY($2) AND EXISTS (SELECT FROM links WHERE id = $1 AND asks IS NOT NULL AND verdict IS NULL)",
    )
    .bind(link.id)
    .bind(rows)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Both sides are deleted: nobody is asked any more, and what was held is taken in.
pub(crate) async fn withdraw(tx: &mut PgTransaction<'_>, link: &Link) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE links SET asks = NULL, verdict = NULL WHERE id = $1").bind(link.id).execute(&mut **tx).await?;
    sqlx::query(
        "UPDATE parked SET state = 'superseded', closed_at = clock_timestamp()
         WHERE link_id = $1 AND state = 'open' AND kind = 'deletion'",
    )
    .bind(link.id)
    .execute(&mut **tx)
    .await?;
    let_go_of_what_is_held(tx, link.id).await
}

async fn let_go_of_what_is_held(tx: &mut PgTransaction<'_>, link_id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE inbox SET state = 'waiting' WHERE link_id = $1 AND state = 'held'")
        .bind(link_id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
