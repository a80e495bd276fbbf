//! Whether the settings will do, and what they say then.

use std::num::NonZeroU32;
use std::time::Duration;

use reqwest::Url;
use secrecy::ExposeSecret;
use tandem_domain::GatewayName;

use super::StripeConfig;
use crate::Filter;

/// For how long Stripe lists an event ("List all events").
const EVENTS_KEPT_S: u64 = 30 * 24 * 3600;

impl StripeConfig {
    /// Whether they will do.
    ///
    /// # Errors
    /// The first that won't.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.checked().map(|_| ())
    }

    /// The settings in the types that the rest works with.
    pub(in crate::stripe) fn checked(&self) -> Result<Checked, ConfigError> {
        self.check_each().map_err(|error| error.within(&self.section))
    }

    fn check_each(&self) -> Result<Checked, ConfigError> {
        let key = self.secret_key.expose_secret();
        if !(key.starts_with("sk_") || key.starts_with("rk_")) || !key.chars().all(|c| c.is_ascii_graphic()) {
            return Err(wrong("TANDEM_STRIPE__SECRET_KEY", "must be a secret or restricted key: sk_… or rk_…"));
        }
        let livemode = match key {
            key if key.contains("_live_") => Some(true),
            key if key.contains("_test_") => Some(false),
            _ => None,
        };
        let all = self.requests_per_second.unwrap_or(if livemode == Some(true) { 100 } else { 25 });
        if self.account.as_deref().is_some_and(|account| !is_account(account)) {
            return Err(wrong("TANDEM_STRIPE__ACCOUNT", "must be an account's id: acct_…"));
        }
        if self.webhook_secrets.iter().any(|secret| secret.expose_secret().trim().is_empty()) {
            return Err(wrong("TANDEM_STRIPE__WEBHOOK_SECRETS", "must not contain an empty secret"));
        }
        if let Some(Err(reason)) = self.filter.as_ref().map(Filter::check) {
            return Err(wrong("TANDEM_STRIPE__FILTER", reason));
        }
        if self.guard_changes_percent > 100 {
            return Err(wrong("TANDEM_STRIPE__GUARD_CHANGES_PERCENT", "must be from 0 to 100"));
        }
        if self.guard_window_s == 0 {
            return Err(wrong("TANDEM_STRIPE__GUARD_WINDOW_S", "must be at least 1"));
        }
        milliseconds("TANDEM_STRIPE__SWEEP_INTERVAL_MS", self.sweep_interval_ms)?;
        milliseconds("TANDEM_STRIPE__VERIFY_GRACE_MS", self.verify_grace_ms)?;
        if self.sweep_overlap_s > EVENTS_KEPT_S {
            let reason = format!("must be at most {EVENTS_KEPT_S}: Stripe lists the events of 30 days");
            return Err(wrong("TANDEM_STRIPE__SWEEP_OVERLAP_S", reason));
        }
        Ok(Checked {
            account: self.account.clone(),
            name: self.name.parse().map_err(|error| wrong("TANDEM_STRIPE__NAME", format!("is wrong: {error}")))?,
            base: base(&self.api_base, livemode)?,
            livemode,
            timeout: milliseconds("TANDEM_STRIPE__TIMEOUT_MS", self.timeout_ms)?,
            connect_timeout: milliseconds("TANDEM_STRIPE__CONNECT_TIMEOUT_MS", self.connect_timeout_ms)?,
            per_second: rate("TANDEM_STRIPE__REQUESTS_PER_SECOND", all)?,
            endpoint_per_second: rate(
                "TANDEM_STRIPE__ENDPOINT_REQUESTS_PER_SECOND",
                self.endpoint_requests_per_second,
            )?,
        })
    }
}

/// A setting that won't do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Its value breaks a rule.
    #[error("{setting} {reason}")]
    Setting {
        /// The environment variable that sets it.
        setting: String,
        /// What is wrong, without secrets.
        reason: String,
    },
    /// No HTTP client can be built with these.
    #[error("no HTTPS client can be set up for Stripe")]
    Http(#[source] reqwest::Error),
}

/// What the settings say, once they are found to be right.
#[derive(Debug)]
pub(in crate::stripe) struct Checked {
    pub name: GatewayName,
    /// The connected account to call for.
    pub account: Option<String>,
    /// Ends with a slash.
    pub base: Url,
    /// `None` where the key does not say.
    pub livemode: Option<bool>,
    pub timeout: Duration,
    pub connect_timeout: Duration,
    pub per_second: NonZeroU32,
    pub endpoint_per_second: NonZeroU32,
}

fn is_account(text: &str) -> bool {
    text.starts_with("acct_") && text.chars().all(|c| c.is_ascii_graphic())
}

