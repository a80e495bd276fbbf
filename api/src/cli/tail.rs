//! `tandem tail`

use std::io::Write;
use std::time::Duration;

use chrono::SecondsFormat;
use futures::StreamExt;
use tandem_domain::{Customer, CustomerEvent, CustomerId, Field, GatewayName, Side, Value, upcasters};
use tandem_eventlog::{Recorded, follow, last_position};

use super::out::{Out, in_line};
use super::{Ended, Failure};
use crate::config::Config;
use crate::connect;
use crate::log::chain;

pub(super) async fn run(config: &Config, customer: Option<CustomerId>, after: Option<u64>) -> Result<Ended, Failure> {
    let pool = connect::postgres(config)?;
    let nats = connect::nats_now(config).await?;
    let mut position = match after {
        Some(after) => after,
        None => last_position(&pool).await?,
    };
    let mut out = Out::default();
    let wanted = customer.map(|id| id.to_string());
    loop {
        let mut events = Box::pin(follow(pool.clone(), nats.clone(), config.feed(), position));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    position = event.position;
                    if wanted.as_ref().is_none_or(|wanted| *wanted == event.aggregate_id) {
                        writeln!(out, "{}", line(&event))?;
                    }
                    if out.is_unread() {
                        return Ok(Ended::Well);
                    }
                }
                Err(error) => tracing::warn!(error = %chain(&error), "the feed broke off, and is followed again"),
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn line(event: &Recorded) -> String {
    let at = event.recorded_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let what = match event.event::<Customer>(&upcasters()) {
        Ok(what) => describe(what),
        Err(_) => "(this version of tandem cannot read it)".to_owned(),
    };
    let Recorded { position, aggregate_id, version, event_type, origin, .. } = event;
    let line = format!("{position:>8}  {at}  {aggregate_id}  v{version}  {event_type:<9}  by {origin:<7}  {what}");
    in_line(line.trim_end())
}

fn describe(event: CustomerEvent) -> String {
    match event {
        CustomerEvent::Created { profile, .. } => {
            let fields: Vec<String> =
                profile.all().map(|(field, value)| format!("{field}: {}", show(Some(value)))).collect();
            fields.join(", ")
        }
        CustomerEvent::Updated { changes, .. } => {
            let change = |(field, change): (_, tandem_domain::Change)| {
                format!("{field}: {} -> {}", show(change.before.as_ref()), show(change.after.as_ref()))
            };
            changes.into_iter().map(|(field, one)| change((field, one))).collect::<Vec<_>>().join(", ")
        }
        CustomerEvent::Deleted { .. } | CustomerEvent::Erased { .. } => String::new(),
        CustomerEvent::Linked { gateway, remote_id, .. } | CustomerEvent::Unlinked { gateway, remote_id, .. } => {
            format!("{gateway} {remote_id}")
        }
        CustomerEvent::ConflictOpened(contest) => {
            sides(&contest.field, &contest.catalog, &contest.remote, &contest.gateway)
        }
        CustomerEvent::ConflictResolved(contest) => {
            sides(&contest.field, &contest.catalog, &contest.remote, &contest.gateway)
        }
    }
}

fn sides(field: &Field, catalog: &Side, remote: &Side, gateway: &GatewayName) -> String {
    format!("{field}: {} here, {} at {gateway}", show(catalog.value.as_ref()), show(remote.value.as_ref()))
}

/// Quoted, so that nothing in it moves the terminal's cursor.
pub(super) fn show(value: Option<&Value>) -> String {
    match value {
        None => "-".to_owned(),
        Some(Value::Text(text)) => format!("{text:?}"),
        Some(Value::Address(address)) => {
            let parts: Vec<String> =
                address.parts().iter().filter_map(|(_, part)| part.map(|text| format!("{text:?}"))).collect();
            format!("[{}]", parts.join(", "))
        }
        Some(Value::Other(json)) => json.to_string(),
    }
}
