//! `tandem plan` and `tandem apply`

use std::collections::BTreeSet;
use std::io::Write;

use tandem_gateways::{Action, Apply, FieldsFrom, Item, Plan, apply, items};

use super::out::Out;
use super::report::{Column, Format, Report, Row};
use super::sides::{self, Bar};
use super::{Ended, Failure, Told};
use crate::config::Config;
use crate::connect;

/// How `tandem plan` was asked.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Planning {
    /// Which gateway, such as stripe
    #[arg(required = true)]
    gateway: Option<String>,
    /// Match by this key of the objects' metadata, too: it holds our id, or what our customer's metadata holds under it
    #[arg(long, value_name = "KEY")]
    match_metadata: Option<String>,
    /// Go on with the plan that was not finished: it matches as it was asked to, unless --match-metadata says otherwise now
    #[arg(long)]
    resume: bool,
    #[command(subcommand)]
    made: Option<Made>,
}

/// What is done with a plan that is made.
#[derive(Debug, clap::Subcommand)]
enum Made {
    /// Delete a plan, which holds customers' data
    Drop {
        /// The plan's number
        plan: i64,
    },
    /// Show what a plan says, item by item
    Show {
        /// The plan's number
        plan: i64,
        /// Only these items
        #[arg(long, value_enum)]
        action: Option<Asked>,
        /// Show the values of the fields that differ, which are customers' data
        #[arg(long)]
        values: bool,
        /// The report's form
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
}

/// How `tandem apply` was asked.
#[derive(Debug, clap::Args)]
pub(super) struct Applying {
    /// The plan's number
    plan: i64,
    /// Only these items, separated by commas; without it all but ambiguous ones and duplicates
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Carried>,
    /// No more than so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Whose fields stay where a pair differs; without it such pairs are left. The other side's are overwritten, and those
    /// that this side lacks are unset
    #[arg(long, value_enum)]
    fields_from: Option<From>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Asked {
    Link,
    CreateThere,
    CreateHere,
    Ambiguous,
    Duplicate,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Carried {
    Link,
    CreateThere,
    CreateHere,
    Duplicate,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum From {
    Catalog,
    Gateway,
}

pub(super) async fn plan(config: &Config, asked: Planning) -> Result<Ended, Failure> {
    match asked.made {
        Some(Made::Show { plan, action, values, format }) => return show(config, plan, action, values, format).await,
        Some(Made::Drop { plan }) => {
            tandem_gateways::forget(&connect::postgres(config)?, plan).await?;
            writeln!(Out::default(), "The plan {plan} is deleted.")?;
            return Ok(Ended::Well);
        }
        None => {}
    }
    let gateway = asked.gateway.unwrap_or_default();
    let sides = sides::open(config, &gateway).await?;
    let bar = Bar::new();
    let tell = |progress| bar.tell(progress);
    let begin = sides::begin(asked.resume);
    let planned = tandem_gateways::plan(&sides, asked.match_metadata.as_deref(), begin, &tell).await;
    bar.end();
    let planned = planned.map_err(sides::broken_off)?;
    let mut out = Out::default();
    writeln!(out, "{}", summary(&planned))?;
    writeln!(out, "Read it: tandem plan show {0} [--action link]. Carry it out: tandem apply {0}", planned.plan)?;
    Ok(Ended::Well)
}

async fn show(
    config: &Config,
    plan: i64,
    action: Option<Asked>,
    values: bool,
    format: Format,
) -> Result<Ended, Failure> {
    let pool = connect::postgres(config)?;
    let whole = tandem_gateways::summary(&pool, plan).await?;
    let action = action.map(|action| match action {
        Asked::Link => Action::Link,
        Asked::CreateThere => Action::CreateThere,
        Asked::CreateHere => Action::CreateHere,
        Asked::Ambiguous => Action::Ambiguous,
        Asked::Duplicate => Action::Duplicate,
    });
    let mut report = Report::begin(format, values, &whole)?;
    let mut after = 0;
    while !report.is_unread() {
        let page = items(&pool, plan, action, after, 500).await?;
        let Some(last) = page.last() else { break };
        after = last.n;
        for item in page {
            report.row(row(item))?;
        }
    }
    report.end(&summary(&whole))?;
    Ok(Ended::Well)
}

fn row(item: Item) -> Row {
    let fields = item.fields();
    let columns = vec![
        Column::new("n", 6, Some(item.n.to_string())),
        Column::new("action", 12, Some(item.action.as_str().to_owned())),
        Column::new("customer_id", 36, item.customer_id.map(|id| id.to_string())),
        Column::new("remote_id", 20, item.remote_id),
        Column::new("matched_by", 9, item.matched_by),
        Column::new("state", 7, Some(item.state)),
        Column::new("reason", 1, item.reason),
    ];
    Row { columns, fields }
}

fn summary(plan: &Plan) -> String {
    let Plan { plan: number, gateway, customers, objects, linked, in_flight, actions, differing } = plan;
    let mut lines = vec![format!(
        "Plan {number} for {gateway}: {customers} customers here, {objects} objects there; {linked} customers are linked \
         already, {in_flight} are being created there."
    )];
    for one in actions {
        let by = one.matched_by.as_ref().map(|by| format!("by {by}")).unwrap_or_default();
        let mut line = format!("  {:<13} {:<13} {:>8}", one.action.as_str(), by, one.items);
        for (count, what) in [(one.differ, "differ"), (one.done, "done"), (one.changed, "changed since")] {
            if count > 0 {
                line += &format!("  {count} {what}");
            }
        }
        lines.push(line);
    }
    if !differing.is_empty() {
        let fields: Vec<String> = differing.iter().map(|one| format!("{} {}", one.field, one.pairs)).collect();
        lines.push(format!("Pairs that differ, by field: {}", fields.join(", ")));
    }
    lines.join("\n")
}

pub(super) async fn carry_out(config: &Config, asked: Applying) -> Result<Ended, Failure> {
    let gateway = tandem_gateways::gateway_of(&connect::postgres(config)?, asked.plan).await?;
    let sides = sides::open(config, gateway.as_str()).await?;
    let only: BTreeSet<Action> = match asked.only.is_empty() {
        true => [Action::Link, Action::CreateThere, Action::CreateHere].into(),
        false => asked.only.iter().map(|only| only.action()).collect(),
    };
    let fields_from = asked.fields_from.map(|from| match from {
        From::Catalog => FieldsFrom::Catalog,
        From::Gateway => FieldsFrom::Gateway,
    });
    if asked.limit == Some(0) {
        return Err(Told("--limit must be at least 1".to_owned()).into());
    }
    let bar = Bar::new();
    let how = Apply { only, limit: asked.limit, fields_from };
    let applied = apply(&sides, asked.plan, &how, &|progress| bar.tell(progress)).await;
    bar.end();
    let applied = applied?;
    let mut out = Out::default();
    writeln!(out, "{} carried out; `tandem serve` does what they lead to.", applied.done)?;
    for (count, what) in [
        (applied.asked, "have the id of a customer that has another object: a person is asked, see `GET /parked`"),
        (applied.changed, "have changed since the plan, and are left: plan again"),
        (applied.differ, "differ, and are left: say --fields-from catalog or --fields-from gateway"),
        (applied.busy, "are just being created there, and are left: apply again"),
    ] {
        if count > 0 {
            writeln!(out, "{count} {what}.")?;
        }
    }
    Ok(Ended::Well)
}

impl Carried {
    fn action(self) -> Action {
        match self {
            Self::Link => Action::Link,
            Self::CreateThere => Action::CreateThere,
            Self::CreateHere => Action::CreateHere,
            Self::Duplicate => Action::Duplicate,
        }
    }
}
