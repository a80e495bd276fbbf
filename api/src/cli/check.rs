//! `tandem stream check` and `tandem stream rebuild`

use std::io::Write;

use serde_json::json;
use tandem_eventlog::stream::{self, Rebuilt, Unsure};

use super::erasures::Again;
use super::out::Out;
use super::{Ended, Failure, confirm, erasures};
use crate::config::Config;
use crate::connect;

pub(super) async fn check(config: &Config, as_json: bool) -> Result<Ended, Failure> {
    let pool = connect::postgres(config)?;
    let nats = connect::nats_now(config).await?;
    let report = stream::check(&pool, &nats, &config.feed()).await?;
    let sound = report.is_sound();
    let mut out = Out::default();
    if as_json {
        let report = json!({
            "sound": sound,
            "database_last": report.database_last,
            "stream_last": report.stream_last,
            "equal": report.equal,
            "erased": report.erased,
            "unnumbered": report.unnumbered,
            "missing_in_database": { "count": report.missing_in_database.count, "first": report.missing_in_database.first },
            "missing_in_stream": { "count": report.missing_in_stream.count, "first": report.missing_in_stream.first },
            "different": { "count": report.different.count, "first": report.different.first },
            "unproved": { "count": report.unproved.count, "first": report.unproved.first },
        });
        writeln!(out, "{report:#}")?;
    } else {
        writeln!(out, "PostgreSQL's last position   {}", report.database_last)?;
        writeln!(out, "JetStream's last sequence    {}", report.stream_last)?;
        writeln!(out, "the same in both             {}", report.equal)?;
        writeln!(out, "erased                       {}", report.erased)?;
        writeln!(out, "not numbered yet             {}", report.unnumbered)?;
        for (what, found) in [
            ("missing in PostgreSQL", &report.missing_in_database),
            ("missing in JetStream", &report.missing_in_stream),
            ("different", &report.different),
            ("not proved to be Tandem's", &report.unproved),
        ] {
            let first: Vec<String> = found.first.iter().map(u64::to_string).collect();
            let first = if first.is_empty() { String::new() } else { format!("  (first: {})", first.join(", ")) };
            writeln!(out, "{what:<28} {}{first}", found.count)?;
        }
        writeln!(out, "{}", if sound { "The stream is sound." } else { "The stream is NOT sound." })?;
    }
    Ok(if sound { Ended::Well } else { Ended::FoundTrouble })
}

pub(super) async fn rebuild(config: &Config, yes: bool) -> Result<Ended, Failure> {
    let connections = connect::connections(config)?;
    let nats = connect::nats_now(config).await?;
    let feed = config.feed();
    if !yes {
        confirm(&format!("The stream {} will be deleted and filled anew from PostgreSQL. Go on?", feed.stream))?;
    }
    let mut out = Out::default();
    // The old stream alone may know of them.
    let Again { erased, unproved, lost } = erasures::again(&connections, &nats, &feed).await?;
    if erased > 0 {
        writeln!(out, "Erased again, after a restored backup had brought them back: {erased}.")?;
    }
    if unproved > 0 {
        writeln!(
            out,
            "Messages of erasures that are not proved to be Tandem's: {unproved}. `tandem erasures import` erases again by a list that you kept."
        )?;
    }
    if lost > 0 {
        writeln!(
            out,
            "Messages of after the backup that are no longer in the stream: {lost}. They were deleted because somebody was erased, or by \
             somebody else: erase again by the list that you kept, too, with `tandem erasures import`."
        )?;
    }
    let Rebuilt { epoch, unsure } = stream::rebuild(connections.pool(), &nats, &feed).await?;
    writeln!(out, "The stream {} is new, of epoch {epoch}; a running `tandem serve` fills it.", feed.stream)?;
    for Unsure { projection, was_beyond } in unsure {
        let why = if was_beyond {
            "had applied messages that PostgreSQL has no events of"
        } else {
            "was read by a version that did not check who had published a message"
        };
        // What each of them can be made right with.
        match projection.strip_prefix("gateway.") {
            Some(gateway) => writeln!(
                out,
                "The gateway {gateway} {why}: `tandem verify {gateway} --repair` compares every customer and marks what differs."
            )?,
            None => writeln!(out, "The read model {projection} {why}: `tandem rebuild {projection}` makes it right.")?,
        }
    }
    Ok(Ended::Well)
}
