//! From a REST write to its call at the local Stripe.

use std::collections::HashMap;

use anyhow::Context;
use serde_json::json;

use crate::latency::Rate;
use crate::quantiles::{Quantiles, now_us};
use crate::stages::{Stages, noted};
use crate::world::World;

/// The metadata key whose value tells the changes apart.
const KEY: &str = "out";

/// One write, by its number.
struct Written {
    n: u32,
    sent: i64,
    answered: i64,
}

/// Writes at this rate, each to the customer that was written to longest ago. Returns the way of the writes to the local
/// Stripe, and how long the writers waited for their answers.
pub async fn measure(world: &World, rate: Rate) -> anyhow::Result<(Stages, Quantiles)> {
    let written = rate.drive(|n| write(world, n)).await?;
    world.settled().await?;

    let param = format!("metadata[{KEY}]");
    let calls = world.stripe.calls().await?;
    let calls: HashMap<String, _> =
        calls.into_iter().filter_map(|call| Some((call.params.get(&param)?.clone(), call))).collect();
    let noted = noted(&world.database, &world.nats_url, KEY).await?;
    let intents: Vec<(String, i64)> =
        sqlx::query_as("SELECT key, (extract(epoch FROM created_at) * 1000000)::bigint FROM intents")
            .fetch_all(&world.database)
            .await?;
    let intents: HashMap<String, i64> = intents.into_iter().collect();
    let moments = written.iter().map(|Written { n, sent, .. }| {
        let value = n.to_string();
        let call = calls.get(&value).context("a write that made no call")?;
        let inserted = noted.get(&value).context("a write that made no event")?.inserted;
        let key = call.idempotency_key.as_ref().context("a call without a key")?;
        let intended = intents.get(key).context("a call without an intent")?;
        Ok(vec![*sent, inserted, *intended, call.received_us])
    });
    let stages = Stages::of(
        &moments.collect::<anyhow::Result<Vec<_>>>()?,
        &[
            "request taken, event inserted",
            "committed, link marked due, leased, decided",
            "intent committed, call sent",
        ],
    )?;
    let answers = Quantiles::of(written.iter().map(|Written { sent, answered, .. }| answered - sent))?;
    Ok((stages, answers))
}

fn write(world: &World, n: u32) -> impl Future<Output = anyhow::Result<Written>> + Send + use<> {
    let twin = &world.born_here[n as usize % world.born_here.len()];
    let request = world.http.patch(world.tandem.at(&format!("/customers/{}", twin.id)));
    let request = request.json(&json!({"metadata": {KEY: n.to_string()}}));
    async move {
        let sent = now_us();
        request.send().await?.error_for_status()?.bytes().await?;
        Ok(Written { n, sent, answered: now_us() })
    }
}
