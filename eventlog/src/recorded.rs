//! One event as it was recorded, whichever way it comes: from a row, or from a message.

use crate::database::{signed, unsigned};
use chrono::{DateTime, Utc};
use cqrs_es::persist::{EventUpcaster, SerializedEvent};
use cqrs_es::{Aggregate, DomainEvent};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgExecutor, Row};
use uuid::Uuid;

/// An event and everything known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Its place in the feed, dense from 1; 0 while the relay has not given it one, which only [`history`] shows.
    pub position: u64,
    /// Its id, also the CloudEvents id.
    pub event_id: Uuid,
    /// The kind of aggregate: `customer`.
    pub aggregate_type: String,
    /// The aggregate.
    pub aggregate_id: String,
    /// The aggregate's version after this event: 1 for its first.
    pub version: u64,
    /// What happened: `created`, `updated`.
    pub event_type: String,
    /// The version of the payload's form; upcasters bring older ones up to date.
    pub event_version: String,
    /// The event as JSON, in the form of its `event_version`.
    pub payload: Value,
    /// Who caused it: `api`, `stripe`.
    pub origin: String,
    /// What all events of one story share.
    pub correlation_id: Option<String>,
    /// What it follows from.
    pub causation_id: Option<String>,
    /// The W3C trace it belongs to.
    pub traceparent: Option<String>,
    /// When it was stored, by the database's clock.
    pub recorded_at: DateTime<Utc>,
}

