//! Comparing the stream with the database, event by event.

use super::{StreamError, open};
use crate::cloudevent;
use crate::database::{FeedRow, unsigned};
use crate::feed::Feed;
use crate::recorded::{Recorded, read_after};
use async_nats::jetstream::consumer::{DeliverPolicy, OrderedPullConsumer, pull};
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use async_nats::{Client, Message};
use futures::StreamExt;
use sqlx::PgPool;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use tokio::time::timeout;

const PAGE: u32 = 1000;

/// How long no message may come before the server is asked whether there is one.
const SILENCE: Duration = Duration::from_secs(1);

/// How many positions of each kind are named; all are counted.
const NAMED: usize = 20;

/// What [`check`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The database's last position.
    pub database_last: u64,
    /// The stream's last sequence.
    pub stream_last: u64,
    /// How many positions both have, with the same event.
    pub equal: u64,
    /// How many messages were deleted because their person was erased.
    pub erased: u64,
    /// How many events have no position yet: normal while something is being written.
    pub unnumbered: u64,
    /// Positions that the database lacks.
    pub missing_in_database: Positions,
    /// Positions that the stream lacks, up to its last.
    pub missing_in_stream: Positions,
    /// Positions where the two hold something else.
    pub different: Positions,
    /// Messages that are not proved to be the relay's, whatever they say: an older version published them, or somebody else.
    /// Readers go by the database for them.
    pub unproved: Positions,
}

/// Some positions: how many, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    /// How many there are.
    pub count: u64,
    /// The first twenty.
    pub first: Vec<u64>,
}

impl Report {
    /// Whether everything that was numbered is in both, equal, and without gaps. A stream that is a little behind is
    /// fine: the relay fills it.
    pub fn is_sound(&self) -> bool {
        self.stream_last <= self.database_last
            && [&self.missing_in_database, &self.missing_in_stream, &self.different, &self.unproved]
                .iter()
                .all(|kind| kind.count == 0)
    }
}

impl Positions {
    fn add(&mut self, position: u64) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(position);
        }
    }
}

/// Compares every position in PostgreSQL and in JetStream. Reads all of both; changes nothing.
pub async fn check(pool: &PgPool, nats: &Client, feed: &Feed) -> Result<Report, StreamError> {
    let mut messages = Messages::open(nats, feed).await?;
    let stream_last = messages.last;
    let FeedRow { last: database_last, key, .. } = FeedRow::read(pool).await?;
    let unnumbered: i64 =
        sqlx::query_scalar("SELECT count(*) FROM events WHERE position IS NULL").fetch_one(pool).await?;
    let erased: Vec<i64> =
        sqlx::query_scalar("SELECT position FROM events WHERE erased AND position IS NOT NULL").fetch_all(pool).await?;
    let erased: HashSet<u64> = erased.into_iter().map(unsigned).collect();
    let mut report = Report { database_last, stream_last, unnumbered: unsigned(unnumbered), ..Report::default() };

    let end = database_last.max(stream_last);
    let mut page = BTreeMap::<u64, Recorded>::new();
    for position in 1..=end {
        if position % u64::from(PAGE) == 1 {
            page = between(pool, position, position + u64::from(PAGE)).await?;
        }
        let event = page.get(&position);
        let message = messages.at(position).await?;
        if event.is_none() && position <= database_last {
            report.missing_in_database.add(position);
        }
        if let Some(message) = &message {
            let headers = message.headers.clone().unwrap_or_default();
            let is_here = cloudevent::position(&headers).is_ok_and(|at| at == position);
            if key.check_parts(&headers, &message.payload).is_err() || !is_here {
                report.unproved.add(position);
            }
        }
        match (event, message) {
            (Some(event), Some(message)) => {
                let subject = feed.subject(&event.aggregate_type, &event.aggregate_id, &event.event_type);
                let headers = message.headers.unwrap_or_default();
                let of_this_history = cloudevent::epoch(&headers).is_ok_and(|epoch| epoch == key.epoch());
                match cloudevent::parse(&headers, &message.payload) {
                    Ok(found) if found == *event && of_this_history && *message.subject == *subject => {
                        report.equal += 1;
                    }
                    _ => report.different.add(position),
                }
            }
            (Some(_), None) if erased.contains(&position) => report.erased += 1,
            (Some(_), None) if position <= stream_last => report.missing_in_stream.add(position),
            (None, Some(_)) => report.different.add(position),
            // Numbered and not published yet; or in neither, which is counted above.
            (Some(_), None) | (None, None) => {}
        }
    }
    Ok(report)
}

