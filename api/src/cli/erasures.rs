//! `tandem erasures export` and `tandem erasures import`, and who was erased after a restored backup was made.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use async_nats::Client;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tandem_domain::{Customer, CustomerCommand, CustomerEvent, CustomerId, Delete, Erase, upcasters};
use tandem_eventlog::stream::{self, Proved};
use tandem_eventlog::{Connections, Context, Feed, Store, Wake, erase, erase_rows};
use tandem_gateways::forget_customer;

use super::out::Out;
use super::{Ended, Failure, Told, confirm};
use crate::config::Config;
use crate::connect;

#[derive(Debug, Subcommand)]
pub(super) enum Erasures {
    /// Print who was erased, one line of JSON each: ids and times, nothing else
    ///
    /// Keep it where the database's backups are not: a restored backup knows nothing of what was erased after it was made.
    Export,
    /// Erase again whoever an export names, living ones, too
    ///
    /// Of use after restoring a backup. A customer that this database does not have is passed over. A running `tandem serve`
    /// is needed. Safe to repeat.
    Import {
        /// What `tandem erasures export` printed
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// One line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Erasure {
    customer_id: CustomerId,
    erased_at: DateTime<Utc>,
}

pub(super) async fn run(config: &Config, asked: Erasures) -> Result<Ended, Failure> {
    let connections = connect::connections(config)?;
    match asked {
        Erasures::Export => export(connections.pool()).await,
        Erasures::Import { file, yes } => import(config, &connections, &file, yes).await,
    }
}

async fn export(pool: &PgPool) -> Result<Ended, Failure> {
    let mut out = Out::default();
    let erased: Vec<(String, serde_json::Value)> = sqlx::query_as(
        "SELECT aggregate_id, payload FROM events WHERE aggregate_type = 'customer' AND event_type = 'erased'
         ORDER BY aggregate_id, sequence",
    )
    .fetch_all(pool)
    .await?;
    let erasures = erased.into_iter().map(|(id, payload)| erasure(&id, payload)).collect::<Result<Vec<_>, _>>()?;
    for erasure in last_of_each(erasures) {
        writeln!(out, "{}", serde_json::to_string(&erasure)?)?;
    }
    Ok(Ended::Well)
}

async fn import(config: &Config, connections: &Connections, file: &Path, yes: bool) -> Result<Ended, Failure> {
    let erasures = read(file)?;
    if !yes {
        confirm(&format!("All that is known of {} customers will be blank, for ever. Go on?", erasures.len()))?;
    }
    let nats = connect::nats_now(config).await?;
    let (pool, feed) = (connections.pool(), config.feed());
    let store = store(connections, &nats, &feed);
    let (mut erased, mut unknown) = (0_u64, 0_u64);
    for Erasure { customer_id, erased_at } in &erasures {
        let Some(version) = end(&store, pool, *customer_id, *erased_at).await? else {
            unknown += 1;
            continue;
        };
        let id = customer_id.to_string();
        erase::<Customer>(pool, &nats, &feed, &id, version, &upcasters(), CustomerEvent::blanked).await?;
        erased += 1;
    }
    writeln!(Out::default(), "Erased: {erased}. Not in this database: {unknown}.")?;
    Ok(Ended::Well)
}

/// What came of [`again`].
pub(super) struct Again {
    /// How many were erased again.
    pub(super) erased: u64,
    /// Of how many more messages say so without proof.
    pub(super) unproved: u64,
    /// How many messages of after the backup are gone, and may have said so.
    pub(super) lost: u64,
}

/// Erases again whom the stream proves to have been erased and this database does not know to be, in PostgreSQL alone: for a stream
/// that is about to be made anew.
pub(super) async fn again(connections: &Connections, nats: &Client, feed: &Feed) -> Result<Again, Failure> {
    let (pool, store) = (connections.pool(), store(connections, nats, feed));
    let Proved { events, unproved, lost } = stream::proved(pool, nats, feed, "customer", "erased").await?;
    let erasures = events.into_iter().map(|event| erasure(&event.aggregate_id, event.payload));
    let erasures = last_of_each(erasures.collect::<Result<Vec<_>, _>>()?);
    let claimed: Vec<String> = unproved.iter().filter_map(|subject| customer_of(feed, subject)).collect();
    let named = erasures.iter().map(|erasure| erasure.customer_id.to_string());
    let done = done(pool, &named.chain(claimed.iter().cloned()).collect::<Vec<_>>()).await?;
    let mut erased = 0;
    for Erasure { customer_id, erased_at } in erasures {
        let id = customer_id.to_string();
        if done.contains(&id) {
            continue;
        }
        if let Some(version) = end(&store, pool, customer_id, erased_at).await? {
            erase_rows::<Customer>(pool, &id, version, &upcasters(), CustomerEvent::blanked).await?;
            erased += 1;
        }
    }
    let unproved = claimed.iter().filter(|customer| !done.contains(*customer)).count() as u64;
    Ok(Again { erased, unproved, lost })
}

/// Which of these customers are erased in this database, all of their events.
async fn done(pool: &PgPool, customers: &[String]) -> Result<HashSet<String>, sqlx::Error> {
    let done: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT aggregate_id FROM events erasure
         WHERE aggregate_type = 'customer' AND aggregate_id = ANY($1) AND event_type = 'erased' AND NOT EXISTS (
             SELECT FROM events before WHERE before.aggregate_type = 'customer' AND before.aggregate_id = erasure.aggregate_id
             AND before.sequence < erasure.sequence AND NOT before.erased AND before.event_type <> 'erased')",
    )
    .bind(customers)
    .fetch_all(pool)
    .await?;
    Ok(done.into_iter().collect())
}

