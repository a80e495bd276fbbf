//! The JetStream stream: its settings, whether it is ours, and how it is made anew.

mod check;
pub(crate) mod missing;
mod proved;
mod rebuild;
mod settings;

pub use check::{Report, check};
pub use proved::{Proved, proved};
pub use rebuild::{Rebuilt, Unsure, rebuild};

use crate::answer::answer;
use crate::cloudevent;
use crate::database::FeedRow;
use crate::feed::Feed;
use crate::mac::{MacKey, Unproved};
use crate::recorded::numbered;
use crate::zoo::plays;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Config, RawMessageErrorKind, Stream};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, ServerInfo};
use settings::{differences, settings};
use sqlx::PgPool;
use std::error::Error;
use std::time::Duration;
use uuid::Uuid;

/// The oldest nats-server that keeps every promise we rely on; older ones ignore in silence what they do not know.
const OLDEST_SERVER: (u64, u64) = (2, 14);

/// What a server has to take, headers and all: twice the largest event of the domain, and nats-server's own default.
const LARGEST_MESSAGE: usize = 1024 * 1024;

/// The stream's metadata says which history it holds, even before its first message.
const EPOCH: &str = "tandem-epoch";

/// How long the server may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Why the stream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// NATS is away or has no leader now: try again later.
    #[error("NATS is unavailable")]
    Nats(#[source] Box<dyn Error + Send + Sync>),
    /// The database is away: try again later.
    #[error("the event log is unavailable")]
    Database(#[from] sqlx::Error),
    /// There is no such stream: the relay makes it.
    #[error("there is no stream {0}")]
    NotFound(String),
    /// A person has to upgrade the server.
    #[error("nats-server {found} is too old: {major}.{minor} or newer is needed", major = OLDEST_SERVER.0, minor = OLDEST_SERVER.1)]
    TooOld {
        /// The version that the server tells.
        found: String,
    },
    /// The server takes only smaller messages than the largest event. A person has to raise its `max_payload`.
    #[error(
        "nats-server takes messages of {found} bytes at most: its max_payload has to be {LARGEST_MESSAGE} at least"
    )]
    TooSmall {
        /// Its `max_payload`.
        found: usize,
    },
    /// JetStream is not switched on in the server (`nats-server -js`), or not for this account.
    #[error("JetStream is not enabled in nats-server")]
    NoJetStream,
    /// A stream of that name has other settings: it is not ours, or somebody changed it. A person has to rename or mend it.
    #[error("the stream {stream} is not as Tandem needs it: {}", differences.join("; "))]
    Settings {
        /// Its name.
        stream: String,
        /// Each setting that differs, with what it is and what it has to be.
        differences: Vec<String>,
    },
    /// Another stream takes the same subjects. A person has to remove it, or choose another root.
    #[error("another stream already takes the subjects {subjects}")]
    Overlap {
        /// Ours.
        subjects: String,
    },
    /// One server cannot keep several copies. A person has to make it a cluster, or ask for one copy.
    #[error("nats-server is no cluster, and cannot keep {replicas} copies of the stream")]
    NoCluster {
        /// How many are asked for.
        replicas: usize,
    },
    /// The stream holds more than the database: an older backup of the database was restored. A person has to choose:
    /// restore the newer database, or `tandem stream rebuild`.
    #[error(
        "the stream {stream} is at {stream_last}, ahead of the database at {database_last}: was a backup restored? \
         Restore the newer database, or make the stream anew: `tandem stream rebuild`"
    )]
    Ahead {
        /// Its name.
        stream: String,
        /// The stream's last sequence.
        stream_last: u64,
        /// The database's last position.
        database_last: u64,
    },
    /// The stream belongs to another history, or something else published into it. A person has to look, and may
    /// `tandem stream rebuild`.
    #[error(
        "message {position} of the stream {stream} is not the event at that position: of another database, or of before \
         a backup was restored? `tandem stream check` compares, `tandem stream rebuild` makes the stream anew"
    )]
    Foreign {
        /// Its name.
        stream: String,
        /// The first message known to differ; 0 for the stream as a whole.
        position: u64,
    },
}

