//! `tandem pause` and `tandem resume`

use clap::Args;
use tandem_domain::GatewayName;
use tandem_gateways::{Direction, pause, resume};

use super::{Ended, Failure, Told};
use crate::config::Config;
use crate::connect;

/// What to pause.
#[derive(Debug, Args)]
pub(super) struct Pausing {
    /// The gateway, such as stripe
    gateway: String,
    /// Only inbound (from the gateway to the catalog) or outbound
    #[arg(long)]
    direction: Option<Direction>,
    /// Why, for those who find it paused
    #[arg(long, default_value = "a person paused it")]
    reason: String,
}

/// What to resume.
#[derive(Debug, Args)]
pub(super) struct Resuming {
    /// The gateway, such as stripe
    gateway: String,
    /// Only inbound (from the gateway to the catalog) or outbound
    #[arg(long)]
    direction: Option<Direction>,
}

pub(super) async fn pause_gateway(config: &Config, asked: &Pausing) -> Result<Ended, Failure> {
    let name = named(config, &asked.gateway)?;
    pause(&connect::postgres(config)?, &name, asked.direction, &asked.reason).await?;
    println!("{name} is paused: {}.", asked.direction.map_or("both directions".to_owned(), |one| one.to_string()));
    Ok(Ended::Well)
}

pub(super) async fn resume_gateway(config: &Config, asked: &Resuming) -> Result<Ended, Failure> {
    let name = named(config, &asked.gateway)?;
    let resumed = resume(&connect::postgres(config)?, &name, asked.direction).await?;
    match resumed.is_empty() {
        true => println!("Nothing of {name} was paused."),
        false => println!("{name} goes on: {}.", resumed.join(", ")),
    }
    Ok(Ended::Well)
}

fn named(config: &Config, gateway: &str) -> Result<GatewayName, Failure> {
    if !config.stripes().any(|stripe| stripe.name == gateway) {
        return Err(Told(format!("no gateway {gateway} is switched on")).into());
    }
    Ok(gateway.parse()?)
}
