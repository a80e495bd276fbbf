//! Every setting of the service: defaults, then a file, then the environment.

mod accounts;
mod changes;
mod places;
mod sources;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use tandem_eventlog::{Connections, Feed};
use tandem_gateways::GatewaysConfig;
use tandem_gateways::stripe::StripeConfig;

pub(crate) use accounts::wrong;

use crate::log::LogFormat;

/// All settings. `TANDEM_HTTP__BIND` in the environment is `bind` under `[http]` in the file, and wins.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// NATS.
    #[serde(default)]
    pub nats: NatsConfig,
    /// The API.
    #[serde(default)]
    pub http: HttpConfig,
    /// The keys that open the API, sent as `Authorization: Bearer`; with none it is open, and only to this machine.
    /// `TANDEM_API_KEYS`, separated by commas, default none.
    #[serde(default, deserialize_with = "separated")]
    pub api_keys: Vec<SecretString>,
    /// What all gateways share.
    #[serde(default)]
    pub gateways: GatewaysConfig,
    /// The gateways in sections of their own, by name: `[gateways.eu]` with `kind = "stripe"`, or
    /// `TANDEM_GATEWAYS__EU__KIND`. Default none.
    #[serde(skip)]
    pub accounts: BTreeMap<String, StripeConfig>,
    /// The short way for one account of Stripe; switched off without a key, though what else is set of it must be right.
    /// `STRIPE_SECRET_KEY` is taken where `TANDEM_STRIPE__SECRET_KEY` is not set, and `STRIPE_WEBHOOK_SECRET` where
    /// `TANDEM_STRIPE__WEBHOOK_SECRETS` is not.
    #[serde(default)]
    pub stripe: Option<StripeConfig>,
    /// What is logged: a filter as of tracing's `EnvFilter`, such as `debug` or `info,tandem_gateways=debug`. Of other crates
    /// than ours what is below `info` only if they are named: they write passwords and messages. `TANDEM_LOG`, default `info,sqlx=warn,async_nats=warn`.
    #[serde(default = "log")]
    pub log: String,
    /// How: `text` or `json`. `TANDEM_LOG_FORMAT`, default `text`.
    #[serde(default)]
    pub log_format: LogFormat,
    /// Every setting that was set, by its name in the file, to tell one reading from the next.
    #[serde(skip)]
    as_set: BTreeMap<String, SecretString>,
}

/// Where events are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host:port/database`. `TANDEM_DATABASE__URL`, no default.
    pub url: SecretString,
    /// Most connections of this process in all, at least 10. `TANDEM_DATABASE__MAX_CONNECTIONS`, default 20: four processes fit a
    /// PostgreSQL as it comes.
    #[serde(default = "max_connections")]
    pub max_connections: u32,
    /// Longest wait for a connection, in milliseconds; then a request is answered 503.
    /// `TANDEM_DATABASE__ACQUIRE_TIMEOUT_MS`, default 3000.
    #[serde(default = "acquire_timeout_ms")]
    pub acquire_timeout_ms: u64,
    /// How long an `Idempotency-Key` is known, in hours, 24 at least. `TANDEM_DATABASE__KEYS_KEPT_HOURS`, default 168.
    #[serde(default = "keys_kept_hours")]
    pub keys_kept_hours: u32,
}

/// Where events are published.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsConfig {
    /// `nats://user:password@host:port`, `nats://token@host:port`, or `tls://…`, several separated by commas. `TANDEM_NATS__URL`, default
    /// `nats://127.0.0.1:4222`.
    pub url: SecretString,
    /// A user's name, with a password. `TANDEM_NATS__USER`, default none.
    pub user: Option<String>,
    /// Its password. `TANDEM_NATS__PASSWORD`, default none.
    pub password: Option<SecretString>,
    /// A file that holds it. `TANDEM_NATS__PASSWORD_FILE`, default none.
    pub password_file: Option<PathBuf>,
    /// A token instead. `TANDEM_NATS__TOKEN`, default none.
    pub token: Option<SecretString>,
    /// A file that holds it. `TANDEM_NATS__TOKEN_FILE`, default none.
    pub token_file: Option<PathBuf>,
    /// A user's JWT and seed instead, in one file as `nsc` makes it. `TANDEM_NATS__CREDENTIALS_FILE`, default none.
    pub credentials_file: Option<PathBuf>,
    /// An nkey's seed instead, which begins with `SU`. `TANDEM_NATS__NKEY`, default none.
    pub nkey: Option<SecretString>,
    /// A file that holds it. `TANDEM_NATS__NKEY_FILE`, default none.
    pub nkey_file: Option<PathBuf>,
    /// The certificates of the CAs that may have signed the server's, as PEM; the connection is by TLS then. Without it the system's
    /// CAs count. `TANDEM_NATS__CA_FILE`, default none.
    pub ca_file: Option<PathBuf>,
    /// A certificate of this process, as PEM. `TANDEM_NATS__CERT_FILE`, default none.
    pub cert_file: Option<PathBuf>,
    /// Its private key, as PEM. `TANDEM_NATS__KEY_FILE`, default none.
    pub key_file: Option<PathBuf>,
    /// The JetStream stream. `TANDEM_NATS__STREAM`, default `CATALOG`.
    pub stream: String,
    /// The first token of its subjects. `TANDEM_NATS__ROOT`, default `catalog`.
    pub root: String,
    /// How many servers of a NATS cluster keep a copy of the stream, 1 to 5; a stream that is there already has to have as
    /// many at least. `TANDEM_NATS__REPLICAS`, default 1.
    pub replicas: usize,
}

