//! Gateways in sections of their own: `[gateways.eu]` beside the settings that all gateways share.

use std::collections::{BTreeMap, HashMap};

use config::{Value, ValueKind};
use secrecy::ExposeSecret;
use tandem_domain::GatewayName;
use tandem_gateways::GatewaysConfig;
use tandem_gateways::stripe::{self, StripeConfig};

use super::places::Places;
use super::{Config, ConfigError};

/// A gateway's section, as it was set.
pub(super) type Section = (String, Value);

/// What the events of the API name as their origin, where a gateway's events name the gateway.
const ORIGIN_OF_THE_API: &str = "api";

/// Takes the gateways' sections out of the settings. What is no section there is a setting of all gateways.
pub(super) fn take(settings: &mut Value, places: &Places<'_>) -> Result<Vec<Section>, ConfigError> {
    let ValueKind::Table(settings) = &mut settings.kind else { return Ok(vec![]) };
    let short = short_way(settings.get("stripe"), places);
    let Some(ValueKind::Table(shared)) = settings.get_mut("gateways").map(|value| &mut value.kind) else {
        return Ok(vec![]);
    };
    let mut sections: Vec<Section> = shared.extract_if(|_, value| matches!(value.kind, ValueKind::Table(_))).collect();
    sections.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, section) in &mut sections {
        let path = format!("gateways.{name}");
        if GatewaysConfig::NAMES.contains(&name.as_str()) {
            return Err(places.wrong(&path, "is a setting of all gateways, so no gateway can be called that"));
        }
        if name == ORIGIN_OF_THE_API {
            return Err(places.wrong(&path, "is what events of the API are marked with: no gateway can be called that"));
        }
        if let Err(invalid) = name.parse::<GatewayName>() {
            return Err(places.wrong(&path, format!("is no name for a gateway: {invalid}")));
        }
        if short.as_ref().is_some_and(|short| short == name) {
            let reason = "is the same as [stripe], TANDEM_STRIPE__… or STRIPE_SECRET_KEY, which is set, too: use one";
            return Err(places.wrong(&path, reason));
        }
        take_kind(&path, section, places)?;
    }
    Ok(sections)
}

/// The name of the account that is set the short way, if one is.
fn short_way(stripe: Option<&Value>, places: &Places<'_>) -> Option<String> {
    let name = match stripe.map(|stripe| &stripe.kind) {
        Some(ValueKind::Table(stripe)) => stripe.get("name").map(ToString::to_string),
        Some(_) | None => None,
    };
    (stripe.is_some() || places.has_common_key()).then(|| name.unwrap_or_else(|| "stripe".to_owned()))
}

fn take_kind(path: &str, section: &mut Value, places: &Places<'_>) -> Result<(), ConfigError> {
    let ValueKind::Table(section) = &mut section.kind else { return Ok(()) };
    match section.remove("kind").map(|kind| kind.to_string()).as_deref() {
        Some("stripe") => {}
        Some(_) => {
            return Err(places.wrong(&format!("{path}.kind"), "there is no such kind of gateway; there is stripe"));
        }
        None => return Err(places.missing(&format!("{path}.kind"))),
    }
    match section.contains_key("name") {
        true => Err(places.wrong(&format!("{path}.name"), "there is no such setting: its section names a gateway")),
        false => Ok(()),
    }
}

/// Reads the sections.
pub(super) fn read(sections: Vec<Section>, places: &Places<'_>) -> Result<BTreeMap<String, StripeConfig>, ConfigError> {
    let read = |(name, section): Section| {
        let path = format!("gateways.{name}");
        let config: StripeConfig = serde_path_to_error::deserialize(section).map_err(|error| {
            let within = match error.path().to_string().as_str() {
                "." => path.clone(),
                within => format!("{path}.{within}"),
            };
            places.explain(&within, &error.inner().to_string())
        })?;
        Ok((name.clone(), StripeConfig { name, section: path, ..config }))
    };
    sections.into_iter().map(read).collect()
}

/// Whether the accounts' settings are right, each and together.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let mut known = HashMap::new();
    for stripe in config.stripes() {
        check_one(stripe)?;
        let base = stripe.api_base.trim_end_matches('/');
        let key = stripe.secret_key.expose_secret();
        // Whichever platform's key calls for it, a connected account is one; but each of its modes has its own customers.
        let whose = match stripe.account.as_deref() {
            Some(account) => (account, key.contains("_live_")),
            None => (key, false),
        };
        if let Some(other) = known.insert((whose, base), &stripe.name) {
            let reason = format!("is of the same account as the gateway {other}: they would fight");
            let named = if stripe.account.is_some() { "ACCOUNT" } else { "SECRET_KEY" };
            return Err(wrong(stripe, named, reason));
        }
    }
    Ok(())
}

