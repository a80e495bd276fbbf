//! Where settings come from: a file, then the environment.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat, Map, Value, ValueKind};

use super::places::{PREFIX, Places};
use super::{Config, ConfigError, accounts, changes};

/// Names that begin like a setting of the service, and are meant for others.
const FOREIGN: [&str; 5] = ["TANDEM_CONFIG", "TANDEM_URL", "TANDEM_NATS_BIN", "TANDEM_PG_BIN", "TANDEM_KEY"];
const FOREIGN_PREFIXES: [&str; 4] = ["TANDEM_TEST_", "TANDEM_LOCAL_", "TANDEM_BOOTSTRAP_", "TANDEM_BENCH_"];

/// Stripe's own names for its key and for what its webhooks are signed with.
pub(super) const COMMON_KEY: &str = "STRIPE_SECRET_KEY";
const COMMON_WEBHOOK_SECRET: &str = "STRIPE_WEBHOOK_SECRET";

/// Where the local Stripe of `make run` is, as `.tandem/env` says; and its key. Another key never goes there unasked.
const LOCAL_STRIPE: &str = "TANDEM_LOCAL_STRIPE";
const LOCAL_KEY: &str = "sk_test_local";

/// Stands in for the key of a Stripe that is off, so that the other settings are read nevertheless.
const NO_KEY: &str = "sk_test_none";

/// No file: what tests take for the usual one, since there may be one where they run.
#[cfg(test)]
pub(super) const NOWHERE: &str = "/nowhere/tandem.toml";

/// `usual` is the file that is read if it exists and no other is named.
pub(super) fn load(
    file: Option<PathBuf>,
    usual: &Path,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Config, ConfigError> {
    let environment = readable(environment)?;
    let named = file.or_else(|| environment.get("TANDEM_CONFIG").map(PathBuf::from));
    let file = named.or_else(|| usual.exists().then(|| usual.to_owned()));

    let mut builder = config::Config::builder();
    let mut file_name = None;
    if let Some(path) = file {
        let text = fs::read_to_string(&path).map_err(|source| ConfigError::File { path: path.clone(), source })?;
        let name = path.display().to_string();
        toml(&name, &text)?;
        builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        file_name = Some(name);
    }
    let settings: HashMap<String, String> = environment
        .iter()
        .filter(|(name, _)| is_setting(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    builder = builder.add_source(
        Environment::with_prefix("TANDEM")
            .prefix_separator("_")
            .separator("__")
            .ignore_empty(true)
            .source(Some(settings)),
    );
    let mut places = Places { environment: &environment, file: file_name.as_deref(), common_key: false };
    let merged = builder.build().map_err(|error| places.explain("", &error.to_string()))?;
    let mut settings = merged.cache;
    let named = accounts::take(&mut settings, &places)?;
    let key = complete(&mut settings, &environment);
    places.common_key = key == Key::Common;
    let as_set = changes::as_set(&settings, &named);
    if let (Key::None, Some(stripe)) = (key, section(&mut settings, "stripe")) {
        stripe.insert("secret_key".to_owned(), Value::new(None, NO_KEY));
    }
    let mut config: Config = serde_path_to_error::deserialize(settings)
        .map_err(|error| places.explain(&error.path().to_string(), &error.inner().to_string()))?;
    if key == Key::None
        && let Some(off) = config.stripe.take()
    {
        accounts::check_one(&off).map_err(|error| places.name(error))?;
    }
    let config = Config { accounts: accounts::read(named, &places)?, as_set, ..config };
    config.check().map_err(|error| places.name(error))?;
    Ok(config)
}

/// Where the key of `[stripe]` comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    /// Set as any setting is.
    Own,
    /// By Stripe's own name.
    Common,
    /// Nowhere: the gateway is off, whatever else is set.
    None,
}

/// Stripe's own names count, too, where ours are not set.
fn complete(settings: &mut Value, environment: &HashMap<String, String>) -> Key {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(String::as_str);
    // What it lacks is told by its whole name.
    section(settings, "database");
    let Some(stripe) = section(settings, "stripe") else { return Key::Own };
    let mut key = if stripe.contains_key("secret_key") { Key::Own } else { Key::None };
    if let (Key::None, Some(common)) = (key, set(COMMON_KEY)) {
        stripe.insert("secret_key".to_owned(), Value::new(None, common));
        key = Key::Common;
    }
    if let (false, Some(secret)) = (stripe.contains_key("webhook_secrets"), set(COMMON_WEBHOOK_SECRET)) {
        stripe.insert("webhook_secrets".to_owned(), Value::new(None, secret));
    }
    let is_local = stripe.get("secret_key").is_some_and(|key| key.to_string() == LOCAL_KEY);
    if let (true, false, Some(url)) = (is_local, stripe.contains_key("api_base"), set(LOCAL_STRIPE)) {
        stripe.insert("api_base".to_owned(), Value::new(None, url));
    }
    key
}

/// A section, made if it is not there; `None` if something else stands there.
fn section<'a>(settings: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    let ValueKind::Table(settings) = &mut settings.kind else { return None };
    let empty = || Value::new(None, ValueKind::Table(Map::new()));
    match &mut settings.entry(name.to_owned()).or_insert_with(empty).kind {
        ValueKind::Table(section) => Some(section),
        _ => None,
    }
}

fn is_setting(name: &str) -> bool {
    name.starts_with(PREFIX)
        && !FOREIGN.contains(&name)
        && !FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// What of the environment concerns us; a value that is no text is told.
fn readable(environment: impl Iterator<Item = (OsString, OsString)>) -> Result<HashMap<String, String>, ConfigError> {
    environment
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX) || [COMMON_KEY, COMMON_WEBHOOK_SECRET].contains(&name.as_str()))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(ConfigError::Setting { setting: name, reason: "is no UTF-8 text".to_owned() }),
        })
        .collect()
}