/// How the API is served.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port; port 0 takes a free one. An address that is not of this machine alone needs `TANDEM_API_KEYS`.
    /// `TANDEM_HTTP__BIND`, default `127.0.0.1:8080`.
    pub bind: SocketAddr,
    /// Lag of relay and projectors that `/readyz` still calls ready, in seconds. `TANDEM_HTTP__READY_LAG_SECONDS`,
    /// default 30.
    pub ready_lag_seconds: f64,
    /// Longest wait for open requests when the service is told to stop, in milliseconds.
    /// `TANDEM_HTTP__DRAIN_TIMEOUT_MS`, default 10000.
    pub drain_timeout_ms: u64,
    /// Most connections at once, as far as the limit of open files has room for them; whoever comes then is answered about
    /// health alone. `TANDEM_HTTP__MAX_CONNECTIONS`, default 10000.
    pub max_connections: usize,
    /// Longest wait of a connection for its next request, all of its headers included, in milliseconds.
    /// `TANDEM_HTTP__IDLE_TIMEOUT_MS`, default 30000.
    pub idle_timeout_ms: u64,
    /// Longest time for a request's body to arrive, in milliseconds. `TANDEM_HTTP__BODY_TIMEOUT_MS`, default 30000.
    pub body_timeout_ms: u64,
    /// Longest time in which a client takes nothing at all of its answer, in milliseconds; then its connection is closed.
    /// `TANDEM_HTTP__SEND_TIMEOUT_MS`, default 300000.
    pub send_timeout_ms: u64,
}

/// Why the settings will not do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not TOML: {reason}")]
    Toml {
        /// Which.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A setting is wrong, unknown or missing.
    #[error("{setting}: {reason}")]
    Setting {
        /// Its name, in the environment or the file, as it was set.
        setting: String,
        /// What is wrong, without secrets.
        reason: String,
    },
}

impl Config {
    /// The settings of this process: of the file, if there is one, and of the environment.
    ///
    /// The file is the one named, or else named by `TANDEM_CONFIG`, or else `tandem.toml` here if it exists.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting, and where it was set.
    pub fn load(file: Option<PathBuf>) -> Result<Self, ConfigError> {
        sources::load(file, Path::new("tandem.toml"), std::env::vars_os())
    }

    /// Every Stripe account.
    pub fn stripes(&self) -> impl Iterator<Item = &StripeConfig> {
        self.stripe.iter().chain(self.accounts.values())
    }

    /// The names in NATS.
    pub fn feed(&self) -> Feed {
        Feed { stream: self.nats.stream.clone(), root: self.nats.root.clone(), replicas: self.nats.replicas }
    }

