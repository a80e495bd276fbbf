//! `tandem rebuild`

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use tandem_projections::customers_rebuild;

use super::out::Out;
use super::{Ended, Failure};
use crate::config::Config;
use crate::connect;

pub(super) async fn customers(config: &Config) -> Result<Ended, Failure> {
    let connections = connect::connections(config)?;
    let nats = connect::nats_now(config).await?;
    let terminal = io::stderr().is_terminal();
    let told = Cell::new(false);
    let position = customers_rebuild(connections, nats, config.feed(), |position, head| {
        if terminal {
            told.set(true);
            eprint!("\r{position} of {head} events");
            let _ = io::stderr().flush();
        }
    })
    .await?;
    if told.get() {
        eprintln!();
    }
    writeln!(Out::default(), "The read model customers is rebuilt from {position} events, and is what is read now.")?;
    Ok(Ended::Well)
}
