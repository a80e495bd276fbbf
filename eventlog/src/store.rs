//! Running commands: look the key up, load, decide, append, ring the bell.

mod error;
mod page;

pub use error::{ExecuteError, StoreError};

use crate::apart::Apart;
use crate::connections::Connections;
use crate::context::{CommandKey, Context};
use crate::crash;
use crate::database::signed;
use crate::disk::{Disk, Session};
use crate::journal::{Journal, KeyOutcome, Place, find_key, store_key};
use crate::recorded::decode;
use crate::relaxed::Relaxed;
use crate::wake::Wake;
use crate::zoo::plays;
use backon::{ExponentialBuilder, Retryable};
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::{
    EventStoreAggregateContext, EventUpcaster, PersistedEventRepository, PersistedEventStore, SerializedEvent,
};
use cqrs_es::{Aggregate, EventStore};
use error::{database_error, execute_error};
use postgres_es::PostgresEventRepository;
use quick_cache::sync::Cache;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use sqlx::{PgConnection, PgPool, PgTransaction};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use uuid::Uuid;

/// How often a command is tried again when others append to the same aggregate meanwhile.
const CONFLICT_RETRIES: usize = 20;

/// The event log of one kind of aggregate. Cheap to clone.
pub struct Store<A> {
    pool: PgPool,
    reads: Arc<PostgresEventRepository>,
    relaxed: Relaxed,
    disk: Disk,
    apart: Apart,
    wake: Wake,
    upcasters: fn() -> Vec<Box<dyn EventUpcaster>>,
    /// Aggregates as this process last appended to them. Others may have appended since: an append finds out.
    recent: Arc<Cache<String, Loaded<A>>>,
    appended: broadcast::Sender<Appended>,
}

/// An aggregate that a command has just changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Its id.
    pub id: String,
    /// Its version after the command.
    pub version: u64,
    /// Where the command came from.
    pub origin: String,
}

/// How far those who listen for changes may be behind before they miss some.
const NEWS: usize = 1024;

/// How many aggregates are remembered.
const RECENT: usize = 4096;

/// An aggregate as its events have made it.
#[derive(Debug, Clone)]
pub struct Loaded<A> {
    /// Its id.
    pub id: String,
    /// Its state.
    pub aggregate: A,
    /// How many events it has; 0 when there are none yet.
    pub version: u64,
    /// The id of its last event, where it is known: nothing is appended behind another in its place.
    pub last: Option<Uuid>,
}

/// What a command led to.
#[derive(Debug, Clone)]
pub struct Executed<A: Aggregate> {
    /// The aggregate's id: of a replayed command, the id of the first time.
    pub id: String,
    /// The state after the command: of a replayed one, as it was then.
    pub aggregate: A,
    /// The version after the command.
    pub version: u64,
    /// The id of the event that made that version, where it is known.
    pub last: Option<Uuid>,
    /// The command's own events; none if everything was so already.
    pub events: Vec<A::Event>,
    /// True if this key had been executed before, and nothing happened now.
    pub replayed: bool,
}

impl<A: Aggregate> From<Executed<A>> for Loaded<A> {
    fn from(executed: Executed<A>) -> Self {
        let Executed { id, aggregate, version, last, .. } = executed;
        Self { id, aggregate, version, last }
    }
}

impl<A: Default> Loaded<A> {
    fn unborn(id: &str) -> Self {
        Self { id: id.to_owned(), aggregate: A::default(), version: 0, last: None }
    }
}

impl<A> Clone for Store<A> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            reads: Arc::clone(&self.reads),
            relaxed: self.relaxed.clone(),
            disk: self.disk.clone(),
            apart: self.apart.clone(),
            wake: self.wake.clone(),
            upcasters: self.upcasters,
            recent: Arc::clone(&self.recent),
            appended: self.appended.clone(),
        }
    }
}