impl StreamError {
    pub(crate) fn nats(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Nats(Box::new(error))
    }

    /// Whether it may pass by itself; everything else waits for a person.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Nats(_) | Self::Database(_) | Self::NotFound(_))
    }
}

/// What [`verify`] found.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    /// The key of the history that both database and stream hold.
    pub(crate) key: MacKey,
    /// The stream's last sequence: it has every event up to this position.
    pub(crate) last: u64,
    /// Up to here, messages may have no MAC.
    pub(crate) unsigned_until: u64,
    /// How many of its messages the stream has no more.
    pub(crate) gone: u64,
}

/// How the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamState {
    /// Its last sequence.
    pub last: u64,
    /// How many messages somebody has deleted from it whose persons were not erased. Readers read the database for them.
    pub missing: u64,
}

/// Looks at the stream as the relay does: reads one message, and counts.
///
/// # Errors
/// What a person has to mend, as the relay tells it; or that NATS or the database is away.
pub async fn look(pool: &PgPool, nats: &Client, feed: &Feed) -> Result<StreamState, StreamError> {
    let Verified { last, gone, .. } = verify(pool, nats, feed).await?;
    let missing = missing::missing(pool, nats, feed, gone, missing::Seen::default()).await?.missing;
    Ok(StreamState { last, missing })
}

/// Makes the stream if there is none, and refuses one that is not as it has to be.
///
/// Call it once at start, so that a wrong set-up is told before anything runs. Waits for NATS to be reachable for a few
/// seconds at most.
pub async fn prepare(pool: &PgPool, nats: &Client, feed: &Feed) -> Result<(), StreamError> {
    server(nats).await?;
    let epoch = crate::database::epoch(pool).await?;
    match verify(pool, nats, feed).await {
        Err(StreamError::NotFound(_)) => create(nats, feed, epoch).await,
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// Whether the stream is ours: its settings, its epoch, its last message.
///
/// Every message was published expecting the one before it, so that if the last one is ours, all are.
pub(crate) async fn verify(pool: &PgPool, nats: &Client, feed: &Feed) -> Result<Verified, StreamError> {
    let stream = open(nats, feed).await?;
    let info = stream.cached_info();
    let differences = differences(&info.config, feed);
    if !differences.is_empty() {
        return Err(StreamError::Settings { stream: feed.stream.clone(), differences });
    }
    // Read after the stream: the database is never behind, but for a restored backup.
    let (last, gone) = (info.state.last_sequence, missing::gone(&info.state));
    let FeedRow { last: database_last, key, unsigned_until } = answer(FeedRow::read(pool)).await?;
    if plays("goes-on-behind-a-lost-history") {
        return Ok(Verified { key, last, unsigned_until, gone });
    }
    if info.config.metadata.get(EPOCH) != Some(&key.epoch().to_string()) && !plays("epoch-not-compared") {
        return Err(StreamError::Foreign { stream: feed.stream.clone(), position: 0 });
    }
    if last > database_last {
        return Err(StreamError::Ahead { stream: feed.stream.clone(), stream_last: last, database_last });
    }
    let mut unsigned_until = unsigned_until;
    if last > 0 && compare(pool, &stream, feed, &key, last).await? == Proof::Content {
        // An older version's relay has published since the upgrade, and everything before it.
        unsigned_until = unsigned_until.max(last);
    }
    Ok(Verified { key, last, unsigned_until, gone })
}

/// How a message is known to be the event of its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// By its MAC; or it was deleted when its person was erased.
    Mac,
    /// It has none, and says just what the event says: an older version published it.
    Content,
}

/// Whether the message at a position is the event of that position.
pub(crate) async fn compare(
    pool: &PgPool,
    stream: &Stream,
    feed: &Feed,
    key: &MacKey,
    position: u64,
) -> Result<Proof, StreamError> {
    if plays("refusal-taken-for-published") {
        return Ok(Proof::Mac);
    }
    let event = answer(numbered(pool, position)).await?;
    let proof = match stream.get_raw_message(position).await {
        Ok(message) => event.and_then(|(event, erased)| {
            let proof = proof(&message, key)?;
            let id = cloudevent::id(&message.headers).is_ok_and(|id| id == event.event_id);
            let subject = feed.subject(&event.aggregate_type, &event.aggregate_id, &event.event_type);
            if proof == Proof::Content && !erased {
                // Blank events are no longer what their messages say.
                let says = cloudevent::parse(&message.headers, &message.payload).ok()?;
                if says != event {
                    return None;
                }
            }
            (id && *message.subject == *subject).then_some(proof)
        }),
        // Deleted when its person was erased.
        Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {
            event.filter(|(_, erased)| *erased).map(|_| Proof::Mac)
        }
        Err(error) => return Err(StreamError::nats(error)),
    };
    proof.ok_or_else(|| StreamError::Foreign { stream: feed.stream.clone(), position })
}

/// What a stored message can prove of itself; a wrong MAC proves that it is not ours, and so does another history's epoch.
fn proof(message: &StreamMessage, key: &MacKey) -> Option<Proof> {
    match key.check(message) {
        Ok(()) => Some(Proof::Mac),
        Err(Unproved::Wrong) => None,
        Err(Unproved::Missing) => {
            cloudevent::epoch(&message.headers).is_ok_and(|epoch| epoch == key.epoch()).then_some(Proof::Content)
        }
    }
}

/// The stream with fresh information from its leader.
pub(crate) async fn open(nats: &Client, feed: &Feed) -> Result<Stream, StreamError> {
    context(nats).get_stream(&feed.stream).await.map_err(|error| match error.kind() {
        GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            StreamError::NotFound(feed.stream.clone())
        }
        GetStreamErrorKind::JetStream(cause)
            if [ErrorCode::JETSTREAM_NOT_ENABLED, ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT]
                .contains(&cause.error_code()) =>
        {
            StreamError::NoJetStream
        }
        _ => StreamError::nats(error),
    })
}

