//! `tandem migrate`

use std::io::Write;

use super::out::Out;
use super::{Ended, Failure};
use crate::config::Config;
use crate::{connect, start};

pub(super) async fn run(config: &Config) -> Result<Ended, Failure> {
    let pool = connect::postgres(config)?;
    start::migrate(&pool).await?;
    writeln!(Out::default(), "All tables are up to date.")?;
    Ok(Ended::Well)
}
