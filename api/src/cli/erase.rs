//! `tandem erase`

use std::io::Write;

use clap::Args;
use sqlx::PgPool;
use tandem_domain::{Customer, CustomerCommand, CustomerEvent, CustomerId, Erase, upcasters};
use tandem_eventlog::{Context, Store, Wake};
use tandem_gateways::{forget_customer, unsettled};

use super::out::Out;
use super::{Ended, Failure, Told, confirm};
use crate::clock::Clock;
use crate::config::Config;
use crate::connect;

#[derive(Debug, Args)]
pub(super) struct Erasing {
    /// Whom: a deleted customer
    #[arg(value_name = "ID")]
    customer: CustomerId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(config: &Config, Erasing { customer, yes }: Erasing) -> Result<Ended, Failure> {
    let connections = connect::connections(config)?;
    let pool = connections.pool().clone();
    let nats = connect::nats_now(config).await?;
    let feed = config.feed();
    let store = Store::<Customer>::new(&connections, Wake::new(nats.clone(), &feed.stream), upcasters);
    let id = customer.to_string();
    match store.load(&id).await?.aggregate {
        Customer::Unborn => return Err(Told(format!("there is no customer {id}")).into()),
        Customer::Active { .. } => {
            return Err(Told("the customer is alive: delete it first, here or at a gateway".to_owned()).into());
        }
        Customer::Deleted { .. } => {}
    }
    settled(&pool, customer).await?;
    if !yes {
        confirm(&format!("All that is known of customer {id} will be blank, for ever. Go on?"))?;
        // Answering may have taken minutes.
        settled(&pool, customer).await?;
    }
    // First of all: from here on the customer takes nothing in that could be left after what is blanked.
    let erase = CustomerCommand::Erase(Erase { at: Clock::system().now() });
    let version = store.execute(&id, erase, Context::from_origin("api")).await?.version;
    forget_customer(&pool, customer).await?;
    let blanked = CustomerEvent::blanked;
    let events = tandem_eventlog::erase::<Customer>(&pool, &nats, &feed, &id, version, &upcasters(), blanked).await?;
    writeln!(
        Out::default(),
        "{events} events of customer {id} are blank, in PostgreSQL and in the stream; what is read from them follows."
    )?;
    Ok(Ended::Well)
}

/// No gateway has anything left to do for the customer.
async fn settled(pool: &PgPool, customer: CustomerId) -> Result<(), Failure> {
    match unsettled(pool, customer).await? {
        None => Ok(()),
        Some(gateway) => Err(Told(format!(
            "{gateway} is not yet in step with its deletion: see `tandem status` and GET /customers/{customer}/links"
        ))
        .into()),
    }
}