/// Makes an empty stream for a history.
pub(crate) async fn create(nats: &Client, feed: &Feed, epoch: Uuid) -> Result<(), StreamError> {
    let config = Config {
        metadata: [(EPOCH.to_owned(), epoch.to_string())].into(),
        description: Some(
            "Tandem's catalog events. Positions are sequence numbers; PostgreSQL has the originals.".into(),
        ),
        ..settings(feed)
    };
    match context(nats).create_stream(config).await {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            CreateStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_SUBJECT_OVERLAP => {
                StreamError::Overlap { subjects: feed.subjects() }
            }
            CreateStreamErrorKind::JetStream(cause)
                if cause.error_code() == ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED =>
            {
                StreamError::NoCluster { replicas: feed.replicas }
            }
            _ => StreamError::nats(error),
        }),
    }
}

pub(crate) fn context(nats: &Client) -> jetstream::Context {
    jetstream::context::ContextBuilder::new().timeout(TIMEOUT).ack_timeout(TIMEOUT).build(nats.clone())
}

/// Refuses a server that is too old, or set too small.
async fn server(nats: &Client) -> Result<(), StreamError> {
    // Until the first connection is made, the client knows no server.
    let connected = tokio::time::timeout(TIMEOUT, nats.flush()).await;
    connected.map_err(StreamError::nats)?.map_err(StreamError::nats)?;
    let ServerInfo { version: found, max_payload, .. } = nats.server_info();
    let mut parts = found.split('.').map(|part| part.parse::<u64>().unwrap_or_default());
    let version = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if version < OLDEST_SERVER {
        return Err(StreamError::TooOld { found });
    }
    if max_payload < LARGEST_MESSAGE { Err(StreamError::TooSmall { found: max_payload }) } else { Ok(()) }
}
