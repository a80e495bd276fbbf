//! Two gateways of one Stripe account would fight: each would create its copy of every customer.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use tandem_gateways::Gateway;
use tandem_gateways::stripe::Stripe;

use crate::config::{Config, ConfigError, wrong};
use crate::log::chain;

/// Refuses two keys that Stripe says are of one account. What it does not tell now is let pass, with a warning: it may be away, and
/// a restricted key may not ask.
///
/// # Errors
/// The second one's setting, and the first one's name.
pub(crate) async fn check(config: &Config, stripes: &[Arc<Stripe>]) -> Result<(), ConfigError> {
    if stripes.len() < 2 {
        return Ok(());
    }
    let told = join_all(stripes.iter().map(|stripe| stripe.account())).await;
    let mut known = HashMap::new();
    for ((stripe, settings), account) in stripes.iter().zip(config.stripes()).zip(told) {
        match account {
            Ok(account) => {
                let reason = format!("is of {account}, and so is the gateway");
                if let Some(other) = known.insert(account, stripe.name()) {
                    return Err(wrong(settings, "SECRET_KEY", format!("{reason} {other}: they would fight")));
                }
            }
            Err(error) => tracing::warn!(
                gateway = %stripe.name(), error = %chain(&error),
                "Stripe does not tell which account this is: no two gateways may be of one"
            ),
        }
    }
    Ok(())
}
