//! Keys and webhook secrets that are rolled while the service runs.

use std::sync::Arc;

use tandem_gateways::stripe::Stripe;
use tandem_gateways::{Gateway, Gateways};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::log::chain;

/// The accounts, and the settings by which they work now.
pub(crate) struct Keys {
    pub(crate) config: Config,
    /// One for each of the settings' accounts, in their order.
    pub(crate) stripes: Vec<Arc<Stripe>>,
    pub(crate) gateways: Gateways,
}

impl Keys {
    /// Takes over the keys and webhook secrets of each reading of the settings. What else changed is named in the log, each
    /// time.
    pub(crate) async fn roll_with(mut self, mut reloads: mpsc::Receiver<Config>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                Some(config) = reloads.recv() => self.take_over(config).await,
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn take_over(&mut self, config: Config) {
        let changes = config.changes_since(&self.config);
        if !changes.others.is_empty() {
            tracing::warn!(settings = changes.others.join(", "), "changed settings that need a restart");
        }
        if changes.secrets.is_empty() {
            tracing::info!("the settings were read again: no key and no webhook secret has changed");
            return;
        }
        for stripe in &self.stripes {
            let name = stripe.name();
            let Some(settings) = config.stripes().find(|settings| settings.name == name.as_str()) else { continue };
            if !changes.secrets.iter().any(|setting| setting.starts_with(&format!("{}.", settings.section))) {
                continue;
            }
            match stripe.roll(settings) {
                Ok(()) => {
                    self.config.take_secrets(&settings.section, &config);
                    tracing::info!(gateway = %name, "took over the key and the webhook secrets");
                }
                Err(error) => {
                    tracing::error!(gateway = %name, error = %chain(&error), "the key and the webhook secrets so far stay");
                    continue;
                }
            }
            // What the old key could not do need not wait out its time.
            if let Err(error) = self.gateways.hurry(name).await {
                tracing::debug!(gateway = %name, error = %chain(&error), "what waits is tried again in its time");
            }
        }
    }
}
