//! Every setting of the Stripe gateway, its default and its unit.

mod check;
mod texts;

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Deserialize;
use tandem_domain::{FieldSet, Policies, Policy};

use crate::{Filter, GuardConfig, Matching, OnDelete};

pub use check::ConfigError;
pub(super) use check::{Checked, wrong};

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
    #[serde(default, deserialize_with = "texts::secrets")]
    pub webhook_secrets: Vec<SecretString>,
    /// Longest time for one call, in milliseconds, the wait for its turn included. `TANDEM_STRIPE__TIMEOUT_MS`,
    /// default 10000.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// Longest time for opening a connection, in milliseconds. `TANDEM_STRIPE__CONNECT_TIMEOUT_MS`, default 3000.
    #[serde(default = "connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// Most calls within any second, by all processes of Tandem on one database, which share it. `TANDEM_STRIPE__REQUESTS_PER_SECOND`,
    /// default 100 with a live key and 25 with any other, Stripe's own limits. Fewer where other programs call with the account, too.
    #[serde(default)]
    pub requests_per_second: Option<u32>,
    /// Most calls to one endpoint within any second, by all of them.
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
    #[serde(default, deserialize_with = "texts::word")]
    pub policy: Policy,
    /// The same for single fields: `policies = { email = "ask", metadata = "catalog", "metadata.plan" = "gateway" }`, where
    /// `metadata` is every key that none is set for. `TANDEM_STRIPE__POLICIES=email=ask,metadata=catalog`, default none.
    #[serde(default, deserialize_with = "texts::policies")]
    pub policies: BTreeMap<FieldSet, Policy>,
    /// What a customer deleted in Stripe means here: `delete`; `unlink`, after which it stays and is no longer kept in
    /// step; or `ask`: a person says which of the two (`/parked`). `TANDEM_STRIPE__DELETES_INBOUND`, default `delete`.
    #[serde(default, deserialize_with = "texts::word")]
    pub deletes_inbound: OnDelete,
    /// The same for what a customer deleted here means in Stripe. `TANDEM_STRIPE__DELETES_OUTBOUND`, default `delete`.
    #[serde(default, deserialize_with = "texts::word")]
    pub deletes_outbound: OnDelete,
    /// Which customers are created there: `filter = { field = "metadata.region", equals = "eu" }`, or `present = true` or
    /// `false` in place of `equals`. `TANDEM_STRIPE__FILTER__FIELD`, `TANDEM_STRIPE__FILTER__EQUALS`,
    /// `TANDEM_STRIPE__FILTER__PRESENT`, default none: all.
    #[serde(default)]
    pub filter: Option<Filter>,
    /// What is done when a customer is to be created, or an object imported, and the other side has one with the same email:
    /// `ask`, `email` or `never`. `TANDEM_STRIPE__MATCH`, default `ask`.
    #[serde(default, rename = "match", deserialize_with = "texts::word")]
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
    /// How long after a customer was seen to differ a verification looks again, in milliseconds: a webhook may be on its way.
    /// `TANDEM_STRIPE__VERIFY_GRACE_MS`, default 2000.
    #[serde(default = "verify_grace_ms")]
    pub verify_grace_ms: u64,
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
            verify_grace_ms: verify_grace_ms(),
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

fn verify_grace_ms() -> u64 {
    2_000
}