/// The events of a range of positions, the last excluded.
async fn between(pool: &PgPool, from: u64, to: u64) -> Result<BTreeMap<u64, Recorded>, sqlx::Error> {
    let events = read_after(pool, from - 1, u32::try_from(to - from).unwrap_or(PAGE)).await?;
    Ok(events.into_iter().filter(|event| event.position < to).map(|event| (event.position, event)).collect())
}

/// The stream's messages in order, one of them read ahead: what was deleted is skipped in silence.
struct Messages {
    stream: Stream,
    /// None at the end, where an ordered consumer would wait.
    ordered: Option<pull::Ordered>,
    last: u64,
    ahead: Option<(u64, Message)>,
}

impl Messages {
    async fn open(nats: &Client, feed: &Feed) -> Result<Self, StreamError> {
        let stream = open(nats, feed).await?;
        let state = &stream.cached_info().state;
        let last = state.last_sequence;
        let ordered = if state.messages == 0 {
            None
        } else {
            let consumer: OrderedPullConsumer = stream
                .create_consumer(pull::OrderedConfig { deliver_policy: DeliverPolicy::All, ..Default::default() })
                .await
                .map_err(StreamError::nats)?;
            Some(consumer.messages().await.map_err(StreamError::nats)?)
        };
        Ok(Self { stream, ordered, last, ahead: None })
    }

    /// The message of a position, asked for in ascending order.
    async fn at(&mut self, position: u64) -> Result<Option<Message>, StreamError> {
        while self.ahead.is_none()
            && let Some(ordered) = &mut self.ordered
        {
            match timeout(SILENCE, ordered.next()).await {
                Ok(Some(message)) => {
                    let message = message.map_err(StreamError::nats)?;
                    let info = message.info().map_err(StreamError::Nats)?;
                    let (sequence, pending) = (info.stream_sequence, info.pending);
                    self.ahead = Some((sequence, message.split().0));
                    if pending == 0 || sequence >= self.last {
                        self.ordered = None;
                    }
                }
                Ok(None) => self.ordered = None,
                // What was pending may have been deleted.
                Err(_) => {
                    if !self.goes_on(position).await? {
                        self.ordered = None;
                    }
                }
            }
        }
        Ok(self.ahead.take_if(|(sequence, _)| *sequence == position).map(|(_, message)| message))
    }

    /// Whether the stream has a message at that position or later.
    async fn goes_on(&self, position: u64) -> Result<bool, StreamError> {
        match self.stream.get_first_raw_message_by_subject(">", position).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(false),
            Err(error) => Err(StreamError::nats(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{context, create};
    use uuid::Uuid;

    /// Fails for a reader that waits for what it was told is pending: it may have been deleted since.
    #[tokio::test]
    async fn messages_deleted_while_they_are_read_are_not_waited_for() {
        const COUNT: u64 = 3000;
        let nats = async_nats::connect(tandem_local::test::nats().await).await.unwrap();
        let id = Uuid::new_v4().simple();
        let feed = Feed { stream: format!("TEST_{id}"), root: format!("test_{id}"), replicas: 1 };
        create(&nats, &feed, Uuid::nil()).await.unwrap();
        for _ in 0..COUNT {
            nats.publish(format!("{}.counter.x.added", feed.root), "{}".into()).await.unwrap();
        }
        let stream = context(&nats).get_stream(&feed.stream).await.unwrap();
        while stream.get_info().await.unwrap().state.last_sequence < COUNT {
            tokio::task::yield_now().await;
        }
        let mut messages = Messages::open(&nats, &feed).await.unwrap();
        assert!(messages.at(1).await.unwrap().is_some());

        stream.purge().await.unwrap();

        let rest = async {
            for position in 2..=COUNT {
                messages.at(position).await.unwrap();
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), rest).await.is_ok(), "it waits for what is gone");
    }
}
