//! What differs between two readings of the settings, by name.

use std::collections::BTreeMap;

use config::{Value, ValueKind};
use secrecy::{ExposeSecret, SecretString};

use super::Config;
use super::accounts::Section;

/// What may be rolled without a restart.
const SECRETS: [&str; 2] = ["secret_key", "webhook_secrets"];

/// The names of settings that are not what they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Keys and webhook secrets of gateways that there were before.
    pub(crate) secrets: Vec<String>,
    /// All others.
    pub(crate) others: Vec<String>,
}

impl Config {
    /// What an earlier reading said otherwise.
    pub(crate) fn changes_since(&self, before: &Self) -> Changes {
        let value = |config: &Self, name: &str| config.as_set.get(name).map(|value| value.expose_secret().to_owned());
        let names = self.as_set.keys().chain(before.as_set.keys().filter(|name| !self.as_set.contains_key(*name)));
        let changed = names.filter(|name| value(self, name) != value(before, name));
        let sections: Vec<&str> = before.stripes().map(|stripe| stripe.section.as_str()).collect();
        let is_secret = |name: &str| {
            name.rsplit_once('.')
                .is_some_and(|(section, setting)| sections.contains(&section) && SECRETS.contains(&setting))
        };
        let (secrets, others) = changed.cloned().partition(|name| is_secret(name));
        Changes { secrets, others }
    }

    /// Notes that the secrets of a gateway are those of another reading now.
    pub(crate) fn take_secrets(&mut self, section: &str, from: &Self) {
        for setting in SECRETS {
            let name = format!("{section}.{setting}");
            match from.as_set.get(&name) {
                Some(value) => drop(self.as_set.insert(name, value.clone())),
                None => drop(self.as_set.remove(&name)),
            }
        }
    }
}

/// Every setting by its whole name.
pub(super) fn as_set(settings: &Value, sections: &[Section]) -> BTreeMap<String, SecretString> {
    let mut names = BTreeMap::new();
    gather("", settings, &mut names);
    for (name, section) in sections {
        gather(&format!("gateways.{name}"), section, &mut names);
    }
    names
}

fn gather(path: &str, value: &Value, names: &mut BTreeMap<String, SecretString>) {
    match &value.kind {
        ValueKind::Table(table) => {
            for (name, value) in table {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                gather(&path, value, names);
            }
        }
        other => drop(names.insert(path.to_owned(), other.to_string().into())),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io::Write;

    use super::super::sources::{NOWHERE, load};
    use super::*;

    fn read(text: &str) -> Config {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        write!(file, "[database]\nurl = \"postgres://localhost/x\"\n{text}").unwrap();
        load(Some(file.path().to_owned()), NOWHERE.as_ref(), std::iter::empty::<(OsString, OsString)>()).unwrap()
    }

    #[test]
    fn rolled_keys_are_told_from_settings_that_need_a_restart() {
        let eu =
            |key: &str, more: &str| read(&format!("[gateways.eu]\nkind = \"stripe\"\nsecret_key = \"{key}\"\n{more}"));
        let mut before = eu("sk_test_1", "");
        assert_eq!(eu("sk_test_1", "").changes_since(&before), Changes::default());
        let after = eu("sk_test_2", "webhook_secrets = [\"whsec_1\"]\ntimeout_ms = 5");
        let changes = after.changes_since(&before);
        assert_eq!(changes.secrets, ["gateways.eu.secret_key", "gateways.eu.webhook_secrets"]);
        assert_eq!(changes.others, ["gateways.eu.timeout_ms"]);

        before.take_secrets("gateways.eu", &after);
        let changes = after.changes_since(&before);
        assert_eq!((changes.secrets.len(), changes.others.len()), (0, 1));
    }

    #[test]
    fn a_gateway_that_is_new_needs_a_restart() {
        let changes = read("[stripe]\nsecret_key = \"sk_test_1\"").changes_since(&read(""));
        assert_eq!(changes, Changes { secrets: vec![], others: vec!["stripe.secret_key".to_owned()] });
    }
}
