//! Following the feed live, for whoever only looks on.

use crate::feed::Feed;
use crate::reader::{Live, ReadError, Reader};
use crate::recorded::Recorded;
use async_nats::Client;
use futures::Stream;
use futures::stream::{self, StreamExt};
use sqlx::PgPool;

/// Every event after a position, in order and without gaps, for as long as it is polled.
///
/// The past comes from PostgreSQL, the present from a plain NATS subscription: a follower leaves no state in the
/// server. After an error the stream ends; follow again from the last position seen.
pub fn follow(
    pool: PgPool,
    nats: Client,
    feed: Feed,
    after: u64,
) -> impl Stream<Item = Result<Recorded, ReadError>> + Send + 'static {
    let reader = Reader::after(pool, nats, feed, Live::Subscription, after);
    stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        Some(match reader.next().await {
            Ok(batch) => (batch.into_iter().map(Ok).collect(), Some(reader)),
            Err(error) => (vec![Err(error)], None),
        })
    })
    .flat_map(stream::iter)
}
