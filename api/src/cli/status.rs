//! `tandem status`

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use indicatif::HumanDuration;
use serde::Serialize;
use tandem_eventlog::stream::{self, StreamState};
use tandem_gateways::{GatewayStatus, Pause};
use tandem_projections::lag;

use super::out::{Out, in_line};
use super::{Ended, Failure};
use crate::config::Config;
use crate::connect;
use crate::log::chain;

/// How far everything is, by what the database and the stream say.
#[derive(Debug, Serialize)]
struct Status {
    healthy: bool,
    /// PostgreSQL takes writes: it is no standby, and not set read-only.
    writable: bool,
    relay: RelayStatus,
    projectors: Vec<ProjectorStatus>,
    gateways: Vec<GatewayStatus>,
    /// What stands still, and who wanted it so.
    pauses: Vec<Pause>,
}

#[derive(Debug, Serialize)]
struct RelayStatus {
    numbered: i64,
    unnumbered: i64,
    unnumbered_seconds: f64,
    /// The stream's last sequence; none if NATS does not answer.
    published: Option<u64>,
    /// The stream holds more than the database: a backup was restored.
    ahead: bool,
    /// Messages that somebody has deleted from the stream; none if it cannot be told.
    missing_messages: Option<u64>,
    /// What a person has to mend of the stream.
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct ProjectorStatus {
    name: String,
    generation: i32,
    position: i64,
    lag_events: i64,
    lag_seconds: f64,
}

pub(super) async fn run(config: &Config, json: bool) -> Result<Ended, Failure> {
    let pool = connect::postgres(config)?;
    let nats = connect::nats(config).await?;
    let lag = lag(&pool).await?;
    // Those of the database, too: this shell need not have the keys that `tandem serve` has.
    let known = tandem_gateways::known(&pool).await?;
    let set = config.stripes().map(|stripe| stripe.name.as_str());
    let names: Vec<&str> = set.chain(known.iter().map(String::as_str)).collect::<BTreeSet<_>>().into_iter().collect();
    let gateways = tandem_gateways::status(&pool, &names).await?;
    let pauses = tandem_gateways::pauses(&pool, &names).await?;
    let published = last_sequence(&nats, &config.nats.stream).await;
    // Read after the stream, which is never ahead of it otherwise.
    let head = tandem_eventlog::last_position(&pool).await?;

    let (missing_messages, problem) = match stream::look(&pool, &nats, &config.feed()).await {
        Ok(StreamState { missing, .. }) => (Some(missing), None),
        Err(error) if error.is_transient() => (None, None),
        Err(error) => (None, Some(chain(&error))),
    };

    let late = config.http.ready_lag_seconds;
    let relay = RelayStatus {
        numbered: lag.head,
        unnumbered: lag.unnumbered,
        unnumbered_seconds: lag.unnumbered_seconds,
        published,
        ahead: published.is_some_and(|published| published > head),
        missing_messages,
        problem,
    };
    let projectors: Vec<ProjectorStatus> = lag
        .projectors
        .into_iter()
        .map(|one| ProjectorStatus {
            name: one.name,
            generation: one.generation,
            position: one.position,
            lag_events: one.events,
            lag_seconds: one.seconds,
        })
        .collect();
    let healthy = lag.writable
        && published.is_some()
        && !relay.ahead
        && relay.problem.is_none()
        && relay.missing_messages.unwrap_or_default() == 0
        && relay.unnumbered_seconds <= late
        && projectors.iter().all(|one| one.lag_seconds <= late)
        && gateways.iter().all(|one| one.oldest_live_seconds <= late && one.parked == 0)
        // What a person paused is as they want it.
        && pauses.iter().all(|one| one.paused_by == "person");
    let status = Status { healthy, writable: lag.writable, relay, projectors, gateways, pauses };
    if json {
        writeln!(Out::default(), "{}", serde_json::to_string_pretty(&status)?)?;
    } else {
        print(&mut Out::default(), &status)?;
    }
    Ok(if healthy { Ended::Well } else { Ended::FoundTrouble })
}

async fn last_sequence(nats: &async_nats::Client, stream: &str) -> Option<u64> {
    tokio::time::timeout(std::time::Duration::from_secs(3), nats.flush()).await.ok()?.ok()?;
    let jetstream = async_nats::jetstream::new(nats.clone());
    jetstream.get_stream(stream).await.ok().map(|stream| stream.cached_info().state.last_sequence)
}

fn print(out: &mut Out, status: &Status) -> io::Result<()> {
    if !status.writable {
        writeln!(out, "PostgreSQL  takes no writes: a standby, or set read-only")?;
    }
    let RelayStatus { numbered, unnumbered, unnumbered_seconds, published, ahead, missing_messages, problem } =
        &status.relay;
    let published = published.map_or("NATS or its stream is away".to_owned(), |last| last.to_string());
    writeln!(
        out,
        "relay       numbered {numbered}, in the stream {published}, waiting {unnumbered} for {unnumbered_seconds:.1} s"
    )?;
    if *ahead {
        writeln!(
            out,
            "            the stream is AHEAD of the database: was a backup restored? See `tandem stream rebuild`"
        )?;
    }
    if let (Some(problem), false) = (problem, ahead) {
        writeln!(out, "            {problem}")?;
    }
    if let Some(missing @ 1..) = missing_messages {
        writeln!(
            out,
            "            {missing} messages were DELETED from the stream, and nobody was erased: see `tandem stream check`"
        )?;
    }
    for one in &status.projectors {
        writeln!(
            out,
            "projector   {}: position {}, {} events and {:.1} s behind (generation {})",
            one.name, one.position, one.lag_events, one.lag_seconds, one.generation
        )?;
    }
    for one in &status.gateways {
        let swept = one.swept_at.map_or("never".to_owned(), |at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        writeln!(
            out,
            "gateway     {}: {} links due, the oldest for {:.1} s; {} webhooks unrouted; {} parked; {} contested; last sweep {swept}",
            one.name, one.due, one.oldest_due_seconds, one.inbox, one.parked, one.contested
        )?;
        if one.due_bulk > 0 {
            writeln!(
                out,
                "            {} of them are live, the oldest for {:.1} s; nobody in particular waits for the other {}{}",
                one.due_live,
                one.oldest_live_seconds,
                one.due_bulk,
                one.bulk_seconds_left.map_or(String::new(), |left| {
                    format!(
                        ", which take {} more",
                        HumanDuration(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX))
                    )
                })
            )?;
        }
        for Pause { gateway, direction, reason, paused_by, .. } in
            status.pauses.iter().filter(|pause| pause.gateway == one.name)
        {
            let by = if paused_by == "person" { "a person" } else { "the guard" };
            writeln!(
                out,
                "paused      {gateway}: {direction}, by {by}: {}; `tandem resume {gateway}` lets it go on",
                in_line(reason)
            )?;
        }
        if let Some(at) = one.foreign_at {
            let at = at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            writeln!(
                out,
                "foreign     {}: {} signed webhooks were of {} and were ignored, the last at {at}: is the endpoint at the gateway the right one?",
                one.name,
                one.foreign,
                one.foreign_whose.join(", ")
            )?;
        }
        if let Some(at) = one.verified_at {
            let at = at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            writeln!(
                out,
                "verified    {}: at {at}, {} compared, {} differ",
                one.name, one.verify_compared, one.verify_drift
            )?;
        }
    }
    if status.gateways.is_empty() {
        writeln!(out, "gateways    none is switched on, and none ever was")?;
    }
    writeln!(out, "{}", if status.healthy { "healthy" } else { "NOT healthy" })
}
