//! How a local Stripe is set up.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a local Stripe starts with. The default is a fresh, faithful one on a free port, with no webhook endpoint.
#[derive(Debug, Clone)]
pub struct Options {
    /// On 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The account's id, as in `GET /v1/account`.
    pub account: String,
    /// The secret keys accepted; if empty, any that begins with `sk_test_` or `rk_test_`.
    pub secret_keys: Vec<String>,
    /// Webhook endpoints, as (URL, signing secret); each gets every event.
    pub webhooks: Vec<(String, String)>,
    /// How failed webhooks are sent again.
    pub webhook_retry: WebhookRetry,
    /// Longest wait for an endpoint's answer.
    pub webhook_timeout: Duration,
    /// Where to keep everything, so that a local Stripe started again goes on; in memory only if `None`.
    pub state: Option<PathBuf>,
    /// Other accounts beside the one above, each with customers, events and webhooks of its own.
    pub accounts: Vec<Account>,
    /// What a running local Stripe can be told to change.
    pub settings: Settings,
}

/// One more account.
#[derive(Debug, Clone)]
pub struct Account {
    /// `acct_…`
    pub id: String,
    /// Its own secret key. With none it is connected to the first account, whose keys reach it by `Stripe-Account`, and its
    /// events name it in `account`.
    pub secret_key: Option<String>,
    /// Webhook endpoints, as (URL, signing secret); each gets every event of this account.
    pub webhooks: Vec<(String, String)>,
}

impl Account {
    /// One that is connected to the first.
    pub fn connected(id: &str) -> Self {
        Self { id: id.to_owned(), secret_key: None, webhooks: Vec::new() }
    }
}

impl Options {
    /// The same local Stripe, seen from that account.
    pub(crate) fn of(&self, account: &Account) -> Self {
        let own = |key: &String| vec![key.clone()];
        Self {
            account: account.id.clone(),
            secret_keys: account.secret_key.as_ref().map_or_else(|| self.secret_keys.clone(), own),
            webhooks: account.webhooks.clone(),
            state: self.state.as_ref().map(|path| path.with_extension(account.id.clone())),
            accounts: Vec::new(),
            ..self.clone()
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            account: "acct_1LocalStripe0Sim00".to_owned(),
            secret_keys: Vec::new(),
            webhooks: Vec::new(),
            webhook_retry: WebhookRetry::default(),
            webhook_timeout: Duration::from_secs(10),
            state: None,
            accounts: Vec::new(),
            settings: Settings::default(),
        }
    }
}

/// Behaviour that can be switched while a local Stripe runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Trim emails and turn them to lower case, as a remote that normalises would.
    pub normalise_email: bool,
    /// What an update of some `address[…]` keys does to the others. Stripe's documentation does not say.
    pub address_update: AddressUpdate,
    /// What an address line set to `""` is kept as. Stripe's documentation does not say.
    pub empty_line: EmptyLine,
    /// `None` answers any number of calls.
    pub rate_limit: Option<RateLimit>,
    /// How long a change stays invisible to search, in milliseconds.
    pub search_lag_ms: u64,
    /// Keys that were taken once, and are expired.
    pub expired_keys: Vec<String>,
    /// Fields that events do not have, as those of an older API version.
    pub events_without: Vec<String>,
    /// Sign webhooks by the local Stripe's clock, where Tandem's moves with it; by the machine's otherwise, so that a moved
    /// clock does not turn every signature stale.
    pub sign_by_clock: bool,
    /// Take texts, metadata keys and their number without Stripe's limits.
    pub any_length: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            normalise_email: false,
            address_update: AddressUpdate::Merge,
            empty_line: EmptyLine::Null,
            rate_limit: None,
            search_lag_ms: 60_000,
            expired_keys: Vec::new(),
            events_without: Vec::new(),
            sign_by_clock: false,
            any_length: false,
        }
    }
}

/// What an update of some `address[…]` keys does to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressUpdate {
    /// It keeps them.
    Merge,
    /// It clears them.
    Replace,
}

/// What an address line set to `""` is kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyLine {
    /// `null`.
    Null,
    /// `""`, which has been seen in events of real accounts.
    Empty,
}

/// How many calls a second are answered; each allows a burst of one second's worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// In all.
    pub account: u32,
    /// To each endpoint: one method on one path, whatever the id in it.
    pub endpoint: u32,
}

impl RateLimit {
    /// Stripe's limits of a sandbox.
    pub const SANDBOX: Self = Self { account: 25, endpoint: 25 };
    /// Stripe's limits in live mode.
    pub const LIVE: Self = Self { account: 100, endpoint: 25 };
}

/// The pauses between one webhook's attempts. Stripe's grow to hours; these are short, and go on for three days too.
#[derive(Debug, Clone)]
pub struct WebhookRetry {
    /// Before the second attempt.
    pub first: Duration,
    /// Each pause is twice the one before, up to this.
    pub longest: Duration,
    /// Attempts in all, the first among them.
    pub attempts: u32,
}

impl Default for WebhookRetry {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), longest: Duration::from_secs(5), attempts: 50_000 }
    }
}

impl WebhookRetry {
    /// The pause after attempt number `attempt` (from 1), or `None` after the last.
    pub(crate) fn pause_after(&self, attempt: u32) -> Option<Duration> {
        let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
        (attempt < self.attempts).then(|| self.first.saturating_mul(factor).min(self.longest))
    }
}
