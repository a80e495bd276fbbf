//! The statements that append: one for all that a command led to.

use cqrs_es::persist::SerializedEvent;
use serde_json::{Value, json};
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use sqlx::{Arguments, Execute, PgConnection, PgExecutor};
use uuid::Uuid;

use super::key::store_key;
use crate::context::CommandKey;
use crate::database::signed;
use crate::relaxed::Relaxed;
use crate::zoo::plays;

/// One command's events.
pub(super) struct Batch<'a> {
    pub(super) key: Option<&'a CommandKey>,
    pub(super) behind: Option<Uuid>,
    pub(super) newest: &'a SerializedEvent,
    pub(super) events: &'a [SerializedEvent],
    pub(super) ids: &'a [Uuid],
}

impl Batch<'_> {
    /// The sequence of its first event.
    fn first(&self) -> usize {
        self.events.iter().map(|event| event.sequence).min().unwrap_or_default()
    }
}

pub(super) async fn append_alone(relaxed: &Relaxed, batch: Batch<'_>) -> Result<u64, sqlx::Error> {
    let mut lent = relaxed.lend_in_turn().await?;
    let appended = if plays("key-apart-from-the-events") {
        append_apart(&mut lent, batch).await
    } else {
        append(&mut *lent, batch).await
    };
    let conflicts = |error: &sqlx::Error| error.as_database_error().is_some_and(|error| error.is_unique_violation());
    if appended.as_ref().map_or_else(conflicts, |_| true) {
        lent.give_back();
    }
    appended
}

/// Key and events in one statement: one round trip, one commit, and nothing held between them. Returns how many events
/// were stored: all, or none if the one before them is not there, or another in its place. Whoever remembers it has
/// outlived a database that was restored from a backup, or lost it in a crash.
pub(super) async fn append(database: impl PgExecutor<'_>, batch: Batch<'_>) -> Result<u64, sqlx::Error> {
    let first = batch.first();
    let Batch { key, behind, newest, events, ids } = batch;
    if let ([event], [id], None) = (events, ids, key) {
        return append_one(database, event, *id, behind).await;
    }
    let column = |of: fn(&SerializedEvent) -> String| events.iter().map(of).collect::<Vec<_>>();
    let statement = format!(
        "WITH follows AS MATERIALIZED (
            SELECT {}
         ), keyed AS (
            INSERT INTO command_keys (key, fingerprint, aggregate_type, aggregate_id, version, events)
            SELECT $1, $2, $3, $4, $5, $6 FROM follows WHERE $1 IS NOT NULL
         )
         INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
         SELECT $3, $4, e.sequence, e.event_type, e.event_version, e.payload, $7, e.event_id
         FROM unnest($8::bigint[], $9::text[], $10::text[], $11::jsonb[], $12::uuid[])
              AS e(sequence, event_type, event_version, payload, event_id), follows
         ORDER BY e.sequence",
        from_before(first, [3, 4, 13, 14]),
    );
    sqlx::query(&statement)
        .bind(key.map(|key| &key.key))
        .bind(key.map(|key| &key.fingerprint))
        .bind(&newest.aggregate_type)
        .bind(&newest.aggregate_id)
        .bind(signed(newest.sequence as u64))
        .bind(i32::try_from(events.len()).unwrap_or(i32::MAX))
        .bind(&newest.metadata)
        .bind(events.iter().map(|event| signed(event.sequence as u64)).collect::<Vec<_>>())
        .bind(column(|event| event.event_type.clone()))
        .bind(column(|event| event.event_version.clone()))
        .bind(events.iter().map(|event| event.payload.clone()).collect::<Vec<_>>())
        .bind(ids)
        .bind(signed(first as u64))
        .bind(behind)
        .execute(database)
        .await
        .map(|stored| stored.rows_affected())
}

/// For the zoo: the key in a transaction of its own.
async fn append_apart(connection: &mut PgConnection, batch: Batch<'_>) -> Result<u64, sqlx::Error> {
    let (key, newest) = (batch.key, batch.newest);
    let stored = append(&mut *connection, Batch { key: None, ..batch }).await?;
    if let Some(key) = key {
        store_key(connection, key, &newest.aggregate_type, &newest.aggregate_id, newest.sequence as u64).await?;
    }
    Ok(stored)
}

/// Events, key, and what the caller stores with them in one statement. Returns how many events were stored: none if the caller's
/// `held` has no row, or `follows` has none, because they follow on nothing.
pub(super) async fn append_beside(
    connection: &mut PgConnection,
    beside: &mut Query<'_, Postgres, PgArguments>,
    answer: &mut i64,
    batch: Batch<'_>,
) -> Result<u64, sqlx::Error> {
    let arguments = beside.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
    let answers = match (batch.events, batch.ids, batch.key) {
        ([event], [id], None) => one_beside(connection, beside.sql(), arguments, &batch, event, *id).await?,
        _ => many_beside(connection, beside.sql(), arguments, &batch).await?,
    };
    if let Some(first) = answers.first() {
        *answer = *first;
    }
    Ok(answers.len() as u64)
}

