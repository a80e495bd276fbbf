//! Every setting of the Stripe gateway, its default and its unit.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{Error, IntoDeserializer};
use serde::{Deserialize, Deserializer};
use tandem_domain::{FieldSet, GatewayName, Policies, Policy};

use crate::{Filter, GuardConfig, Matching, OnDelete};

/// How Tandem speaks to one Stripe account.
///
/// Named here as of `[stripe]`; `TANDEM_GATEWAYS__EU__SECRET_KEY` and so on are those of `[gateways.eu]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StripeConfig {
    /// What this account is called in paths, tables and events: of `[gateways.eu]` it is `eu`. Of `[stripe]` it may be
    /// chosen: `TANDEM_STRIPE__NAME`, default `stripe`.
    #[serde(default = "name")]
    pub name: String,
    /// The section of the settings that these are, by which errors name them: `stripe` or `gateways.eu`.
    #[serde(skip, default = "section")]
    pub section: String,
    /// A secret (`sk_…`) or, better, a restricted key (`rk_…`) that may write customers and read events.
    /// `TANDEM_STRIPE__SECRET_KEY`, no default.
    pub secret_key: SecretString,
    /// Where Stripe's API is; of use to talk to a local one. `TANDEM_STRIPE__API_BASE`, default `https://api.stripe.com/`.
    #[serde(default = "api_base")]
    pub api_base: String,
    /// What webhooks may be signed with (`whsec_…`): several while a secret is rolled. With none, every webhook is
    /// refused. `TANDEM_STRIPE__WEBHOOK_SECRETS`, separated by commas, default none.
    #[serde(default, deserialize_with = "secrets")]
    pub webhook_secrets: Vec<SecretString>,
    /// Longest time for one call, in milliseconds, the wait for its turn included. `TANDEM_STRIPE__TIMEOUT_MS`,
    /// default 10000.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// Longest time for opening a connection, in milliseconds. `TANDEM_STRIPE__CONNECT_TIMEOUT_MS`, default 3000.
    #[serde(default = "connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// Most calls within any second, by this process. `TANDEM_STRIPE__REQUESTS_PER_SECOND`, default 100 with a
    /// live key and 25 with any other, Stripe's own limits. Where several processes or programs call with one
    /// account, share it out.
    #[serde(default)]
    pub requests_per_second: Option<u32>,
    /// Most calls to one endpoint within any second, by this process.
    /// `TANDEM_STRIPE__ENDPOINT_REQUESTS_PER_SECOND`, default 25, Stripe's own limit.
    #[serde(default = "endpoint_requests_per_second")]
    pub endpoint_requests_per_second: u32,
    /// The connected account (`acct_…`) that is meant, where the key is a platform's: it is sent as `Stripe-Account` with
    /// each call, and only webhooks that name it are taken. `TANDEM_STRIPE__ACCOUNT`, default none: the key's own
    /// account, and webhooks that name another are refused.
    #[serde(default)]
    pub account: Option<String>,
    /// Who wins where both sides changed a field: `latest`, `catalog`, `gateway`, or `ask`: each side keeps its value until
    /// a person decides (`/conflicts`). `TANDEM_STRIPE__POLICY`, default `latest`.
    #[serde(default)]
    pub policy: Policy,
    /// The same for single fields: `policies = { email = "ask", metadata = "catalog", "metadata.plan" = "gateway" }`, where
    /// `metadata` is every key that none is set for. `TANDEM_STRIPE__POLICIES=email=ask,metadata=catalog`, default none.
    #[serde(default, deserialize_with = "policies")]
    pub policies: BTreeMap<FieldSet, Policy>,
    /// What a customer deleted in Stripe means here: `delete`; `unlink`, after which it stays and is no longer kept in
    /// step; or `ask`: a person says which of the two (`/parked`). `TANDEM_STRIPE__DELETES_INBOUND`, default `delete`.
    #[serde(default)]
    pub deletes_inbound: OnDelete,
    /// The same for what a customer deleted here means in Stripe. `TANDEM_STRIPE__DELETES_OUTBOUND`, default `delete`.
    #[serde(default)]
    pub deletes_outbound: OnDelete,
    /// Which customers are created there: `filter = { field = "metadata.region", equals = "eu" }`, or `present = true` or
    /// `false` in place of `equals`. `TANDEM_STRIPE__FILTER__FIELD`, `TANDEM_STRIPE__FILTER__EQUALS`,
    /// `TANDEM_STRIPE__FILTER__PRESENT`, default none: all.
    #[serde(default)]
    pub filter: Option<Filter>,
    /// What is done when a customer is to be created, or an object imported, and the other side has one with the same email:
    /// `ask`, `email` or `never`. `TANDEM_STRIPE__MATCH`, default `ask`.
    #[serde(default, rename = "match")]
    pub matching: Matching,
    /// Most customers deleted within `guard_window_s`, in each direction, before that direction is paused; 0 is no limit.
    /// `TANDEM_STRIPE__GUARD_DELETES`, default 50.
    #[serde(default = "guard_deletes")]
    pub guard_deletes: u32,
    /// Most customers, of a hundred, one of whose fields changes within `guard_window_s`, in each direction, before that
    /// direction is paused; 0 is no limit. `TANDEM_STRIPE__GUARD_CHANGES_PERCENT`, default 25.
    #[serde(default = "guard_changes_percent")]
    pub guard_changes_percent: u32,
    /// So many customers may change whatever their share: in a small catalog a few are many.
    /// `TANDEM_STRIPE__GUARD_CHANGES_AT_LEAST`, default 200.
    #[serde(default = "guard_changes_at_least")]
    pub guard_changes_at_least: u32,
    /// Within which time deletions and changes are counted, in seconds. `TANDEM_STRIPE__GUARD_WINDOW_S`, default 600.
    #[serde(default = "guard_window_s")]
    pub guard_window_s: u32,
    /// From one sweep of Stripe's events to the next, in milliseconds. `TANDEM_STRIPE__SWEEP_INTERVAL_MS`, default
    /// 60000.
    #[serde(default = "sweep_interval_ms")]
    pub sweep_interval_ms: u64,
    /// How far a sweep reaches back behind the one before it, in seconds. `TANDEM_STRIPE__SWEEP_OVERLAP_S`, default
    /// 120.
    #[serde(default = "sweep_overlap_s")]
    pub sweep_overlap_s: u64,
    /// From one comparison of all customers on both sides to the next, in seconds: what `tandem verify` does.
    /// `TANDEM_STRIPE__VERIFY_INTERVAL_S`, default 0: never.
    #[serde(default)]
    pub verify_interval_s: u64,
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