fn base(text: &str, livemode: Option<bool>) -> Result<Url, ConfigError> {
    const SETTING: &str = "TANDEM_STRIPE__API_BASE";
    let slash = if text.ends_with('/') { "" } else { "/" };
    let url = Url::parse(&format!("{text}{slash}")).map_err(|error| wrong(SETTING, format!("is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong(SETTING, "must be an http or https URL without a query"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(SETTING, "must have no user and no password: the key is what Stripe asks for"));
    }
    if livemode == Some(true) && url.scheme() == "http" {
        return Err(wrong(SETTING, "must be an https URL, or a live key would cross the network in the clear"));
    }
    Ok(url)
}

fn milliseconds(setting: &'static str, value: u64) -> Result<Duration, ConfigError> {
    const DAY: u64 = 24 * 3600 * 1000;
    match value {
        1..=DAY => Ok(Duration::from_millis(value)),
        _ => Err(wrong(setting, format!("must be between 1 and {DAY} milliseconds"))),
    }
}

fn rate(setting: &'static str, value: u32) -> Result<NonZeroU32, ConfigError> {
    NonZeroU32::new(value).ok_or_else(|| wrong(setting, "must be at least 1 call a second"))
}

/// Named as of `[stripe]`, until it is known where it was set.
pub(in crate::stripe) fn wrong(setting: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Setting { setting: setting.to_owned(), reason: reason.into() }
}

impl ConfigError {
    /// The same of the settings in another section than `[stripe]`.
    pub(in crate::stripe) fn within(self, section: &str) -> Self {
        match self {
            Self::Setting { setting, reason } => {
                let name = setting.strip_prefix("TANDEM_STRIPE__").unwrap_or(&setting);
                let setting = format!("TANDEM_{}__{name}", section.to_uppercase().replace('.', "__"));
                Self::Setting { setting, reason }
            }
            Self::Http(error) => Self::Http(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn complaint(config: &StripeConfig) -> String {
        config.checked().unwrap_err().to_string()
    }

    #[test]
    fn only_the_key_must_be_given() {
        let config: StripeConfig = serde_json::from_value(json!({ "secret_key": "rk_live_1" })).unwrap();
        let checked = config.checked().unwrap();
        assert_eq!(checked.base.as_str(), "https://api.stripe.com/");
        assert_eq!((checked.per_second.get(), checked.endpoint_per_second.get()), (100, 25));
        assert_eq!(checked.livemode, Some(true));
    }

    #[test]
    fn a_test_key_keeps_to_a_sandboxs_limit() {
        let checked = StripeConfig::new("sk_test_1").checked().unwrap();
        assert_eq!((checked.per_second.get(), checked.livemode), (25, Some(false)));
    }

    #[test]
    fn webhook_secrets_are_a_list_or_a_text_with_commas() {
        for given in [json!(["whsec_a", "whsec_b"]), json!(" whsec_a, whsec_b ,")] {
            let config: StripeConfig =
                serde_json::from_value(json!({ "secret_key": "sk_test_1", "webhook_secrets": given })).unwrap();
            let secrets: Vec<&str> = config.webhook_secrets.iter().map(ExposeSecret::expose_secret).collect();
            assert_eq!(secrets, ["whsec_a", "whsec_b"]);
        }
    }

    #[test]
    fn a_wrong_setting_is_named_without_its_secret() {
        let key = complaint(&StripeConfig::new("pk_test_public"));
        assert!(key.starts_with("TANDEM_STRIPE__SECRET_KEY ") && !key.contains("public"), "{key}");
        let config = |change: fn(&mut StripeConfig)| {
            let mut config = StripeConfig::new("sk_test_1");
            change(&mut config);
            complaint(&config)
        };
        for (complaint, setting) in [
            (config(|c| c.name = "Stripe!".to_owned()), "NAME"),
            (config(|c| c.api_base = "stripe".to_owned()), "API_BASE"),
            (config(|c| c.api_base = "ftp://stripe".to_owned()), "API_BASE"),
            (config(|c| c.api_base = "http://user:hidden@stripe".to_owned()), "API_BASE"),
            (config(|c| c.timeout_ms = 0), "TIMEOUT_MS"),
            (config(|c| c.requests_per_second = Some(0)), "REQUESTS_PER_SECOND"),
            (config(|c| c.endpoint_requests_per_second = 0), "ENDPOINT_REQUESTS_PER_SECOND"),
            (config(|c| c.account = Some("cus_1".to_owned())), "ACCOUNT"),
            (config(|c| c.webhook_secrets = vec![String::new().into()]), "WEBHOOK_SECRETS"),
            (config(|c| c.sweep_interval_ms = 0), "SWEEP_INTERVAL_MS"),
            (config(|c| c.sweep_overlap_s = u64::MAX), "SWEEP_OVERLAP_S"),
            (config(|c| c.verify_grace_ms = 0), "VERIFY_GRACE_MS"),
        ] {
            assert!(complaint.starts_with(&format!("TANDEM_STRIPE__{setting} ")), "{complaint}");
        }
    }

    #[test]
    fn a_setting_is_named_by_its_section() {
        let mut config = StripeConfig::new("sk_test_1");
        (config.section, config.timeout_ms) = ("gateways.eu".to_owned(), 0);
        assert!(complaint(&config).starts_with("TANDEM_GATEWAYS__EU__TIMEOUT_MS "));
    }

    #[test]
    fn a_live_key_never_crosses_the_network_in_the_clear() {
        let mut config = StripeConfig::new("sk_live_1");
        config.api_base = "http://stripe.internal/".to_owned();
        assert!(complaint(&config).contains("https"));
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let mut config = StripeConfig::new("sk_test_verysecret");
        config.webhook_secrets = vec!["whsec_verysecret".into()];
        assert!(!format!("{config:?}").contains("verysecret"));
    }
}
