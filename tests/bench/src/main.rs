#![doc = include_str!("../README.md")]

mod appends;
mod backlog;
mod connections;
mod floor;
mod inbound;
mod latency;
mod machine;
mod outbound;
mod quantiles;
mod rebuild;
mod row;
mod servers;
mod stages;
mod surveys;
mod table;
mod tandem;
mod webhooks;
mod world;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, ValueEnum};

use crate::latency::Rate;
use crate::machine::Machine;
use crate::servers::Servers;
use crate::table::Table;
use crate::world::World;

/// Measures Tandem against the bare parts it is made of
///
/// Starts real servers, measures, prints a table and stops them. Run it by `make bench`: it needs an optimised `tandem`
/// beside it.
#[derive(Debug, Parser)]
#[command(name = "tandem-bench", version)]
struct Arguments {
    /// A short run, for a rough look
    #[arg(long)]
    quick: bool,
    /// Changes a second while latency is measured
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Writes the results to a file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these parts, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Appends,
    Webhooks,
    Latency,
    Rebuild,
    Surveys,
    Connections,
    Backlog,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { quick, rate, json, only } = Arguments::parse();
    let wanted = |part| only.is_empty() || only.contains(&part);
    if cfg!(debug_assertions) {
        eprintln!("This build is not optimised: its figures say nothing.");
    }
    // Somebody else's choice of cryptography stands; nothing here is encrypted anyhow.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let start = Instant::now();
    let say = |what: &str| eprintln!("{:4} s  {what}", start.elapsed().as_secs());
    say("starting PostgreSQL and nats-server");
    let servers = Servers::start().await?;
    let mut table = Table::of(Machine::look(&servers).await?);

    if wanted(Part::Appends) {
        say("(a) appends");
        table.add(appends::measure(&servers, quick).await.context("appends")?);
    }
    if wanted(Part::Webhooks) || wanted(Part::Latency) {
        say("starting the local Stripe and tandem serve");
        let mut world = World::start(&servers).await?;
        let idle = world.tandem.memory()?;
        let size = if quick { 200 } else { 500 };
        say("customers born on either side");
        table.add(world.populate(size).await.context("customers born on either side")?);
        if wanted(Part::Webhooks) {
            say("(b) webhooks");
            table.add(webhooks::measure(&world, quick).await.context("webhooks")?);
        }
        if wanted(Part::Latency) {
            say("(c) there and back, at a steady rate");
            let rate = Rate { per_second: rate, seconds: if quick { 5 } else { 30 } };
            table.add(latency::measure(&servers, &world, rate).await.context("latency")?);
        }
        table.add(vec![
            memory("tandem serve, just started", idle),
            memory("tandem serve, after all this", world.tandem.memory()?),
        ]);
        world.stop();
    }
    if wanted(Part::Rebuild) {
        say("(d) rebuild");
        table.add(rebuild::measure(&servers, if quick { 10_000 } else { 100_000 }).await.context("rebuild")?);
    }
    if wanted(Part::Surveys) {
        say("(f) plan and verify");
        table.add(surveys::measure(&servers, if quick { 5_000 } else { 100_000 }).await.context("surveys")?);
    }
    if wanted(Part::Connections) {
        say("(g) idle connections");
        table.add(connections::measure(&servers, 10_000).await.context("idle connections")?);
    }
    if wanted(Part::Backlog) {
        let links = if quick { 100_000 } else { 1_000_000 };
        say("(h) live edits beside a backlog");
        let mut world = World::start_with(&servers, "BACKLOG").await?;
        world.populate(100).await.context("customers born on either side")?;
        table.add(backlog::measure(&mut world, links).await.context("a backlog")?);
        world.stop();
    }
    table.finish();
    say("done\n");
    println!("{table}");
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&table)?;
        std::fs::write(&file, text).with_context(|| format!("could not write {}", file.display()))?;
    }
    Ok(())
}

fn memory(what: &str, mib: f64) -> row::Row {
    row::Row::new("e", format!("memory of {what}"), mib, "MiB")
}
