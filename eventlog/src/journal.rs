//! How cqrs-es reads and appends events: postgres-es reads, one statement of ours appends.

use crate::context::CommandKey;
use crate::database::{signed, unsigned};
use crate::relaxed::Relaxed;
use crate::zoo::plays;
use cqrs_es::Aggregate;
use cqrs_es::persist::{PersistedEventRepository, PersistenceError, ReplayStream, SerializedEvent, SerializedSnapshot};
use postgres_es::PostgresEventRepository;
use serde_json::{Value, json};
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use sqlx::{Arguments, Execute, PgConnection, PgExecutor, PgTransaction};
use tokio::sync::Mutex;
use uuid::Uuid;

/// Where a command's events are stored.
pub(crate) enum Place<'p, 't> {
    /// In a transaction of their own, which does not wait for the disk: they are seen at once.
    Alone,
    /// Inside the caller's transaction, whose commit is the caller's.
    Within(&'p mut PgTransaction<'t>),
    /// In one statement with common table expressions of the caller's, whose answer goes into the number.
    Beside(&'p mut PgConnection, Query<'t, Postgres, PgArguments>, &'p mut i64),
}

/// One command's view of the event log: reads from the repository, appends to its place.
pub(crate) struct Journal<'a, 'p, 't> {
    reads: &'a PostgresEventRepository,
    relaxed: &'a Relaxed,
    place: Mutex<Place<'p, 't>>,
    key: Option<&'a CommandKey>,
    last: Option<Uuid>,
    ids: &'a [Uuid],
}

impl<'a, 'p, 't> Journal<'a, 'p, 't> {
    pub(crate) fn of(reads: &'a PostgresEventRepository, relaxed: &'a Relaxed) -> Self {
        Self { reads, relaxed, place: Mutex::new(Place::Alone), key: None, last: None, ids: &[] }
    }

    /// Appends there.
    pub(crate) fn at(mut self, place: Place<'p, 't>) -> Self {
        self.place = Mutex::new(place);
        self
    }

    /// Stores that key with the events, or neither.
    pub(crate) fn keyed(mut self, key: Option<&'a CommandKey>) -> Self {
        self.key = key;
        self
    }

    /// Appends only if the event before has this id, if one is given.
    pub(crate) fn behind(mut self, last: Option<Uuid>) -> Self {
        self.last = last;
        self
    }

    /// Appends under these ids, one for each event.
    pub(crate) fn named(mut self, ids: &'a [Uuid]) -> Self {
        self.ids = ids;
        self
    }
}

impl PersistedEventRepository for Journal<'_, '_, '_> {
    async fn get_events<A: Aggregate>(&self, id: &str) -> Result<Vec<SerializedEvent>, PersistenceError> {
        self.reads.get_events::<A>(id).await
    }

    async fn get_last_events<A: Aggregate>(
        &self,
        id: &str,
        last_sequence: usize,
    ) -> Result<Vec<SerializedEvent>, PersistenceError> {
        self.reads.get_last_events::<A>(id, last_sequence).await
    }

    /// There are none: cqrs-es 0.5.0 applies a command's events to them twice.
    async fn get_snapshot<A: Aggregate>(&self, _id: &str) -> Result<Option<SerializedSnapshot>, PersistenceError> {
        Ok(None)
    }

    async fn persist<A: Aggregate>(
        &self,
        events: &[SerializedEvent],
        _snapshot: Option<(String, Value, usize)>,
    ) -> Result<(), PersistenceError> {
        let Some(newest) = events.last() else { return Ok(()) };
        let mut place = self.place.lock().await;
        let batch = Batch { key: self.key, behind: self.last, newest, events, ids: self.ids };
        let appended = match &mut *place {
            Place::Alone => append_alone(self.relaxed, batch).await,
            Place::Within(transaction) => append(&mut ***transaction, batch).await,
            Place::Beside(connection, query, answer) => append_beside(connection, query, answer, batch).await,
        };
        match appended {
            Ok(0) => Err(PersistenceError::OptimisticLockError),
            Ok(_) => Ok(()),
            Err(error) => Err(PersistenceError::UnknownError(Box::new(error))),
        }
    }

    async fn stream_events<A: Aggregate>(&self, id: &str) -> Result<ReplayStream, PersistenceError> {
        self.reads.stream_events::<A>(id).await
    }

    async fn stream_all_events<A: Aggregate>(&self) -> Result<ReplayStream, PersistenceError> {
        self.reads.stream_all_events::<A>().await
    }
}

