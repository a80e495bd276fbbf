//! Reading the feed in order and without gaps: live messages as they come, PostgreSQL behind them.

use crate::answer::answer;
use crate::cloudevent::{self, Refused};
use crate::database::FeedRow;
use crate::feed::Feed;
use crate::log::chain;
use crate::mac::{MacKey, Unproved};
use crate::recorded::{Recorded, read_after};
use crate::stream::{StreamError, Verified, context, verify};
use crate::unproved;
use crate::zoo::plays;
use async_nats::jetstream::consumer::{DeliverPolicy, OrderedPullConsumer, pull};
use async_nats::{Client, Message};
use futures::stream::{BoxStream, Stream, StreamExt, unfold};
use sqlx::PgPool;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// The most events in one batch.
pub(crate) const BATCH: u32 = 500;

/// How long nothing may come before PostgreSQL is asked: JetStream skips what is deleted, and waits beyond its end, in
/// silence.
const SILENCE: Duration = Duration::from_secs(1);

/// Why the feed cannot be read now. NATS alone being away is no reason: PostgreSQL has everything.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database is away: try again later.
    #[error("the event log is unavailable")]
    Unavailable(#[from] sqlx::Error),
}

/// Where live messages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Live {
    /// An ordered consumer: reads the stored past from JetStream too. For the few that read all.
    Consumer,
    /// A plain subscription: no state in the server at all. For the many that follow.
    Subscription,
}

/// Live messages, and the key that they must be signed with.
struct Messages {
    key: MacKey,
    chunks: BoxStream<'static, Vec<Message>>,
}

/// Why there are no live messages.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// They would all be refused, one chunk after the other.
    #[error(
        "its messages up to position {until} have no MAC: an older version published them. `tandem stream rebuild` makes them anew"
    )]
    Unsigned { until: u64 },
    #[error("opening them ended by a defect")]
    Defect(#[source] JoinError),
}

/// Reads the feed from a position on.
pub(crate) struct Reader {
    pool: PgPool,
    nats: Client,
    feed: Feed,
    live: Live,
    position: u64,
    messages: Option<Messages>,
    /// The live messages being opened, while there are none: in a task, since nobody asks for it while PostgreSQL is read, and it may
    /// hold the connection that this waits for.
    opening: Option<AbortOnDropHandle<Result<Messages, Closed>>>,
    /// When to look at PostgreSQL if nothing came till then.
    look: Instant,
    /// True if the database is known to have more.
    behind: bool,
    /// True from NATS's failing until it is well again: each change is logged once.
    failing: bool,
    /// How many messages were refused, as not proved to be the relay's.
    refused: Arc<AtomicU64>,
}

impl Reader {
    /// Reads what follows a position.
    pub(crate) fn after(pool: PgPool, nats: Client, feed: Feed, live: Live, position: u64) -> Self {
        let look = match live {
            Live::Consumer => Instant::now() + SILENCE,
            Live::Subscription => Instant::now(),
        };
        Self {
            pool,
            nats,
            feed,
            live,
            position,
            messages: None,
            opening: None,
            look,
            behind: false,
            failing: false,
            refused: Arc::default(),
        }
    }

    /// Counts there what it refuses.
    pub(crate) fn counting(mut self, refused: Arc<AtomicU64>) -> Self {
        self.refused = refused;
        self
    }

