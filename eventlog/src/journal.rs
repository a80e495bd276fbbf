//! How cqrs-es reads and appends events: postgres-es reads, one statement of ours appends.

mod append;
mod key;

pub(crate) use key::{KeyOutcome, find_key, store_key};

use crate::context::CommandKey;
use crate::relaxed::Relaxed;
use append::{Batch, append, append_alone, append_beside};
use cqrs_es::Aggregate;
use cqrs_es::persist::{PersistedEventRepository, PersistenceError, ReplayStream, SerializedEvent, SerializedSnapshot};
use postgres_es::PostgresEventRepository;
use serde_json::Value;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use sqlx::{PgConnection, PgTransaction};
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