/// Most merges: one event and no key, which PostgreSQL stores without opening the table of keys.
async fn one_beside(
    connection: &mut PgConnection,
    beside: &str,
    arguments: PgArguments,
    batch: &Batch<'_>,
    event: &SerializedEvent,
    given: Uuid,
) -> Result<Vec<i64>, sqlx::Error> {
    let [kind, id, sequence, behind, metadata, event_type, event_version, payload, event_id] =
        std::array::from_fn(|n| arguments.len() + 1 + n);
    let before = from_before(event.sequence, [kind, id, sequence, behind]);
    let statement = format!(
        "WITH follows AS MATERIALIZED (
             SELECT {before}
         ), {beside}
         INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
         SELECT ${kind}, ${id}, ${sequence}, ${event_type}, ${event_version}, ${payload}, ${metadata}, ${event_id}
         FROM held RETURNING (SELECT answer FROM held)"
    );
    sqlx::query_scalar_with(&statement, arguments)
        .bind(&event.aggregate_type)
        .bind(&event.aggregate_id)
        .bind(signed(event.sequence as u64))
        .bind(batch.behind)
        .bind(&event.metadata)
        .bind(&event.event_type)
        .bind(&event.event_version)
        .bind(&event.payload)
        .bind(given)
        .fetch_all(connection)
        .await
}

async fn many_beside(
    connection: &mut PgConnection,
    beside: &str,
    arguments: PgArguments,
    batch: &Batch<'_>,
) -> Result<Vec<i64>, sqlx::Error> {
    let [kind, id, first, behind, metadata, new, key, fingerprint] = std::array::from_fn(|n| arguments.len() + 1 + n);
    let before = from_before(batch.first(), [kind, id, first, behind]);
    let statement = format!(
        "WITH follows AS MATERIALIZED (
             SELECT {before}
         ), {beside}, new AS MATERIALIZED (
             SELECT new.* FROM held, jsonb_to_recordset(${new})
                 AS new (sequence bigint, event_type text, event_version text, payload jsonb, event_id uuid)
         ), keyed AS (
             INSERT INTO command_keys (key, fingerprint, aggregate_type, aggregate_id, version, events)
             SELECT ${key}, ${fingerprint}, ${kind}, ${id}, max(sequence), count(*) FROM new
             HAVING ${key} IS NOT NULL AND count(*) > 0
         )
         INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
         SELECT ${kind}, ${id}, sequence, event_type, event_version, payload, ${metadata}, event_id
         FROM new ORDER BY sequence RETURNING (SELECT answer FROM held)"
    );
    let new = batch.events.iter().zip(batch.ids).map(|(event, id)| {
        let SerializedEvent { sequence, event_type, event_version, payload, .. } = event;
        json!({
            "sequence": sequence,
            "event_type": event_type,
            "event_version": event_version,
            "payload": payload,
            "event_id": id,
        })
    });
    sqlx::query_scalar_with(&statement, arguments)
        .bind(&batch.newest.aggregate_type)
        .bind(&batch.newest.aggregate_id)
        .bind(signed(batch.first() as u64))
        .bind(batch.behind)
        .bind(&batch.newest.metadata)
        .bind(Value::from_iter(new))
        .bind(batch.key.map(|key| &key.key))
        .bind(batch.key.map(|key| &key.fingerprint))
        .fetch_all(connection)
        .await
}

/// Most commands: one event and no key. Arrays would cost a tenth of the append.
async fn append_one(
    database: impl PgExecutor<'_>,
    event: &SerializedEvent,
    id: Uuid,
    behind: Option<Uuid>,
) -> Result<u64, sqlx::Error> {
    let statement = format!(
        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8 {}",
        from_before(event.sequence, [1, 2, 3, 9]),
    );
    sqlx::query(&statement)
        .bind(&event.aggregate_type)
        .bind(&event.aggregate_id)
        .bind(signed(event.sequence as u64))
        .bind(&event.event_type)
        .bind(&event.event_version)
        .bind(&event.payload)
        .bind(&event.metadata)
        .bind(id)
        .bind(behind)
        .execute(database)
        .await
        .map(|stored| stored.rows_affected())
}

/// What ends a `SELECT` that has a row if the event before the first one is there; of the parameters of those numbers: the kind of
/// aggregate, its id, the first event's sequence, and the id that the event before must have, if any. One statement for
/// both would be planned anew each time, and cost a tenth of the append.
fn from_before(first: usize, [kind, id, sequence, last]: [usize; 4]) -> String {
    if first == 1 {
        return String::new();
    }
    format!(
        "FROM events WHERE (aggregate_type, aggregate_id, sequence) = (${kind}, ${id}, ${sequence} - 1)
                       AND event_id = COALESCE(${last}, event_id)"
    )
}
