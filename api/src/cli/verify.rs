//! `tandem verify`

use tandem_gateways::{Drift, Repaired, Verified, drifts};

use super::report::{Column, Format, Report, Row};
use super::sides::{self, Bar};
use super::{Ended, Failure};
use crate::config::Config;

/// How `tandem verify` was asked.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// Which gateway, such as stripe
    gateway: String,
    /// Mark what differs, so that `tandem serve` mends it by its policies
    #[arg(long)]
    repair: bool,
    /// Go on with the run that was not finished
    #[arg(long)]
    resume: bool,
    /// Show the values of the fields that differ, which are customers' data
    #[arg(long)]
    values: bool,
    /// The report's form
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) async fn run(config: &Config, asked: Verify) -> Result<Ended, Failure> {
    let sides = sides::open(config, &asked.gateway).await?;
    let bar = Bar::new();
    let verified = tandem_gateways::verify(&sides, sides::begin(asked.resume), &|progress| bar.tell(progress)).await;
    bar.end();
    let verified = verified.map_err(sides::broken_off)?;
    let repaired = match asked.repair {
        true => Some(tandem_gateways::repair(&sides, verified.run).await?),
        false => None,
    };
    let mut report = Report::begin(asked.format, asked.values, &verified)?;
    let mut after = 0;
    while !report.is_unread() {
        let page = drifts(&sides.pool, verified.run, after, 500).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for drift in page {
            report.row(row(drift))?;
        }
    }
    report.end(&summary(&verified, repaired))?;
    Ok(if verified.drift == 0 { Ended::Well } else { Ended::FoundDrift })
}

fn row(drift: Drift) -> Row {
    let remark = match (drift.repaired, drift.remark, drift.parked) {
        (true, ..) => Some("marked".to_owned()),
        (false, Some(remark), _) => Some(remark),
        (false, None, true) => Some("a push of it is parked".to_owned()),
        (false, None, false) => None,
    };
    let columns = vec![
        Column::new("kind", 16, Some(drift.kind.as_str().to_owned())),
        Column::new("customer_id", 36, drift.customer_id.map(|id| id.to_string())),
        Column::new("remote_id", 20, drift.remote_id),
        Column::new("remark", 6, remark),
    ];
    Row { columns, fields: drift.fields }
}

fn summary(verified: &Verified, repaired: Option<Repaired>) -> String {
    let Verified { gateway, customers, objects, in_flight, drift, .. } = verified;
    let pairs = verified.pairs();
    let (only_here, only_there) = (customers - pairs, objects - pairs);
    let mut text = format!(
        "{customers} customers here, {objects} objects at {gateway}: {pairs} pairs, {only_here} only here, {only_there} only \
         there.\n{drift} differ or lack the other side; {in_flight} are being changed just now."
    );
    if let Some(Repaired { looks, imports, creates, left }) = repaired {
        text += &format!(
            "\nMarked for `tandem serve` to mend: {looks} to be looked at, {imports} to be imported, {creates} to be created \
             there; {left} left to a person."
        );
    }
    text
}
