//! Where the milliseconds go: the moments that a change passes, as PostgreSQL, JetStream and the local Stripe noted them.

use std::collections::HashMap;

use anyhow::Context;
use async_nats::jetstream;
use futures::{StreamExt, TryStreamExt, stream};
use sqlx::PgPool;

use crate::quantiles::Quantiles;
use crate::world::STREAM;

/// The whole way and its stretches.
pub struct Stages {
    pub all: Quantiles,
    pub parts: Vec<(&'static str, Quantiles)>,
}

impl Stages {
    /// Of moments in microseconds, one list a change: as many stretches as names, so one moment more.
    pub fn of(changes: &[Vec<i64>], names: &[&'static str]) -> anyhow::Result<Self> {
        let between = |from: usize, to: usize| Quantiles::of(changes.iter().map(|moments| moments[to] - moments[from]));
        let parts = names.iter().enumerate().map(|(n, name)| Ok((*name, between(n, n + 1)?)));
        Ok(Self { all: between(0, names.len())?, parts: parts.collect::<anyhow::Result<_>>()? })
    }
}

/// When an event was inserted, and when its message was stored in the stream.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    pub inserted: i64,
    pub published: i64,
}

/// When the events were noted that set this metadata key, by the value that they set.
pub async fn noted(database: &PgPool, nats_url: &str, key: &str) -> anyhow::Result<HashMap<String, Noted>> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT payload -> 'changes' -> ('metadata.' || $1) ->> 'after',
                (extract(epoch FROM recorded_at) * 1000000)::bigint, position
         FROM events WHERE event_type = 'updated' AND payload -> 'changes' ? ('metadata.' || $1)",
    )
    .bind(key)
    .fetch_all(database)
    .await?;
    let context = jetstream::new(async_nats::connect(nats_url).await?);
    let messages = context.get_stream(STREAM).await?;
    let noted = stream::iter(rows).map(async |(value, inserted, position)| {
        let message = messages.direct_get(u64::try_from(position)?).await?;
        let published = i64::try_from(message.time.unix_timestamp_nanos() / 1000)?;
        anyhow::Ok((value, Noted { inserted, published }))
    });
    noted.buffer_unordered(16).try_collect().await.context("an event is not in the stream")
}