/// Why an event could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// It is of another aggregate than the one asked for.
    #[error("the event belongs to a {0}")]
    OtherAggregate(String),
    /// Its payload is not what this version of the program knows: an upcaster is missing, or a newer program wrote it.
    #[error("the payload of {event_type} {event_version}, event {version} of {aggregate_id}, cannot be read")]
    Payload {
        /// Whose event it is.
        aggregate_id: String,
        /// Which of its events.
        version: u64,
        /// The event's type.
        event_type: String,
        /// The version of its form.
        event_version: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A newer program wrote it in a form that means something else.
    #[error(
        "{event_type} {event_version}, event {version} of {aggregate_id}, is of a later form than this program knows"
    )]
    Later {
        /// Whose event it is.
        aggregate_id: String,
        /// Which of its events.
        version: u64,
        /// The event's type.
        event_type: String,
        /// The version of its form.
        event_version: String,
    },
    /// A message lacks a header of ours, or it cannot be read: something else published it.
    #[error("the message's header {0} is missing or wrong")]
    Header(&'static str),
    /// A message's data is not JSON.
    #[error("the message's data is not JSON")]
    Data(#[source] serde_json::Error),
}

impl Recorded {
    /// The event as the domain knows it, brought up to date by the upcasters.
    pub fn event<A: Aggregate>(&self, upcasters: &[Box<dyn EventUpcaster>]) -> Result<A::Event, RecordedError> {
        if self.aggregate_type != A::TYPE {
            return Err(RecordedError::OtherAggregate(self.aggregate_type.clone()));
        }
        let stored = SerializedEvent::new(
            self.aggregate_id.clone(),
            usize::try_from(self.version).unwrap_or(usize::MAX),
            self.aggregate_type.clone(),
            self.event_type.clone(),
            self.event_version.clone(),
            self.payload.clone(),
            Value::Null,
        );
        decode::<A>(stored, upcasters)
    }
}

/// A stored event as the domain knows it, brought up to date by the upcasters.
pub(crate) fn decode<A: Aggregate>(
    stored: SerializedEvent,
    upcasters: &[Box<dyn EventUpcaster>],
) -> Result<A::Event, RecordedError> {
    let (aggregate_id, version) = (stored.aggregate_id.clone(), stored.sequence as u64);
    let (event_type, event_version) = (stored.event_type.clone(), stored.event_version.clone());
    let current = upcasters.iter().fold(stored, |event, upcaster| {
        if upcaster.can_upcast(&event.event_type, &event.event_version) { upcaster.upcast(event) } else { event }
    });
    let form = major(&current.event_version);
    match serde_json::from_value::<A::Event>(current.payload) {
        Err(source) => Err(RecordedError::Payload { aggregate_id, version, event_type, event_version, source }),
        Ok(event) if form > major(&event.event_version()) => {
            Err(RecordedError::Later { aggregate_id, version, event_type, event_version })
        }
        Ok(event) => Ok(event),
    }
}

/// Forms of one major version can be read by each other's programs: the later ones only have more in them.
fn major(event_version: &str) -> u64 {
    event_version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default()
}

macro_rules! select {
    ($which:literal) => {
        select!($which, "")
    };
    ($which:literal, $more:literal) => {
        concat!(
            "SELECT position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, ",
            "metadata, recorded_at",
            $more,
            " FROM events ",
            $which
        )
    };
}

/// Everything that happened to one aggregate, oldest first; the newest may have no position yet.
pub async fn history(
    database: impl PgExecutor<'_>,
    aggregate_type: &str,
    aggregate_id: &str,
) -> Result<Vec<Recorded>, sqlx::Error> {
    sqlx::query_as(select!("WHERE aggregate_type = $1 AND aggregate_id = $2 ORDER BY sequence"))
        .bind(aggregate_type)
        .bind(aggregate_id)
        .fetch_all(database)
        .await
}

/// What happened to one aggregate and is not blanked, oldest first, locked for the rest of a transaction.
pub(crate) async fn unerased(
    database: impl PgExecutor<'_>,
    aggregate_type: &str,
    aggregate_id: &str,
) -> Result<Vec<Recorded>, sqlx::Error> {
    sqlx::query_as(select!(
        "WHERE aggregate_type = $1 AND aggregate_id = $2 AND NOT erased ORDER BY sequence FOR UPDATE"
    ))
    .bind(aggregate_type)
    .bind(aggregate_id)
    .fetch_all(database)
    .await
}

/// What happened to one aggregate after that version of it, oldest first, `limit` events at most.
pub async fn history_after(
    database: impl PgExecutor<'_>,
    aggregate_type: &str,
    aggregate_id: &str,
    version: u64,
    limit: u32,
) -> Result<Vec<Recorded>, sqlx::Error> {
    sqlx::query_as(select!(
        "WHERE aggregate_type = $1 AND aggregate_id = $2 AND sequence > $3 ORDER BY sequence LIMIT $4"
    ))
    .bind(aggregate_type)
    .bind(aggregate_id)
    .bind(signed(version))
    .bind(i64::from(limit))
    .fetch_all(database)
    .await
}

/// What happened to one aggregate before that version of it, newest first, `limit` events at most.
pub async fn history_before(
    database: impl PgExecutor<'_>,
    aggregate_type: &str,
    aggregate_id: &str,
    version: u64,
    limit: u32,
) -> Result<Vec<Recorded>, sqlx::Error> {
    sqlx::query_as(select!(
        "WHERE aggregate_type = $1 AND aggregate_id = $2 AND sequence < $3 ORDER BY sequence DESC LIMIT $4"
    ))
    .bind(aggregate_type)
    .bind(aggregate_id)
    .bind(signed(version))
    .bind(i64::from(limit))
    .fetch_all(database)
    .await
}

/// Everything that happened to the next `limit` aggregates of a kind after that one, in the order of their ids, of each
/// oldest first.
pub(crate) async fn histories(
    database: impl PgExecutor<'_>,
    aggregate_type: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<Recorded>, sqlx::Error> {
    sqlx::query_as(select!(
        "WHERE aggregate_type = $1 AND aggregate_id IN (
             SELECT aggregate_id FROM events WHERE aggregate_type = $1 AND aggregate_id > $2 AND sequence = 1
             ORDER BY aggregate_id LIMIT $3)
         ORDER BY aggregate_id, sequence"
    ))
    .bind(aggregate_type)
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(database)
    .await
}

/// The events that follow a position in the feed, in order and without gaps, `limit` at most.
pub async fn read_after(
    database: impl PgExecutor<'_>,
    position: u64,
    limit: u32,
) -> Result<Vec<Recorded>, sqlx::Error> {
    sqlx::query_as(select!("WHERE position > $1 ORDER BY position LIMIT $2"))
        .bind(signed(position))
        .bind(i64::from(limit))
        .fetch_all(database)
        .await
}

/// The same, and the epoch at that moment; none if nothing follows.
pub(crate) async fn read_after_with_epoch(
    database: impl PgExecutor<'_>,
    position: u64,
    limit: u32,
) -> Result<(Option<Uuid>, Vec<Recorded>), sqlx::Error> {
    let rows =
        sqlx::query(select!("WHERE position > $1 ORDER BY position LIMIT $2", ", (SELECT epoch FROM feed) AS epoch"))
            .bind(signed(position))
            .bind(i64::from(limit))
            .fetch_all(database)
            .await?;
    let epoch = rows.first().map(|row| row.try_get("epoch")).transpose()?;
    Ok((epoch, rows.iter().map(Recorded::from_row).collect::<Result<_, _>>()?))
}

/// The event of a position, and whether its person was erased.
pub(crate) async fn numbered(
    database: impl PgExecutor<'_>,
    position: u64,
) -> Result<Option<(Recorded, bool)>, sqlx::Error> {
    let row = sqlx::query(select!("WHERE position = $1", ", erased")).bind(signed(position)).fetch_optional(database);
    row.await?.map(|row| Ok((Recorded::from_row(&row)?, row.try_get("erased")?))).transpose()
}

impl FromRow<'_, PgRow> for Recorded {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let metadata: Value = row.try_get("metadata")?;
        let noted = |name: &str| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            position: unsigned(row.try_get::<Option<i64>, _>("position")?.unwrap_or_default()),
            event_id: row.try_get("event_id")?,
            aggregate_type: row.try_get("aggregate_type")?,
            aggregate_id: row.try_get("aggregate_id")?,
            version: unsigned(row.try_get("sequence")?),
            event_type: row.try_get("event_type")?,
            event_version: row.try_get("event_version")?,
            payload: row.try_get("payload")?,
            origin: noted("origin").unwrap_or_default(),
            correlation_id: noted("correlation_id"),
            causation_id: noted("causation_id"),
            traceparent: noted("traceparent"),
            recorded_at: row.try_get("recorded_at")?,
        })
    }
}