impl StripeConfig {
    /// Every setting but the key at its default.
    pub fn new(secret_key: impl Into<SecretString>) -> Self {
        Self {
            name: name(),
            section: section(),
            secret_key: secret_key.into(),
            api_base: api_base(),
            webhook_secrets: Vec::new(),
            timeout_ms: timeout_ms(),
            connect_timeout_ms: connect_timeout_ms(),
            requests_per_second: None,
            endpoint_requests_per_second: endpoint_requests_per_second(),
            account: None,
            policy: Policy::default(),
            policies: BTreeMap::new(),
            deletes_inbound: OnDelete::default(),
            deletes_outbound: OnDelete::default(),
            filter: None,
            matching: Matching::default(),
            guard_deletes: guard_deletes(),
            guard_changes_percent: guard_changes_percent(),
            guard_changes_at_least: guard_changes_at_least(),
            guard_window_s: guard_window_s(),
            sweep_interval_ms: sweep_interval_ms(),
            sweep_overlap_s: sweep_overlap_s(),
            verify_interval_s: 0,
        }
    }

    /// How much may happen at once.
    pub fn guard(&self) -> GuardConfig {
        GuardConfig {
            deletes: self.guard_deletes,
            changes_percent: self.guard_changes_percent,
            changes_at_least: self.guard_changes_at_least,
            window_s: self.guard_window_s,
        }
    }