    /// Whether the settings fit together.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |setting: &str, reason: &str| {
            Err(ConfigError::Setting { setting: setting.to_owned(), reason: reason.to_owned() })
        };
        if self.api_keys.iter().any(|key| key.expose_secret().len() < 16) {
            return wrong("TANDEM_API_KEYS", "each key must have at least 16 characters");
        }
        if self.api_keys.iter().any(|key| !is_sendable(key.expose_secret())) {
            return wrong(
                "TANDEM_API_KEYS",
                "each key must be printable ASCII, without spaces at its ends: no client could send another",
            );
        }
        self.check_bind(self.http.bind)?;
        if self.database.max_connections < Connections::FEWEST {
            return wrong("TANDEM_DATABASE__MAX_CONNECTIONS", "must be at least 10");
        }
        if self.database.acquire_timeout_ms == 0 {
            return wrong("TANDEM_DATABASE__ACQUIRE_TIMEOUT_MS", "must be at least 1");
        }
        if self.database.keys_kept_hours < 24 {
            return wrong("TANDEM_DATABASE__KEYS_KEPT_HOURS", "must be at least 24");
        }
        if !(31..=36500).contains(&self.gateways.done_kept_days) {
            return wrong(
                "TANDEM_GATEWAYS__DONE_KEPT_DAYS",
                "must be 31 to 36500: Stripe tells of an event for 30 days",
            );
        }
        if !self.http.ready_lag_seconds.is_finite() || self.http.ready_lag_seconds <= 0.0 {
            return wrong("TANDEM_HTTP__READY_LAG_SECONDS", "must be more than 0");
        }
        if !(1..=1_000_000).contains(&self.http.max_connections) {
            return wrong("TANDEM_HTTP__MAX_CONNECTIONS", "must be 1 to 1000000");
        }
        for (setting, timeout) in [
            ("TANDEM_HTTP__IDLE_TIMEOUT_MS", self.http.idle_timeout_ms),
            ("TANDEM_HTTP__BODY_TIMEOUT_MS", self.http.body_timeout_ms),
            ("TANDEM_HTTP__SEND_TIMEOUT_MS", self.http.send_timeout_ms),
        ] {
            if !(1..=3_600_000).contains(&timeout) {
                return wrong(setting, "must be 1 to 3600000");
            }
        }
        crate::nats::check(&self.nats)?;
        if !is_token(&self.nats.stream) {
            return wrong("TANDEM_NATS__STREAM", "must be letters, digits, - or _");
        }
        if !(1..=5).contains(&self.nats.replicas) {
            return wrong("TANDEM_NATS__REPLICAS", "must be 1 to 5");
        }
        if !self.nats.root.split('.').all(is_token) {
            return wrong("TANDEM_NATS__ROOT", "must be letters, digits, - or _");
        }
        accounts::check(self)
    }

    /// Whether the API may be open at this address.
    ///
    /// # Errors
    /// Others can reach it, and no key is set.
    pub fn check_bind(&self, address: SocketAddr) -> Result<(), ConfigError> {
        if address.ip().is_loopback() || !self.api_keys.is_empty() {
            return Ok(());
        }
        Err(ConfigError::Setting {
            setting: "TANDEM_API_KEYS".to_owned(),
            reason: format!("must be set when others can reach the API, which TANDEM_HTTP__BIND={address} lets them"),
        })
    }
}

/// It arrives in a header as it is.
fn is_sendable(key: &str) -> bool {
    key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && key.trim() == key
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

impl Default for NatsConfig {
    fn default() -> Self {
        let Feed { stream, root, replicas } = Feed::default();
        Self {
            url: "nats://127.0.0.1:4222".into(),
            user: None,
            password: None,
            password_file: None,
            token: None,
            token_file: None,
            credentials_file: None,
            nkey: None,
            nkey_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            stream,
            root,
            replicas,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            ready_lag_seconds: 30.0,
            drain_timeout_ms: 10_000,
            max_connections: 10_000,
            idle_timeout_ms: 30_000,
            body_timeout_ms: 30_000,
            send_timeout_ms: 300_000,
        }
    }
}

impl DatabaseConfig {
    /// That database, and everything else at its default.
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self {
            url: url.into(),
            max_connections: max_connections(),
            acquire_timeout_ms: acquire_timeout_ms(),
            keys_kept_hours: keys_kept_hours(),
        }
    }
}

impl Config {
    /// That database, and everything else at its default: for tests.
    pub fn new(database: impl Into<SecretString>) -> Self {
        Self {
            database: DatabaseConfig::new(database),
            nats: NatsConfig::default(),
            http: HttpConfig::default(),
            api_keys: vec![],
            gateways: GatewaysConfig::default(),
            accounts: BTreeMap::new(),
            stripe: None,
            log: log(),
            log_format: LogFormat::default(),
            as_set: BTreeMap::new(),
        }
    }
}

/// What the libraries below us say at `info` is of use to few.
pub(crate) const LOG: &str = "info,sqlx=warn,async_nats=warn";

fn log() -> String {
    LOG.to_owned()
}

fn max_connections() -> u32 {
    20
}

fn acquire_timeout_ms() -> u64 {
    3000
}

fn keys_kept_hours() -> u32 {
    168
}

/// A list, or one text separated by commas.
fn separated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SecretString>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "must be a list, or one text separated by commas")]
    enum Keys {
        Text(SecretString),
        List(Vec<SecretString>),
    }
    Ok(match Keys::deserialize(deserializer)? {
        Keys::List(list) => list,
        Keys::Text(text) => {
            let parts = text.expose_secret().split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(SecretString::from).collect()
        }
    })
}