/// Whether one account's settings are right.
pub(super) fn check_one(stripe: &StripeConfig) -> Result<(), ConfigError> {
    stripe.check().map_err(|error| match error {
        stripe::ConfigError::Setting { setting, reason } => ConfigError::Setting { setting, reason },
        stripe::ConfigError::Http(_) => wrong(stripe, "API_BASE", error.to_string()),
    })
}

/// A gateway's setting that will not do, by its name in the environment.
pub(crate) fn wrong(stripe: &StripeConfig, name: &str, reason: String) -> ConfigError {
    let section = stripe.section.to_uppercase().replace('.', "__");
    ConfigError::Setting { setting: format!("TANDEM_{section}__{name}"), reason }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::sources::{NOWHERE, load};
    use super::*;

    const DATABASE: (&str, &str) = ("TANDEM_DATABASE__URL", "postgres://localhost/tandem");
    const EU: [(&str, &str); 2] =
        [("TANDEM_GATEWAYS__EU__KIND", "stripe"), ("TANDEM_GATEWAYS__EU__SECRET_KEY", "sk_test_eu")];
    const US: [(&str, &str); 2] =
        [("TANDEM_GATEWAYS__US__KIND", "stripe"), ("TANDEM_GATEWAYS__US__SECRET_KEY", "sk_test_us")];

    fn from(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = [DATABASE].into_iter().chain(environment.iter().copied());
        load(None, NOWHERE.as_ref(), environment.map(|(name, value)| (name.into(), value.into())))
    }

    fn complaint(environment: &[&[(&str, &str)]]) -> String {
        from(&environment.concat()).unwrap_err().to_string()
    }

    #[test]
    fn any_number_of_accounts_stands_beside_the_short_way_for_one() {
        let more = [("STRIPE_SECRET_KEY", "sk_test_1"), ("TANDEM_GATEWAYS__WORKERS", "3")];
        let config = from(&[&EU[..], &US, &more].concat()).unwrap();
        let accounts: Vec<_> = config.stripes().map(|one| (one.name.as_str(), one.section.as_str())).collect();
        assert_eq!(accounts, [("stripe", "stripe"), ("eu", "gateways.eu"), ("us", "gateways.us")]);
        assert_eq!(config.accounts["us"].secret_key.expose_secret(), "sk_test_us");
        assert_eq!(config.gateways.workers, 3);
    }

    #[test]
    fn a_gateways_wrong_setting_is_named_as_it_was_set() {
        let key = "TANDEM_GATEWAYS__EU__SECRET_KEY";
        for (settings, named) in [
            (&[EU[0]][..], key),
            (&[EU[1]], "TANDEM_GATEWAYS__EU__KIND"),
            (&[("TANDEM_GATEWAYS__EU__KIND", "salesforce")], "TANDEM_GATEWAYS__EU__KIND"),
            (&[EU[0], (key, "pk_test_1")], key),
            (&[EU[0], EU[1], ("TANDEM_GATEWAYS__EU__POLICI", "latest")], "TANDEM_GATEWAYS__EU__POLICI"),
            (&[EU[0], EU[1], ("TANDEM_GATEWAYS__EU__POLICY", "x")], "TANDEM_GATEWAYS__EU__POLICY"),
            (&[EU[0], EU[1], ("TANDEM_GATEWAYS__EU__TIMEOUT_MS", "0")], "TANDEM_GATEWAYS__EU__TIMEOUT_MS"),
            (&[EU[0], EU[1], ("TANDEM_GATEWAYS__EU__NAME", "x")], "TANDEM_GATEWAYS__EU__NAME"),
            (&[EU[0], EU[1], ("TANDEM_GATEWAYS__EU__ACCOUNT", "eu")], "TANDEM_GATEWAYS__EU__ACCOUNT"),
            (&[EU[0], EU[1], ("TANDEM_GATEWAYS__EU__FILTER__FIELD", "region")], "TANDEM_GATEWAYS__EU__FILTER__FIELD"),
            (&[EU[0], EU[1], ("TANDEM_GATEWAYS__EU__FILTER__FIELD", "email")], "TANDEM_GATEWAYS__EU__FILTER__FIELD"),
            (&[EU[0], EU[1], ("TANDEM_GATEWAYS__EU__FILTER__EQUALS", "eu")], "TANDEM_GATEWAYS__EU__FILTER__FIELD"),
            (&[("TANDEM_GATEWAYS__WORKERS__KIND", "stripe")], "TANDEM_GATEWAYS__WORKERS__KIND"),
            (&[("TANDEM_GATEWAYS__API__KIND", "stripe")], "TANDEM_GATEWAYS__API__KIND"),
            (&[("TANDEM_GATEWAYS__E+U__KIND", "stripe")], "TANDEM_GATEWAYS__E+U__KIND"),
            (&[("STRIPE_SECRET_KEY", "pk_test_1")], "STRIPE_SECRET_KEY"),
            (&[("TANDEM_GATEWAYS__WORKRS", "3")], "TANDEM_GATEWAYS__WORKRS"),
        ] {
            let complaint = complaint(&[settings]);
            assert!(complaint.starts_with(&format!("{named}: ")), "{named}: {complaint}");
            assert!(!complaint.contains("sk_test"), "{complaint}");
        }
    }

    #[test]
    fn a_filter_may_be_set_by_the_environment() {
        let filter = [
            ("TANDEM_GATEWAYS__EU__FILTER__FIELD", "metadata.region"),
            ("TANDEM_GATEWAYS__EU__FILTER__PRESENT", "true"),
        ];
        let config = from(&[&EU[..], &filter].concat()).unwrap();
        let filter = config.accounts["eu"].filter.as_ref().unwrap();
        assert_eq!((filter.field.to_string().as_str(), filter.present), ("metadata.region", Some(true)));
    }

    #[test]
    fn in_a_file_it_is_named_by_its_section() {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        let path = file.path().to_owned();
        let complaint = |text: &str| {
            write!(file.reopen().unwrap(), "[database]\nurl = \"postgres://x\"\n[gateways.eu]\n{text}").unwrap();
            load(Some(path.clone()), NOWHERE.as_ref(), std::iter::empty()).unwrap_err().to_string()
        };
        let key = "kind = \"stripe\"\nsecret_key = \"sk_test_1\"\n";
        let wrong = complaint(&format!("{key}timeout_ms = 0\n"));
        assert!(wrong.starts_with("gateways.eu.timeout_ms in "), "{wrong}");
        let unknown = complaint(&format!("{key}timeout = 100\n"));
        assert!(unknown.starts_with("gateways.eu.timeout in ") && unknown.contains("timeout_ms"), "{unknown}");
    }

    #[test]
    fn the_short_way_and_a_section_of_the_same_name_exclude_each_other() {
        let stripe =
            [("TANDEM_GATEWAYS__STRIPE__KIND", "stripe"), ("TANDEM_GATEWAYS__STRIPE__SECRET_KEY", "sk_test_1")];
        assert_eq!(from(&stripe).unwrap().stripes().count(), 1);
        for short in ["STRIPE_SECRET_KEY", "TANDEM_STRIPE__SECRET_KEY"] {
            let complaint = complaint(&[&stripe, &[(short, "sk_test_2")]]);
            assert!(
                complaint.starts_with("TANDEM_GATEWAYS__STRIPE__") && complaint.contains("[stripe]"),
                "{complaint}"
            );
        }
        let named = [("TANDEM_STRIPE__SECRET_KEY", "sk_test_2"), ("TANDEM_STRIPE__NAME", "eu")];
        assert!(complaint(&[&EU, &named]).contains("[stripe]"));
    }

    #[test]
    fn two_gateways_of_one_account_would_fight() {
        let same = ("TANDEM_GATEWAYS__US__SECRET_KEY", "sk_test_eu");
        let complaint = complaint(&[&EU, &[US[0], same]]);
        let told = "is of the same account as the gateway eu: they would fight";
        assert_eq!(complaint, format!("TANDEM_GATEWAYS__US__SECRET_KEY: {told}"));
        let account = |name, id| [(name, id)];
        let (eu, us) = ("TANDEM_GATEWAYS__EU__ACCOUNT", "TANDEM_GATEWAYS__US__ACCOUNT");
        assert_eq!(from(&[&EU[..], &[US[0], same], &account(us, "acct_1")].concat()).unwrap().stripes().count(), 2);
        // Two platforms, or two keys of one.
        let both = [account(eu, "acct_1"), account(us, "acct_1")].concat();
        assert_eq!(self::complaint(&[&EU, &US, &both]), format!("TANDEM_GATEWAYS__US__ACCOUNT: {told}"));
        let live = [US[0], ("TANDEM_GATEWAYS__US__SECRET_KEY", "sk_live_us")];
        assert_eq!(from(&[&EU[..], &live, &both].concat()).unwrap().stripes().count(), 2);
    }
}