impl<A> std::fmt::Debug for Store<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl<A> Store<A>
where
    A: Aggregate<Services = ()> + Clone + 'static,
    A::Command: Clone + Send + Sync + 'static,
    A::Error: Send + Sync + 'static,
{
    /// A store in that database, which rings that bell after each commit.
    pub fn new(connections: &Connections, wake: Wake, upcasters: fn() -> Vec<Box<dyn EventUpcaster>>) -> Self {
        Self {
            pool: connections.pool().clone(),
            reads: Arc::new(PostgresEventRepository::new(connections.pool().clone())),
            relaxed: connections.relaxed().clone(),
            disk: connections.disk().clone(),
            apart: Apart::default(),
            wake,
            upcasters,
            recent: Arc::new(Cache::new(RECENT)),
            appended: broadcast::Sender::new(NEWS),
        }
    }

    /// Hears at once of what is appended in this process. No more than a hint: it may be missed, and other processes append,
    /// too. The feed has everything.
    pub fn appended(&self) -> broadcast::Receiver<Appended> {
        self.appended.subscribe()
    }

    /// What commands wait for before they are answered.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The tasks that commands run in. Whoever ends the process waits for them before it closes the connections.
    pub fn apart(&self) -> &Apart {
        &self.apart
    }

    /// The bell that rings after each commit.
    pub fn wake(&self) -> &Wake {
        &self.wake
    }

    /// The aggregate as it is now; version 0 if it has no events.
    pub async fn load(&self, id: &str) -> Result<Loaded<A>, StoreError> {
        // Asked first: should a crash of the database put another in its place now, an append is refused.
        let last = self.last(id).await?;
        let events = self.events(id).await?;
        Ok(Loaded { last, ..fold(id, events) })
    }

    async fn last(&self, id: &str) -> Result<Option<Uuid>, StoreError> {
        let last = sqlx::query_scalar(
            "SELECT event_id FROM events WHERE (aggregate_type, aggregate_id) = ($1, $2) ORDER BY sequence DESC LIMIT 1",
        );
        Ok(last.bind(A::TYPE).bind(id).fetch_optional(&self.pool).await?)
    }

    /// The aggregate at that version or a later one, from memory if it is there: for whoever is told of later ones anyhow.
    pub async fn load_since(&self, id: &str, version: u64) -> Result<Loaded<A>, StoreError> {
        let Some(known) = self.remembered(id, version) else { return self.load(id).await };
        let is_there = self.holds(id, known.version, known.last).await?;
        if is_there { Ok(known) } else { self.load(id).await }
    }

    /// The aggregate at that version or a later one, if it is remembered: others may have appended since.
    pub fn remembered(&self, id: &str, version: u64) -> Option<Loaded<A>> {
        self.recent.get(id).filter(|known| known.version >= version)
    }

    /// Whether that event is in the database. It is not if that was restored from a backup of before, or lost it in a
    /// crash; others may have appended in its place.
    async fn holds(&self, id: &str, version: u64, event: Option<Uuid>) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM events WHERE (aggregate_type, aggregate_id, sequence) = ($1, $2, $3)
                                                 AND event_id = COALESCE($4, event_id))",
        )
        .bind(A::TYPE)
        .bind(id)
        .bind(signed(version))
        .bind(event)
        .fetch_one(&self.pool)
        .await
    }

    /// The aggregate as it was at a version.
    pub async fn load_at(&self, id: &str, version: u64) -> Result<Loaded<A>, StoreError> {
        let mut events = self.events(id).await?;
        let actual = events.len() as u64;
        if actual < version {
            return Err(StoreError::NoSuchVersion { actual });
        }
        events.retain(|event| event.version <= version);
        Ok(fold(id, events))
    }

    /// Executes a command once, however the caller fares: it runs in a task of its own, and a caller that hangs up
    /// cancels nothing. What it answers is durable; who hears of it meanwhile acts on it without waiting for that.
    ///
    /// A command with a key that was executed before changes nothing and answers what it answered then.
    pub async fn execute(
        &self,
        id: &str,
        command: A::Command,
        context: Context,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        let store = self.clone();
        let id = id.to_owned();
        let running = async move {
            let attempt = || store.attempt(&id, command.clone(), &context);
            let backoff = ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(1))
                .with_max_delay(Duration::from_millis(50))
                .with_max_times(CONFLICT_RETRIES)
                .with_jitter();
            let since = store.disk.session().await.map_err(ExecuteError::Unavailable)?;
            let attempted = attempt.retry(backoff).when(|error| matches!(error, ExecuteError::Conflict)).await;
            if !plays("answered-before-durable") {
                // Also what changes nothing, and a refusal: they rest on what somebody else may be waiting for still.
                let durable = match &attempted {
                    Ok(executed) => store.durable(since, executed).await,
                    Err(ExecuteError::Refused(_) | ExecuteError::VersionMismatch { .. }) => {
                        store.disk.reached(since).await
                    }
                    Err(_) => Ok(()),
                };
                durable.map_err(ExecuteError::Unavailable)?;
            }
            attempted
        };
        if plays("command-in-its-callers-future") {
            return running.await;
        }
        // The runtime may shut down.
        self.apart.run(running).await.unwrap_or(Err(ExecuteError::Unavailable(sqlx::Error::WorkerCrashed)))
    }

    /// Waits until what a command led to is durable. A session that broke on the way is no reason to fail if it is there all
    /// the same.
    async fn durable(&self, since: Session, executed: &Executed<A>) -> Result<(), sqlx::Error> {
        let Err(error) = self.disk.reached(since).await else { return Ok(()) };
        let since = self.disk.session().await?;
        match self.holds(&executed.id, executed.version, executed.last).await {
            Ok(true) => self.disk.reached(since).await,
            Ok(false) | Err(_) => Err(error),
        }
    }

    /// Appends what a command led to inside the caller's transaction: events and key are stored if that commits.
    ///
    /// A conflict is the caller's, who rolls back, loads and begins again. After the commit, [`Store::committed`] tells of it.
    pub async fn append_in(
        &self,
        transaction: &mut PgTransaction<'_>,
        decided: Decided<A>,
        context: &Context,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        self.append(Place::Within(transaction), decided, context).await
    }

    /// Appends what a command led to in one statement, and so one commit, with what the caller stores: `beside` are common table
    /// expressions, of which `held` has a row if the caller may go on, with an `answer` (`bigint`), which is returned. It must have
    /// none, and nothing may be stored, if `follows`, which they can select from, has none.
    ///
    /// `None`: nothing is stored. The caller may not go on, others have appended meanwhile, it is stored already, or there are no
    /// events. [`Store::append_in`] tells.
    pub async fn append_beside(
        &self,
        connection: &mut PgConnection,
        beside: Query<'_, Postgres, PgArguments>,
        decided: Decided<A>,
        context: &Context,
    ) -> Result<Option<(Executed<A>, i64)>, ExecuteError<A::Error>> {
        if decided.is_nothing() {
            return Ok(None);
        }
        let mut answer = 0;
        match self.append(Place::Beside(connection, beside, &mut answer), decided, context).await {
            Err(ExecuteError::Conflict) => Ok(None),
            appended => appended.map(|executed| Some((executed, answer))),
        }
    }

    async fn attempt(
        &self,
        id: &str,
        command: A::Command,
        context: &Context,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        if plays("key-after-the-rules") {
            self.load(id).await?.decide(command.clone(), context).await?;
        }
        // Before anything else: a repeated command would be refused by the state that it led to itself.
        if let Some(key) = &context.key
            && let Some(found) = find_key(&self.pool, &key.key).await.map_err(database_error)?
        {
            return self.replay(key, found).await;
        }
        let known = match self.recent.get(id) {
            None if context.expected_version == Some(0) => Some(Loaded::unborn(id)),
            remembered => remembered,
        };
        let from_memory = match known {
            Some(known) => known.decide(command.clone(), context).await.ok(),
            None => None,
        };
        // The append is refused if others have appended since. What appends nothing must see for itself.
        let from_memory = match from_memory.filter(|decided| !decided.is_nothing()) {
            Some(decided) => match self.append(Place::Alone, decided, context).await {
                Err(ExecuteError::Conflict) => None,
                appended => Some(appended?),
            },
            None => None,
        };
        let executed = match from_memory {
            Some(executed) => executed,
            None => {
                let decided = self.load(id).await?.decide(command, context).await?;
                self.append(Place::Alone, decided, context).await?
            }
        };
        if !executed.events.is_empty() {
            crash::at("command-appended");
            self.committed(&executed, &context.origin);
        }
        Ok(executed)
    }

    /// Tells the relay and those who listen of new events, and spares the next command a look at the event log.
    /// [`Store::execute`] calls it itself; after [`Store::append_in`] the caller should, once it has committed.
    pub fn committed(&self, executed: &Executed<A>, origin: &str) {
        let Executed { id, aggregate, version, last, .. } = executed;
        self.wake.ring();
        // Nobody may be listening.
        let _ = self.appended.send(Appended { id: id.clone(), version: *version, origin: origin.to_owned() });
        let loaded = Loaded { id: id.clone(), aggregate: aggregate.clone(), version: *version, last: *last };
        self.recent.insert(id.clone(), loaded);
    }

    async fn append(
        &self,
        place: Place<'_, '_>,
        decided: Decided<A>,
        context: &Context,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        let Decided { id, aggregate, version, last, events } = decided;
        if events.is_empty() {
            if let Some(key) = &context.key {
                match place {
                    Place::Within(transaction) => store_key(&mut **transaction, key, A::TYPE, &id, version).await,
                    Place::Alone | Place::Beside(..) => store_key(&self.pool, key, A::TYPE, &id, version).await,
                }
                .map_err(database_error)?;
            }
            return Ok(Executed { id, aggregate, version, last, events, replayed: false });
        }
        crash::at("command-decided");
        let ids: Vec<Uuid> = events.iter().map(|_| Uuid::now_v7()).collect();
        let journal =
            Journal::of(&self.reads, &self.relaxed).at(place).keyed(context.key.as_ref()).behind(last).named(&ids);
        let position = EventStoreAggregateContext {
            aggregate_id: id.clone(),
            // Only a snapshot would be made of it, and there are none.
            aggregate: A::default(),
            current_sequence: usize::try_from(version).unwrap_or(usize::MAX),
            current_snapshot: None,
        };
        let committed = PersistedEventStore::<_, A>::new_event_store(journal)
            .commit(events, position, context.metadata())
            .await
            .map_err(execute_error)?;
        let version = version + committed.len() as u64;
        let events = committed.into_iter().map(|event| event.payload).collect();
        Ok(Executed { id, aggregate, version, last: ids.last().copied(), events, replayed: false })
    }

    /// What the key's command answered then.
    async fn replay(&self, key: &CommandKey, found: KeyOutcome) -> Result<Executed<A>, ExecuteError<A::Error>> {
        if found.aggregate_type != A::TYPE || found.fingerprint != key.fingerprint {
            return Err(ExecuteError::KeyReused);
        }
        let mut then = self.events(&found.aggregate_id).await?;
        then.retain(|event| event.version <= found.version);
        let own = then[then.len().saturating_sub(found.events)..].iter().map(|event| event.payload.clone()).collect();
        let Loaded { id, aggregate, version, last } = fold(&found.aggregate_id, then);
        Ok(Executed { id, aggregate, version, last, events: own, replayed: true })
    }

    async fn events(&self, id: &str) -> Result<Vec<Stored<A::Event>>, StoreError> {
        let events =
            self.reads.get_events::<A>(id).await.map_err(|error| match execute_error::<A::Error>(error.into()) {
                ExecuteError::Unavailable(error) => StoreError::Unavailable(error),
                other => StoreError::Corrupt(other.into()),
            })?;
        let upcasters = (self.upcasters)();
        let read = |stored: SerializedEvent| {
            Ok(Stored { version: stored.sequence as u64, payload: decode::<A>(stored, &upcasters)? })
        };
        events.into_iter().map(read).collect()
    }
}