/// TOML by itself first: an error in it has a line and a column.
fn toml(name: &str, text: &str) -> Result<(), ConfigError> {
    config::Config::builder()
        .add_source(File::from_str(text, FileFormat::Toml))
        .build()
        .map(|_| ())
        .map_err(|error| ConfigError::Toml { path: name.to_owned(), reason: first_line(&error.to_string()) })
}

/// The lines that follow quote the file, perhaps its secrets.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use secrecy::ExposeSecret;

    use super::*;

    fn from(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        load(None, Path::new(NOWHERE), environment.iter().map(|(name, value)| (name.into(), value.into())))
    }

    const DATABASE: (&str, &str) = ("TANDEM_DATABASE__URL", "postgres://localhost/tandem");

    fn complaint(environment: &[(&str, &str)]) -> String {
        let environment: Vec<_> = [DATABASE].into_iter().chain(environment.iter().copied()).collect();
        from(&environment).unwrap_err().to_string()
    }

    #[test]
    fn only_the_database_must_be_given() {
        let config = from(&[DATABASE]).unwrap();
        assert_eq!(config.http.bind.to_string(), "127.0.0.1:8080");
        assert_eq!((config.nats.stream.as_str(), config.nats.root.as_str()), ("CATALOG", "catalog"));
        assert!(config.stripe.is_none() && config.api_keys.is_empty());
        assert_eq!(from(&[]).unwrap_err().to_string(), "TANDEM_DATABASE__URL: must be set");
    }

    #[test]
    fn the_environment_sets_everything() {
        let config = from(&[
            DATABASE,
            ("TANDEM_HTTP__BIND", "127.0.0.1:0"),
            ("TANDEM_DATABASE__MAX_CONNECTIONS", "17"),
            ("TANDEM_API_KEYS", "0123456789abcdef, fedcba9876543210"),
            ("TANDEM_LOG_FORMAT", "json"),
            ("TANDEM_STRIPE__SECRET_KEY", "sk_test_1"),
            ("TANDEM_STRIPE__WEBHOOK_SECRETS", "whsec_a,whsec_b"),
            ("TANDEM_STRIPE__TIMEOUT_MS", "500"),
            ("TANDEM_GATEWAYS__WORKERS", "3"),
            ("TANDEM_URL", "http://127.0.0.1:8080"),
        ])
        .unwrap();
        assert_eq!(config.database.max_connections, 17);
        assert_eq!(config.api_keys.iter().map(|key| key.expose_secret().len()).collect::<Vec<_>>(), [16, 16]);
        assert_eq!(config.gateways.workers, 3);
        let stripe = config.stripe.unwrap();
        assert_eq!((stripe.webhook_secrets.len(), stripe.timeout_ms), (2, 500));
    }

    #[test]
    fn a_key_that_no_client_can_send_is_refused_wherever_it_is_set() {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        for (key, good) in [
            ("0123456789 abcdef", true),
            (" 0123456789abcdef", false),
            ("0123456789abcdef ", false),
            ("0123456789abcdef\\n", false),
            ("0123456789\\u0000abcdef", false),
            ("0123456789abcdeé", false),
        ] {
            let text = format!("api_keys = [\"{key}\"]\n[database]\nurl = \"postgres://x\"\n");
            fs::write(file.path(), text).unwrap();
            let read = load(Some(file.path().to_owned()), Path::new(NOWHERE), std::iter::empty());
            assert_eq!(read.is_ok(), good, "{key:?}");
            if let Err(error) = read {
                let complaint = error.to_string();
                assert!(complaint.contains("TANDEM_API_KEYS") || complaint.contains("api_keys"), "{complaint}");
                assert!(!complaint.contains("0123456789"), "{complaint}");
            }
        }
    }

    #[test]
    fn digits_in_a_secret_stay_digits() {
        let config = from(&[DATABASE, ("TANDEM_API_KEYS", "0000000000000000")]).unwrap();
        assert_eq!(config.api_keys[0].expose_secret(), "0000000000000000");
    }

    #[test]
    fn stripe_is_off_without_a_key_and_takes_stripes_own_name_for_it() {
        assert!(from(&[DATABASE, ("TANDEM_STRIPE__API_BASE", "http://127.0.0.1:1")]).unwrap().stripe.is_none());
        let common = from(&[DATABASE, ("STRIPE_SECRET_KEY", "sk_test_common")]).unwrap();
        assert_eq!(common.stripe.unwrap().secret_key.expose_secret(), "sk_test_common");
        let ours =
            from(&[DATABASE, ("STRIPE_SECRET_KEY", "sk_test_common"), ("TANDEM_STRIPE__SECRET_KEY", "sk_test_ours")]);
        assert_eq!(ours.unwrap().stripe.unwrap().secret_key.expose_secret(), "sk_test_ours");
    }

    #[test]
    fn the_local_stripe_is_for_its_own_key_alone() {
        let local = ("TANDEM_LOCAL_STRIPE", "http://127.0.0.1:12111");
        let base = |more: &[(&str, &str)]| from(&[&[DATABASE, local], more].concat()).unwrap().stripe.unwrap().api_base;
        assert_eq!(base(&[("STRIPE_SECRET_KEY", "sk_test_local")]), local.1);
        assert_eq!(base(&[("STRIPE_SECRET_KEY", "rk_test_1")]), "https://api.stripe.com/");
        let set = ("TANDEM_STRIPE__API_BASE", "http://127.0.0.1:1");
        assert_eq!(base(&[("STRIPE_SECRET_KEY", "sk_test_local"), set]), set.1);
    }

    #[test]
    fn stripes_own_name_for_a_webhook_secret_counts_as_that_for_the_key_does() {
        let secrets = |more: &[(&str, &str)]| {
            let own = [DATABASE, ("TANDEM_STRIPE__SECRET_KEY", "sk_test_1"), ("STRIPE_WEBHOOK_SECRET", "whsec_own")];
            let config = from(&[&own, more].concat()).unwrap();
            let secrets = config.stripe.unwrap().webhook_secrets;
            secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(secrets(&[]), ["whsec_own"]);
        assert_eq!(secrets(&[("TANDEM_STRIPE__WEBHOOK_SECRETS", "whsec_a,whsec_b")]), ["whsec_a", "whsec_b"]);
        assert!(from(&[DATABASE, ("STRIPE_WEBHOOK_SECRET", "whsec_own")]).unwrap().stripe.is_none());
    }

    #[test]
    fn what_is_set_of_stripe_is_read_though_it_is_off() {
        for (setting, value) in [
            ("TANDEM_STRIPE__POLICI", "latest"),
            ("TANDEM_STRIPE__POLICY", "newest"),
            ("TANDEM_STRIPE__TIMEOUT_MS", "0"),
        ] {
            let complaint = complaint(&[(setting, value)]);
            assert!(complaint.starts_with(&format!("{setting}: ")), "{setting}: {complaint}");
        }
        let eu = [("TANDEM_GATEWAYS__EU__KIND", "stripe"), ("TANDEM_GATEWAYS__EU__SECRET_KEY", "sk_test_eu")];
        let same = [("TANDEM_GATEWAYS__EU__ACCOUNT", "acct_1"), ("TANDEM_STRIPE__ACCOUNT", "acct_1")];
        let config = from(&[&[DATABASE], &eu[..], &same].concat()).unwrap();
        assert_eq!(config.stripes().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["eu"], "nobody to fight with");
    }

    #[test]
    fn a_wrong_setting_is_named_as_it_was_set() {
        for (setting, value) in [
            ("TANDEM_HTTP__BNID", "127.0.0.1:1"),
            ("TANDEM_HTTP__BIND", "localhost"),
            ("TANDEM_HTPP__BIND", "127.0.0.1:1"),
            ("TANDEM_DATABASE__MAX_CONNECTIONS", "many"),
            ("TANDEM_DATABASE__MAX_CONNECTIONS", "9"),
            ("TANDEM_LOG_FORMAT", "xml"),
            ("TANDEM_NATS__STREAM", "a.b"),
            ("TANDEM_API_KEYS", "short"),
            ("TANDEM_API_KEYS", "schlüssel-schlüssel"),
            ("TANDEM_API_KEYS", "0123456789abcdef,0123456789\tabcdef"),
            ("TANDEM_API_KEYS", "0123456789abcdef\u{7f}"),
            ("TANDEM_HTTP__MAX_CONNECTIONS", "0"),
            ("TANDEM_HTTP__IDLE_TIMEOUT_MS", "0"),
            ("TANDEM_HTTP__BODY_TIMEOUT_MS", "0"),
            ("TANDEM_HTTP__SEND_TIMEOUT_MS", "0"),
            ("TANDEM_GATEWAYS__WORKERS", "-1"),
            ("TANDEM_GATEWAYS__DONE_KEPT_DAYS", "30"),
            ("TANDEM_DATABASE__KEYS_KEPT_HOURS", "23"),
        ] {
            let complaint = complaint(&[(setting, value)]);
            assert!(complaint.starts_with(&format!("{setting}: ")), "{setting}: {complaint}");
            assert!(setting != "TANDEM_API_KEYS" || !complaint.contains(value), "{complaint}");
        }
        let stripe = complaint(&[("TANDEM_STRIPE__SECRET_KEY", "sk_test_1"), ("TANDEM_STRIPE__POLICIES", "latest")]);
        assert!(stripe.starts_with("TANDEM_STRIPE__POLICIES: "), "{stripe}");
    }

    #[test]
    fn an_open_api_for_everybody_needs_keys() {
        let complaint = complaint(&[("TANDEM_HTTP__BIND", "0.0.0.0:8080")]);
        assert!(complaint.starts_with("TANDEM_API_KEYS: must be set"), "{complaint}");
        from(&[DATABASE, ("TANDEM_HTTP__BIND", "0.0.0.0:8080"), ("TANDEM_API_KEYS", "0123456789abcdef")]).unwrap();
    }

    #[test]
    fn a_file_is_read_and_the_environment_wins() {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        write!(file, "[database]\nurl = \"postgres://file\"\nmax_connections = 11\n[nats]\nstream = \"FILE\"\n")
            .unwrap();
        let (named, usual) = (Some(file.path().to_owned()), Path::new(NOWHERE));
        let database = || [DATABASE].map(|(name, value)| (name.into(), value.into())).into_iter();
        let config = load(named.clone(), usual, database()).unwrap();
        assert_eq!(config.database.url.expose_secret(), DATABASE.1);
        assert_eq!((config.database.max_connections, config.nats.stream.as_str()), (11, "FILE"));
        assert_eq!(load(None, file.path(), database()).unwrap().nats.stream, "FILE");

        writeln!(file, "sream = 1").unwrap();
        let complaint = load(named.clone(), usual, std::iter::empty()).unwrap_err().to_string();
        assert!(complaint.starts_with(&format!("nats.sream in {}", file.path().display())), "{complaint}");

        writeln!(file, "password = \"secret").unwrap();
        let complaint = load(named, usual, std::iter::empty()).unwrap_err().to_string();
        assert!(complaint.contains("is not TOML") && !complaint.contains("secret"), "{complaint}");
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let nowhere = Path::new(NOWHERE);
        let complaint = load(Some(nowhere.to_owned()), nowhere, std::iter::empty()).unwrap_err().to_string();
        assert!(complaint.contains("/nowhere/tandem.toml"), "{complaint}");
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let config =
            from(&[("TANDEM_DATABASE__URL", "postgres://u:hidden@h/d"), ("TANDEM_NATS__URL", "nats://u:hidden@h")]);
        assert!(!format!("{:?}", config.unwrap()).contains("hidden"));
    }
}