    /// The next events: at least one, each following the last. Waits for them. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Vec<Recorded>, ReadError> {
        loop {
            let batch = if let Some(messages) = &mut self.messages {
                tokio::select! {
                    // Messages first: looking is for silence.
                    biased;
                    chunk = messages.chunks.next() => self.accept(chunk).await?,
                    () = sleep_until(self.look) => self.look().await?,
                }
            } else {
                let opening = self.opening.get_or_insert_with(|| {
                    let delay = if self.failing { SILENCE } else { Duration::ZERO };
                    let (pool, nats, feed) = (self.pool.clone(), self.nats.clone(), self.feed.clone());
                    AbortOnDropHandle::new(tokio::spawn(open(pool, nats, feed, self.live, self.position, delay)))
                });
                tokio::select! {
                    opened = opening => {
                        self.opened(opened.unwrap_or_else(|failed| Err(Closed::Defect(failed))));
                        continue;
                    }
                    () = sleep_until(self.look) => self.look().await?,
                }
            };
            if let Some(last) = batch.last() {
                self.position = last.position;
                // After a full page of the database there probably is more.
                let page = self.messages.is_none() || self.live == Live::Subscription;
                self.behind |= page && batch.len() >= BATCH as usize;
                self.look = if std::mem::take(&mut self.behind) { Instant::now() } else { Instant::now() + SILENCE };
                return Ok(batch);
            }
        }
    }

    /// All that follows, batch after batch.
    pub(crate) fn batches(self) -> impl Stream<Item = Result<Vec<Recorded>, ReadError>> {
        unfold(self, async |mut reader| Some((reader.next().await, reader)))
    }

    fn opened(&mut self, opened: Result<Messages, Closed>) {
        self.opening = None;
        match opened {
            Ok(messages) => {
                self.messages = Some(messages);
                if self.live == Live::Subscription {
                    // What was published before the subscription is not in it.
                    self.look = Instant::now();
                }
                if std::mem::take(&mut self.failing) {
                    tracing::info!(stream = %self.feed.stream, "reading the stream again");
                }
            }
            // Usual after an upgrade, and told by `stream check`.
            Err(error @ Closed::Unsigned { .. }) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::info!(stream = %self.feed.stream, reason = %error, "reading PostgreSQL instead of the stream");
                }
            }
            Err(error) => self.fail(&chain(&error)),
        }
    }

    /// What PostgreSQL has beyond our position.
    async fn look(&mut self) -> Result<Vec<Recorded>, ReadError> {
        self.look = Instant::now() + SILENCE;
        if plays("reads-the-stream-alone") {
            return Ok(vec![]);
        }
        Ok(read_after(&self.pool, self.position, BATCH).await?)
    }

    /// Messages made into a batch that follows our position.
    async fn accept(&mut self, chunk: Option<Vec<Message>>) -> Result<Vec<Recorded>, ReadError> {
        let mut batch = Vec::new();
        let mut position = self.position;
        let Some(key) = self.messages.as_ref().map(|messages| messages.key.clone()) else { return Ok(batch) };
        for message in chunk.iter().flatten() {
            match cloudevent::read(message, &key) {
                Ok(event) => {
                    if plays("gaps-passed-over") {
                        position = event.position - 1;
                    }
                    if event.position > position + 1 {
                        let rows = read_after(&self.pool, position, BATCH).await?;
                        position = rows.last().map_or(position, |last| last.position);
                        batch.extend(rows);
                    }
                    if event.position > position + 1 {
                        // A wide gap: the next page is read at once, and closes it.
                        self.behind = true;
                        return Ok(batch);
                    }
                    if event.position == position + 1 {
                        position = event.position;
                        batch.push(event);
                    }
                }
                // Not ours, or of another history: the relay's business. We go by PostgreSQL, and open again later.
                Err(Refused::Unproved(reason)) => {
                    batch.extend(self.refuse(&key, position, reason).await?);
                    return Ok(batch);
                }
                Err(Refused::Unreadable(_)) => {
                    self.fail("a message of the stream is of a version that is not known here");
                    return Ok(batch);
                }
            }
        }
        if chunk.is_none() {
            self.fail("the messages ended");
        }
        Ok(batch)
    }

    /// What PostgreSQL has, in place of a message that is not proved to be the relay's.
    ///
    /// However many there are, one in a second is met: the stream is left till then.
    async fn refuse(&mut self, key: &MacKey, position: u64, reason: Unproved) -> Result<Vec<Recorded>, ReadError> {
        let now = answer(FeedRow::read(&self.pool)).await?.key;
        if now.epoch() == key.epoch() {
            unproved::refuse(&self.feed, position, reason);
            self.refused.fetch_add(1, Ordering::Relaxed);
            self.fail("a message of the stream is not proved to be the relay's");
        } else {
            self.fail("the stream was made anew");
        }
        Ok(read_after(&self.pool, position, BATCH).await?)
    }

    fn fail(&mut self, reason: &str) {
        self.messages = None;
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(stream = %self.feed.stream, reason, "reading PostgreSQL instead of the stream");
        }
    }
}

/// Opens live messages that follow a position, after a delay.
async fn open(
    pool: PgPool,
    nats: Client,
    feed: Feed,
    live: Live,
    position: u64,
    delay: Duration,
) -> Result<Messages, Closed> {
    tokio::time::sleep(delay).await;
    // A stream that is ahead of the database, or of another history, must not be read at all.
    let Verified { key, unsigned_until, .. } = verify(&pool, &nats, &feed).await?;
    if live == Live::Consumer && position < unsigned_until {
        return Err(Closed::Unsigned { until: unsigned_until });
    }
    let chunks = match live {
        Live::Subscription => {
            let subscriber = nats.subscribe(feed.subjects()).await.map_err(StreamError::nats)?;
            // The server's answer to a ping follows the subscription: nothing published from here on is missed.
            nats.flush().await.map_err(StreamError::nats)?;
            subscriber.ready_chunks(BATCH as usize).boxed()
        }
        Live::Consumer => {
            let stream = context(&nats).get_stream_no_info(&feed.stream).await.map_err(StreamError::nats)?;
            let consumer: OrderedPullConsumer = stream
                .create_consumer(pull::OrderedConfig {
                    deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: position + 1 },
                    ..Default::default()
                })
                .await
                .map_err(StreamError::nats)?;
            let messages = consumer.messages().await.map_err(StreamError::nats)?;
            messages
                .scan((), |(), message| std::future::ready(message.ok().map(|message| message.split().0)))
                .ready_chunks(BATCH as usize)
                .boxed()
        }
    };
    Ok(Messages { key, chunks })
}