/// What a command leads to, before anything is stored.
#[derive(Clone)]
pub struct Decided<A: Aggregate> {
    id: String,
    aggregate: A,
    /// Before the command.
    version: u64,
    /// Its last event before the command.
    last: Option<Uuid>,
    events: Vec<A::Event>,
}

impl<A: Aggregate> Decided<A> {
    /// The version that the aggregate has once this is stored.
    pub fn version(&self) -> u64 {
        self.version + self.events.len() as u64
    }

    /// Whether everything was so already.
    pub fn is_nothing(&self) -> bool {
        self.events.is_empty()
    }

    /// What it will have led to, once it is stored.
    pub fn executed(self) -> Executed<A> {
        let version = self.version();
        let Self { id, aggregate, last, events, .. } = self;
        Executed { id, aggregate, version, last: last.filter(|_| events.is_empty()), events, replayed: false }
    }
}

impl<A> Loaded<A>
where
    A: Aggregate<Services = ()>,
    A::Error: 'static,
{
    /// What a command leads to. Nothing is stored; nor is its key looked for.
    ///
    /// # Errors
    /// The aggregate refuses it, or is at another version than the command expects.
    pub async fn decide(self, command: A::Command, context: &Context) -> Result<Decided<A>, ExecuteError<A::Error>> {
        let Self { id, mut aggregate, version, last } = self;
        if context.expected_version.is_some_and(|expected| expected != version) {
            return Err(ExecuteError::VersionMismatch { actual: version });
        }
        let sink = EventSink::default();
        aggregate.handle(command, &(), &sink).await.map_err(ExecuteError::Refused)?;
        Ok(Decided { id, aggregate, version, last, events: sink.collect().await })
    }
}

/// An event that was read.
struct Stored<E> {
    version: u64,
    payload: E,
}

fn fold<A: Aggregate>(id: &str, events: Vec<Stored<A::Event>>) -> Loaded<A> {
    let mut loaded = Loaded::<A>::unborn(id);
    for event in events {
        loaded.version = event.version;
        loaded.aggregate.apply(event.payload);
    }
    loaded
}
