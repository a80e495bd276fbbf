//! `tandem pause` and `tandem resume`

use std::io::Write;

use clap::Args;
use sqlx::PgPool;
use tandem_domain::GatewayName;
use tandem_gateways::{Direction, known, pause, resume};

use super::out::Out;
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
    let pool = connect::postgres(config)?;
    let name = named(config, &pool, &asked.gateway).await?;
    pause(&pool, &name, asked.direction, &asked.reason).await?;
    let which = asked.direction.map_or("both directions".to_owned(), |one| one.to_string());
    writeln!(Out::default(), "{name} is paused: {which}.")?;
    Ok(Ended::Well)
}

pub(super) async fn resume_gateway(config: &Config, asked: &Resuming) -> Result<Ended, Failure> {
    let pool = connect::postgres(config)?;
    let name = named(config, &pool, &asked.gateway).await?;
    let resumed = resume(&pool, &name, asked.direction).await?;
    match resumed.is_empty() {
        true => writeln!(Out::default(), "Nothing of {name} was paused.")?,
        false => writeln!(Out::default(), "{name} goes on: {}.", resumed.join(", "))?,
    }
    Ok(Ended::Well)
}

/// A gateway that is switched on by the settings of this shell, or known to the database.
async fn named(config: &Config, pool: &PgPool, gateway: &str) -> Result<GatewayName, Failure> {
    if config.stripes().any(|stripe| stripe.name == gateway) || known(pool).await?.iter().any(|name| name == gateway) {
        return Ok(gateway.parse()?);
    }
    Err(Told(format!("no gateway {gateway} is switched on here, and the database knows none of this name")).into())
}
