//! Which Stripe this run talks to.

use anyhow::bail;

/// The key for the local Stripe.
pub const LOCAL_KEY: &str = "sk_test_local";

/// Each has data of its own: customers that one Stripe has never heard of would look deleted there.
#[derive(Clone)]
pub enum Mode {
    /// The local Stripe.
    Local,
    /// Stripe itself, with this key.
    Stripe { key: String, live: bool },
}

impl Mode {
    /// No key, or the one that `.tandem/env` gives to shells, means the local Stripe.
    pub fn of(key: Option<String>) -> anyhow::Result<Self> {
        let Some(key) = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty() && key != LOCAL_KEY) else {
            return Ok(Self::Local);
        };
        let live = key.starts_with("sk_live_") || key.starts_with("rk_live_");
        if !live && !key.starts_with("sk_test_") && !key.starts_with("rk_test_") {
            bail!(
                "STRIPE_SECRET_KEY is no key of Stripe's API: those begin with sk_test_, rk_test_, sk_live_ or rk_live_"
            );
        }
        Ok(Self::Stripe { key, live })
    }

    /// Whether the local Stripe runs.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local)
    }

    /// The folder of its data.
    pub fn folder(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Stripe { live: false, .. } => "stripe-test",
            Self::Stripe { live: true, .. } => "stripe-live",
        }
    }

    /// What `tandem serve` has to know of it: the local Stripe's URL, and what it signs its webhooks with.
    pub fn variables(&self, local: Option<&str>, webhook_secret: &str) -> Vec<(&'static str, String)> {
        const KEY: &str = "TANDEM_STRIPE__SECRET_KEY";
        match self {
            Self::Local => vec![
                (KEY, LOCAL_KEY.to_owned()),
                ("TANDEM_STRIPE__WEBHOOK_SECRETS", webhook_secret.to_owned()),
                ("TANDEM_STRIPE__API_BASE", format!("{}/", local.unwrap_or_default())),
            ],
            // It takes STRIPE_WEBHOOK_SECRET by itself.
            Self::Stripe { key, .. } => vec![(KEY, key.clone())],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(key: &str) -> Option<&'static str> {
        Mode::of(Some(key.to_owned())).ok().map(|mode| mode.folder())
    }

    #[test]
    fn the_key_decides_whose_customers_these_are() {
        assert_eq!(folder(""), Some("local"));
        assert_eq!(folder("sk_test_local"), Some("local"));
        assert_eq!(folder("sk_test_51"), Some("stripe-test"));
        assert_eq!(folder("rk_test_51"), Some("stripe-test"));
        assert_eq!(folder("rk_live_51\n"), Some("stripe-live"));
        assert_eq!(folder("pk_test_51"), None);
    }
}