/// One command's events.
struct Batch<'a> {
    key: Option<&'a CommandKey>,
    behind: Option<Uuid>,
    newest: &'a SerializedEvent,
    events: &'a [SerializedEvent],
    ids: &'a [Uuid],
}

impl Batch<'_> {
    /// The sequence of its first event.
    fn first(&self) -> usize {
        self.events.iter().map(|event| event.sequence).min().unwrap_or_default()
    }
}

async fn append_alone(relaxed: &Relaxed, batch: Batch<'_>) -> Result<u64, sqlx::Error> {
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
async fn append(database: impl PgExecutor<'_>, batch: Batch<'_>) -> Result<u64, sqlx::Error> {
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
async fn append_beside(
    connection: &mut PgConnection,
    beside: &mut Query<'_, Postgres, PgArguments>,
    answer: &mut i64,
    batch: Batch<'_>,
) -> Result<u64, sqlx::Error> {
    let arguments = beside.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
    let [kind, id, first, behind, metadata, new, key, fingerprint] = std::array::from_fn(|n| arguments.len() + 1 + n);
    let before = from_before(batch.first(), [kind, id, first, behind]);
    let mut keyed = String::new();
    if batch.key.is_some() {
        keyed = format!(
            ", keyed AS (
                 INSERT INTO command_keys (key, fingerprint, aggregate_type, aggregate_id, version, events)
                 SELECT ${key}, ${fingerprint}, ${kind}, ${id}, max(sequence), count(*) FROM new HAVING count(*) > 0
             )"
        );
    }
    let statement = format!(
        "WITH follows AS MATERIALIZED (
             SELECT {before}
         ), {}, new AS MATERIALIZED (
             SELECT new.* FROM held, jsonb_to_recordset(${new})
                 AS new (sequence bigint, event_type text, event_version text, payload jsonb, event_id uuid)
         ){keyed}
         INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
         SELECT ${kind}, ${id}, sequence, event_type, event_version, payload, ${metadata}, event_id
         FROM new ORDER BY sequence RETURNING (SELECT answer FROM held)",
        beside.sql()
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
    let answers: Vec<i64> = sqlx::query_scalar_with(&statement, arguments)
        .bind(&batch.newest.aggregate_type)
        .bind(&batch.newest.aggregate_id)
        .bind(signed(batch.first() as u64))
        .bind(batch.behind)
        .bind(&batch.newest.metadata)
        .bind(Value::from_iter(new))
        .bind(batch.key.map(|key| &key.key))
        .bind(batch.key.map(|key| &key.fingerprint))
        .fetch_all(connection)
        .await?;
    if let Some(first) = answers.first() {
        *answer = *first;
    }
    Ok(answers.len() as u64)
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

/// What a key led to.
pub(crate) struct KeyOutcome {
    pub(crate) fingerprint: Vec<u8>,
    pub(crate) aggregate_type: String,
    pub(crate) aggregate_id: String,
    pub(crate) version: u64,
    pub(crate) events: usize,
}

/// Looks a key up.
pub(crate) async fn find_key(database: impl PgExecutor<'_>, key: &str) -> Result<Option<KeyOutcome>, sqlx::Error> {
    let row: Option<(Vec<u8>, String, String, i64, i32)> = sqlx::query_as(
        "SELECT fingerprint, aggregate_type, aggregate_id, version, events FROM command_keys WHERE key = $1",
    )
    .bind(key)
    .fetch_optional(database)
    .await?;
    Ok(row.map(|(fingerprint, aggregate_type, aggregate_id, version, events)| KeyOutcome {
        fingerprint,
        aggregate_type,
        aggregate_id,
        version: unsigned(version),
        events: usize::try_from(events).unwrap_or_default(),
    }))
}

/// Stores the key of a command that changed nothing, with the version it saw.
pub(crate) async fn store_key(
    database: impl PgExecutor<'_>,
    key: &CommandKey,
    aggregate_type: &str,
    aggregate_id: &str,
    version: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO command_keys (key, fingerprint, aggregate_type, aggregate_id, version, events)
         VALUES ($1, $2, $3, $4, $5, 0)",
    )
    .bind(&key.key)
    .bind(&key.fingerprint)
    .bind(aggregate_type)
    .bind(aggregate_id)
    .bind(signed(version))
    .execute(database)
    .await?;
    Ok(())
}
