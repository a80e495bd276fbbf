//! Naming the place where a setting was set, when it is wrong.

use std::collections::HashMap;

use super::ConfigError;
use super::sources::COMMON_KEY;

/// What the variables begin with.
pub(super) const PREFIX: &str = "TANDEM_";

/// Where a setting was set.
pub(super) struct Places<'a> {
    pub(super) environment: &'a HashMap<String, String>,
    pub(super) file: Option<&'a str>,
    /// The key of `[stripe]` is `STRIPE_SECRET_KEY`.
    pub(super) common_key: bool,
}

impl Places<'_> {
    /// Whether Stripe's own name for its key is set.
    pub(super) fn has_common_key(&self) -> bool {
        self.environment.get(COMMON_KEY).is_some_and(|key| !key.is_empty())
    }

    /// What is wrong with what stands at this path.
    pub(super) fn wrong(&self, path: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::Setting { setting: self.locate(path, self.file), reason: reason.into() }
    }

    /// What must stand at this path, and doesn't: anywhere.
    pub(super) fn missing(&self, path: &str) -> ConfigError {
        ConfigError::Setting { setting: self.locate(path, None), reason: "must be set".to_owned() }
    }

    /// Of an error that names a variable: the place where it was set.
    pub(super) fn name(&self, error: ConfigError) -> ConfigError {
        match error {
            ConfigError::Setting { setting, reason } if setting.contains("__") => {
                let path = setting.trim_start_matches(PREFIX).to_lowercase().replace("__", ".");
                self.wrong(&path, reason)
            }
            other => other,
        }
    }

    /// The variable that sets it, or its place in the file.
    fn locate(&self, path: &str, file: Option<&str>) -> String {
        let variable = format!("{PREFIX}{}", path.to_uppercase().replace('.', "__"));
        if self.common_key && path == "stripe.secret_key" {
            return COMMON_KEY.to_owned();
        }
        // Of a section only its name is known: any setting in it tells.
        let section = format!("{variable}__");
        let variable = self.environment.keys().find(|name| name.starts_with(&section)).cloned().unwrap_or(variable);
        match file {
            Some(file) if !self.environment.contains_key(&variable) => format!("{path} in {file}"),
            Some(_) | None => variable,
        }
    }

    /// What a library says is wrong at this path, in our words.
    pub(super) fn explain(&self, path: &str, message: &str) -> ConfigError {
        // Ours are quoted by the one, the crate's by the other.
        let quoted = message.split(['`', '"']).nth(1).unwrap_or_default();
        // The crate's with some of the path before it.
        let quoted = if matches!(path, "" | ".") { quoted } else { quoted.rsplit('.').next().unwrap_or_default() };
        let names_field = message.starts_with("unknown field") || message.starts_with("missing ");
        let within = if path == "." { "" } else { path };
        let path = match (names_field && !quoted.is_empty(), within.rsplit('.').next() == Some(quoted)) {
            (true, false) if within.is_empty() => quoted.to_owned(),
            (true, false) => format!("{within}.{quoted}"),
            _ => within.to_owned(),
        };
        let missing = message.starts_with("missing ");
        let setting = self.locate(&path, self.file.filter(|_| !missing));
        let reason = if message.starts_with("unknown field") {
            let known = message.split_once(", expected ").map(|(_, known)| format!("; there are {known}"));
            format!("there is no such setting{}", known.unwrap_or_default())
        } else if missing {
            "must be set".to_owned()
        } else {
            // The crate adds where it comes from, which the name tells already.
            message.split(" for key ").next().unwrap_or(message).to_owned()
        };
        ConfigError::Setting { setting, reason }
    }
}
