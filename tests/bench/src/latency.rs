//! (c) There and back at a steady rate, against the floor, which is measured before, between and after.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::interval;

use crate::floor::{Floor, Floors};
use crate::quantiles::Quantiles;
use crate::row::Row;
use crate::servers::Servers;
use crate::stages::Stages;
use crate::world::World;
use crate::{inbound, outbound};

/// How many changes a second, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub per_second: u32,
    pub seconds: u32,
}

impl Rate {
    /// How many changes in all.
    pub fn count(self) -> u32 {
        self.per_second * self.seconds
    }

    /// From one to the next.
    pub fn pause(self) -> Duration {
        Duration::from_secs(1) / self.per_second
    }

    /// Begins one after the other at this rate, whether or not those before have ended, and waits for all.
    pub async fn drive<T, F>(self, mut change: impl FnMut(u32) -> F) -> anyhow::Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        let mut ticks = interval(self.pause());
        let mut changes = JoinSet::new();
        for n in 0..self.count() {
            ticks.tick().await;
            changes.spawn(change(n));
        }
        let mut done = vec![];
        while let Some(ended) = changes.join_next().await {
            done.push(ended??);
        }
        Ok(done)
    }
}

/// Both ways.
pub async fn measure(servers: &Servers, world: &World, rate: Rate) -> anyhow::Result<Vec<Row>> {
    let window = Rate { seconds: rate.seconds.div_ceil(6), ..rate };
    let mut floor = Floor::new(servers).await?;
    floor.measure(window).await?;
    let (out, answers) = outbound::measure(world, rate).await?;
    floor.measure(window).await?;
    let back = inbound::measure(world, rate).await?;
    floor.measure(window).await?;
    let floors = floor.finish()?;

    let Floors { all, commit, message, hop } = &floors;
    let mut rows = vec![
        Row::new("c", "floor: one commit, one message, one hop, p50", all.ms(0.5), "ms"),
        Row::new("c", "floor, p99", all.ms(0.99), "ms"),
    ];
    for (what, part) in [("durable commit", commit), ("JetStream publish and delivery", message), ("HTTP hop", hop)] {
        rows.push(stage(what, part));
    }
    rows.extend(rows_of(&out, "REST write → call arrives at Stripe", all));
    rows.push(Row::new("c", "REST write answered, p50", answers.ms(0.5), "ms").against(commit.ms(0.5)));
    rows.push(Row::new("c", "REST write answered, p99", answers.ms(0.99), "ms").against(commit.ms(0.99)));
    rows.extend(rows_of(&back, "edit at Stripe → its webhook → visible by REST", all));
    Ok(rows)
}

fn rows_of(stages: &Stages, what: &str, floor: &Quantiles) -> Vec<Row> {
    let mut rows = vec![
        Row::new("c", format!("{what}, p50"), stages.all.ms(0.5), "ms").against(floor.ms(0.5)).at_most(3.0),
        Row::new("c", format!("{what}, p99"), stages.all.ms(0.99), "ms").against(floor.ms(0.99)).below(50.0),
    ];
    rows.extend(stages.parts.iter().map(|(what, part)| stage(what, part)));
    rows
}

/// One stretch of the way.
fn stage(what: &str, part: &Quantiles) -> Row {
    Row::new("c", format!("… {what} (p99 {:.1} ms)", part.ms(0.99)), part.ms(0.5), "ms")
}
