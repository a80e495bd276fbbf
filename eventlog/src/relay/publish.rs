//! Publishing numbered events, each to the sequence number that is its position.

use super::Relay;
use crate::answer::answer;
use crate::backoff::Backoff;
use crate::cloudevent;
use crate::crash;
use crate::database::signed;
use crate::feed::Feed;
use crate::mac::MacKey;
use crate::recorded::{Recorded, read_after_with_epoch};
use crate::stream::{self, StreamError, Verified};
use crate::zoo::plays;
use async_nats::Client;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use futures::future::join_all;
use metrics::{counter, gauge};
use std::convert::Infallible;
use std::future::IntoFuture;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How many messages are under way at once.
const WINDOW: u32 = 500;

/// How often an idle relay looks whether the stream is still what it left.
const LOOK: Duration = Duration::from_secs(1);

/// How often one that is never idle does.
const LOOK_ANYWAY: Duration = Duration::from_secs(10);

/// Publishes for as long as the relay is active. Every trouble ends in the same place: look at the stream, go on from
/// its last sequence.
pub(super) async fn run(relay: &Relay) -> Infallible {
    let mut backoff = Backoff::default();
    loop {
        let Err(error) = publish(relay, &mut backoff).await;
        relay.failed(&error);
        backoff.wait().await;
    }
}

async fn publish(relay: &Relay, backoff: &mut Backoff) -> Result<Infallible, StreamError> {
    let Relay { pool, nats, feed, status, .. } = relay;
    let mut numbered = status.subscribe();
    loop {
        // What is handed over from here on was numbered after we looked.
        drop(relay.fresh());
        let Verified { key, last, gone, .. } = resume(relay).await?;
        let looked = Instant::now();
        let last = believed(relay, last);
        status.send_modify(|status| status.published = last);
        relay.recovered();
        relay.look_for_missing(gone).await;
        let mut published = last;
        loop {
            let idle = timeout(LOOK, numbered.wait_for(|status| status.numbered > published)).await.is_err();
            gauge!("tandem_relay_lag_events").set(status.borrow().numbered.saturating_sub(published) as f64);
            if idle || looked.elapsed() > LOOK_ANYWAY {
                break;
            }
            let (now, events) = match relay.fresh() {
                Some(fresh) if fresh.follows(published) => (Some(fresh.epoch), fresh.events),
                _ => answer(read_after_with_epoch(pool, published, WINDOW)).await?,
            };
            if now.is_some_and(|now| now != key.epoch()) {
                // The stream was made anew since we looked, and an empty one would take our messages of the epoch before.
                break;
            }
            let sent = send(nats, feed, &key, &events).await;
            if sent.count > 0 {
                crash::at("relay-acknowledged");
            }
            counter!("tandem_relay_published_total").increment(sent.count);
            published += sent.count;
            status.send_modify(|status| status.published = published);
            match sent.refused {
                None => backoff.reset(),
                Some(Refused::Unclear(error)) => return Err(error),
                // Either somebody has published this very event, or something else has: the stream tells.
                Some(Refused::Taken) => {
                    let stream = stream::open(nats, feed).await?;
                    if stream.cached_info().state.last_sequence > published {
                        stream::compare(pool, &stream, feed, &key, published + 1).await?;
                    }
                    break;
                }
            }
        }
    }
}

/// For the zoo: relays that do not go by what the stream says.
fn believed(relay: &Relay, last: u64) -> u64 {
    let status = relay.status.borrow();
    match status.published {
        _ if plays("publishes-what-it-numbered") => status.numbered,
        published @ 1.. if plays("cursor-of-its-own") => published,
        _ => last,
    }
}

/// Where the stream is; made first if there is none, and refilled then.
async fn resume(relay: &Relay) -> Result<Verified, StreamError> {
    let Relay { pool, nats, feed, .. } = relay;
    let verified = match stream::verify(pool, nats, feed).await {
        Err(StreamError::NotFound(_)) => {
            stream::prepare(pool, nats, feed).await?;
            stream::verify(pool, nats, feed).await?
        }
        verified => verified?,
    };
    if verified.unsigned_until > 0 {
        // Readers need not ask the stream for what has no MAC.
        let known = sqlx::query("UPDATE feed SET unsigned_until = $1 WHERE unsigned_until < $1 AND epoch = $2")
            .bind(signed(verified.unsigned_until))
            .bind(verified.key.epoch())
            .execute(pool);
        answer(known).await?;
    }
    Ok(verified)
}

/// What became of a window.
pub(crate) struct Sent {
    /// How many were stored, from the first on, without gaps.
    pub(crate) count: u64,
    /// Why it is not all of them.
    pub(crate) refused: Option<Refused>,
}

/// Why a message was not stored, as far as known.
pub(crate) enum Refused {
    /// The stream's last sequence was not the one before it.
    Taken,
    /// It may be stored or not: the answer is missing or says something else.
    Unclear(StreamError),
}

/// Publishes events in order, without waiting for each: the first one that fails makes all later ones fail, because
/// each expects the one before it.
pub(crate) async fn send(nats: &Client, feed: &Feed, key: &MacKey, events: &[Recorded]) -> Sent {
    let context = stream::context(nats);
    let mut answers = Vec::with_capacity(events.len());
    let mut refused = None;
    for event in events {
        // No Nats-Msg-Id: with one, a repeat is answered in another way on one server than on three.
        let data = event.payload.to_string();
        let headers = cloudevent::headers(event, data.as_bytes(), feed, key);
        let message = PublishMessage::build().payload(data.into()).headers(headers).expected_stream(&feed.stream);
        let message = match event.position.saturating_sub(1) {
            _ if plays("no-expected-sequence") => message,
            _ if plays("message-ids-instead-of-sequences") => message.message_id(event.event_id.to_string()),
            before => message.expected_last_sequence(before),
        };
        let subject = feed.subject(&event.aggregate_type, &event.aggregate_id, &event.event_type);
        match context.send_publish(subject, message).await {
            Ok(answer) => answers.push(answer.into_future()),
            Err(error) => {
                refused = Some(Refused::Unclear(StreamError::nats(error)));
                break;
            }
        }
    }
    if crash::planned("relay-published") && !events.is_empty() {
        // Sent, or the server would never hear of it.
        let _ = nats.flush().await;
        crash::at("relay-published");
    }
    let mut count = 0;
    for (answer, event) in join_all(answers).await.into_iter().zip(events) {
        match answer {
            Ok(ack) if ack.sequence == event.position => count += 1,
            Ok(ack) => {
                let foreign = StreamError::Foreign { stream: feed.stream.clone(), position: ack.sequence };
                return Sent { count, refused: Some(Refused::Unclear(foreign)) };
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                return Sent { count, refused: Some(Refused::Taken) };
            }
            Err(error) => return Sent { count, refused: Some(Refused::Unclear(StreamError::nats(error))) },
        }
    }
    Sent { count, refused }
}