fn customer_of(feed: &Feed, subject: &str) -> Option<String> {
    let of_customers = subject.strip_prefix(&feed.root)?.strip_prefix(".customer.")?;
    Some(of_customers.strip_suffix(".erased")?.to_owned())
}

/// Appends that the customer is erased, and before that, of a living one, that it is deleted, and blanks what gateways were told.
/// Returns the version of `erased`; `None` of a customer that is not here.
async fn end(
    store: &Store<Customer>,
    pool: &PgPool,
    customer: CustomerId,
    at: DateTime<Utc>,
) -> Result<Option<u64>, Failure> {
    let id = customer.to_string();
    let context = || Context::from_origin("api");
    match store.load(&id).await?.aggregate {
        Customer::Unborn => return Ok(None),
        Customer::Active { .. } => {
            store.execute(&id, CustomerCommand::Delete(Delete { at }), context()).await?;
        }
        Customer::Deleted { .. } => {}
    }
    let version = store.execute(&id, CustomerCommand::Erase(Erase { at }), context()).await?.version;
    forget_customer(pool, customer).await?;
    Ok(Some(version))
}

fn store(connections: &Connections, nats: &Client, feed: &Feed) -> Store<Customer> {
    Store::new(connections, Wake::new(nats.clone(), &feed.stream), upcasters)
}

fn erasure(customer: &str, erased: serde_json::Value) -> Result<Erasure, Failure> {
    let customer_id = customer.parse().map_err(|_| Told(format!("an event is of {customer}, which is no id")))?;
    match serde_json::from_value(erased)? {
        CustomerEvent::Erased { at } => Ok(Erasure { customer_id, erased_at: at }),
        _ => Err(Told(format!("an event of {customer} is called `erased` and says something else")).into()),
    }
}

/// Who was erased twice was erased the last time.
fn last_of_each(erasures: Vec<Erasure>) -> Vec<Erasure> {
    let by_customer = erasures.into_iter().map(|erasure| (erasure.customer_id.0, erasure));
    by_customer.collect::<BTreeMap<_, _>>().into_values().collect()
}

fn read(file: &Path) -> Result<Vec<Erasure>, Failure> {
    let named = |error: &dyn std::fmt::Display| Told(format!("{}: {error}", file.display()));
    let lines = BufReader::new(File::open(file).map_err(|error| named(&error))?).lines().enumerate();
    let mut erasures = vec![];
    for (index, line) in lines {
        let line = line.map_err(|error| named(&error))?;
        if !line.trim().is_empty() {
            let at_line = |error| Told(format!("{}, line {}: {error}", file.display(), index + 1));
            erasures.push(serde_json::from_str(&line).map_err(at_line)?);
        }
    }
    Ok(erasures)
}
