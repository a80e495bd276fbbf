//! (b) Webhooks accepted: signed, posted, stored, answered; and all that follows done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use stripe_sim::sign;

use crate::quantiles::{Quantiles, now_us};
use crate::row::Row;
use crate::world::{WEBHOOK_SECRET, World, client};

/// On 1 and on 32 connections.
pub async fn measure(world: &World, quick: bool) -> anyhow::Result<Vec<Row>> {
    let limit = Duration::from_secs(if quick { 1 } else { 5 });
    let source = Source::of(world).await?;
    let mut rows = vec![];
    for connections in [1, 32] {
        // Once for nothing: connections open, plans are made.
        burst(world, &source, connections, limit / 10).await?;
        world.settled().await?;
        let start = Instant::now();
        let times = burst(world, &source, connections, limit).await?;
        let (count, sending) = (times.len() as f64, start.elapsed().as_secs_f64());
        world.settled().await?;
        let all = start.elapsed().as_secs_f64();
        let quantiles = Quantiles::of(times)?;
        let over = if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") };
        rows.push(Row::new("b", format!("webhooks accepted, {over}"), count / sending, "/s"));
        rows.push(Row::new("b", format!("… p50, {over}"), quantiles.ms(0.5), "ms"));
        rows.push(Row::new("b", format!("… p99, {over}"), quantiles.ms(0.99), "ms"));
        rows.push(Row::new("b", format!("… until all are acted on, {over}"), count / all, "/s"));
    }
    Ok(rows)
}

/// Posts as fast as the connections allow, and returns how long each answer took, in microseconds.
async fn burst(world: &World, source: &Source, connections: usize, limit: Duration) -> anyhow::Result<Vec<i64>> {
    let url = world.tandem.at("/webhooks/stripe");
    let deadline = Instant::now() + limit;
    let mut tasks = vec![];
    for _ in 0..connections {
        let (source, url, http) = (source.clone(), url.clone(), client()?);
        tasks.push(tokio::spawn(async move {
            let mut times = vec![];
            while Instant::now() < deadline {
                let body = source.next()?;
                let sent = now_us();
                let signature = sign(WEBHOOK_SECRET, sent / 1_000_000, &body);
                let request = http.post(&url).header("stripe-signature", signature).body(body);
                let answer = request.header("content-type", "application/json; charset=utf-8").send().await?;
                let status = answer.status();
                let text = answer.text().await?;
                times.push(now_us() - sent);
                ensure!(status.is_success() && text.contains("stored"), "{status}: {text}");
            }
            anyhow::Ok(times)
        }));
    }
    let mut times = vec![];
    for task in tasks {
        times.extend(task.await??);
    }
    Ok(times)
}

/// Makes one event after the other: updates of customers that Tandem knows, told over and over under new ids.
#[derive(Clone)]
struct Source {
    templates: Arc<Vec<Value>>,
    number: Arc<AtomicU64>,
}

impl Source {
    /// Of the customers born at Stripe.
    async fn of(world: &World) -> anyhow::Result<Self> {
        let events = world.stripe.events().await?;
        let mut bodies: HashMap<String, Value> = events.into_iter().map(|event| (event.customer, event.body)).collect();
        let templates = world.born_there.iter().map(|twin| {
            let mut body = bodies.remove(&twin.remote_id).context("a customer without an event")?;
            body["type"] = json!("customer.updated");
            body["data"]["previous_attributes"] = json!({"name": "Robert"});
            Ok(body)
        });
        let templates: anyhow::Result<Vec<Value>> = templates.collect();
        Ok(Self { templates: Arc::new(templates?), number: Arc::default() })
    }

    fn next(&self) -> anyhow::Result<Vec<u8>> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let index = usize::try_from(number)? % self.templates.len();
        let mut body = self.templates[index].clone();
        body["id"] = json!(format!("evt_bench_{number}"));
        body["created"] = json!(now_us() / 1_000_000);
        Ok(serde_json::to_vec_pretty(&body)?)
    }
}