    /// Who wins a conflict, field by field.
    pub fn policies(&self) -> Policies {
        Policies { usual: self.policy, of: self.policies.clone() }
    }

    /// Whether they will do.
    ///
    /// # Errors
    /// The first that won't.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.checked().map(|_| ())
    }

    /// The settings in the types that the rest works with.
    pub(super) fn checked(&self) -> Result<Checked, ConfigError> {
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

/// What the settings say, once they are found to be right.
#[derive(Debug)]
pub(super) struct Checked {
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
pub(super) fn wrong(setting: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Setting { setting: setting.to_owned(), reason: reason.into() }
}

impl ConfigError {
    /// The same of the settings in another section than `[stripe]`.
    pub(super) fn within(self, section: &str) -> Self {
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

/// A table, or a text such as `email=ask,metadata=catalog`.
fn policies<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<FieldSet, Policy>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "must be a table from fields to policies, or one text such as email=ask,metadata=catalog"
    )]
    enum OfFields {
        Text(String),
        Table(BTreeMap<String, Policy>),
    }
    let pairs: Vec<(String, Result<Policy, D::Error>)> = match OfFields::deserialize(deserializer)? {
        OfFields::Table(table) => table.into_iter().map(|(field, policy)| (field, Ok(policy))).collect(),
        OfFields::Text(text) => {
            let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
            let parse = |pair: &str| {
                let (field, policy) = pair.split_once('=').unwrap_or((pair, ""));
                (field.trim().to_owned(), Policy::deserialize(policy.trim().into_deserializer()))
            };
            pairs.map(parse).collect()
        }
    };
    let typed = pairs.into_iter().map(|(field, policy)| Ok((field.parse().map_err(D::Error::custom)?, policy?)));
    typed.collect()
}

/// A list, or a text separated by commas.
fn secrets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SecretString>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "must be a list of secrets, or one text separated by commas")]
    enum Secrets {
        Text(SecretString),
        List(Vec<SecretString>),
    }
    Ok(match Secrets::deserialize(deserializer)? {
        Secrets::List(list) => list,
        Secrets::Text(text) => {
            let parts = text.expose_secret().split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(SecretString::from).collect()
        }
    })
}

fn name() -> String {
    "stripe".to_owned()
}

fn section() -> String {
    "stripe".to_owned()
}

fn guard_deletes() -> u32 {
    GuardConfig::default().deletes
}

fn guard_changes_percent() -> u32 {
    GuardConfig::default().changes_percent
}

fn guard_changes_at_least() -> u32 {
    GuardConfig::default().changes_at_least
}

fn guard_window_s() -> u32 {
    GuardConfig::default().window_s
}

fn api_base() -> String {
    "https://api.stripe.com/".to_owned()
}

fn timeout_ms() -> u64 {
    10_000
}

fn connect_timeout_ms() -> u64 {
    3_000
}

fn endpoint_requests_per_second() -> u32 {
    25
}

fn sweep_interval_ms() -> u64 {
    60_000
}

fn sweep_overlap_s() -> u64 {
    120
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
            (config(|c| c.timeout_ms = 0), "TIMEOUT_MS"),
            (config(|c| c.requests_per_second = Some(0)), "REQUESTS_PER_SECOND"),
            (config(|c| c.endpoint_requests_per_second = 0), "ENDPOINT_REQUESTS_PER_SECOND"),
            (config(|c| c.account = Some("cus_1".to_owned())), "ACCOUNT"),
            (config(|c| c.webhook_secrets = vec![String::new().into()]), "WEBHOOK_SECRETS"),
            (config(|c| c.sweep_interval_ms = 0), "SWEEP_INTERVAL_MS"),
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
