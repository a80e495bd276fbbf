//! Names of things: ids that cannot be mixed up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A customer of the catalog. Written as a hyphenated UUID, so it is one token of a NATS subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CustomerId(pub Uuid);

impl fmt::Display for CustomerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for CustomerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { expected: "a UUID" })
    }
}

/// What a gateway calls a customer. Taken as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RemoteId(String);

impl RemoteId {
    /// Most characters of one that a customer can be linked to.
    pub const MOST_CHARS: usize = 255;

    /// The id as the gateway writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a customer can be linked to it.
    pub fn is_linkable(&self) -> bool {
        !self.0.is_empty() && self.0.chars().count() <= Self::MOST_CHARS
    }
}

impl From<String> for RemoteId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for RemoteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which gateway: lower-case letters, digits, `-` and `_`, at most 32 of them, such as `stripe`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GatewayName(String);

impl GatewayName {
    /// The name as it stands in paths, tables and events.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for GatewayName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if text.is_empty() || text.len() > 32 || !text.chars().all(allowed) {
            return Err(InvalidId { expected: "1 to 32 lower-case letters, digits, - or _" });
        }
        Ok(Self(text.to_owned()))
    }
}

/// A name that is not of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct InvalidId {
    expected: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_they_are_read() {
        let customer = "0192d3a4-0000-7000-8000-000000000001";
        assert_eq!(customer.parse::<CustomerId>().unwrap().to_string(), customer);
        let remote = RemoteId::from("cus_1".to_owned());
        assert_eq!((remote.as_str(), remote.to_string().as_str()), ("cus_1", "cus_1"));
        let gateway: GatewayName = "stripe-eu_2".parse().unwrap();
        assert_eq!((gateway.as_str(), gateway.to_string().as_str()), ("stripe-eu_2", "stripe-eu_2"));
    }

    #[test]
    fn a_remote_id_has_as_many_characters_as_an_index_takes() {
        let is_linkable = |n: usize| RemoteId::from("\u{10437}".repeat(n)).is_linkable();
        assert_eq!([0, 1, 255, 256].map(is_linkable), [false, true, true, false]);
    }

    #[test]
    fn a_gateways_name_has_1_to_32_lower_case_letters_digits_or_marks() {
        for name in ["a", "7", "-", "_", &"a".repeat(32)] {
            assert!(name.parse::<GatewayName>().is_ok(), "{name}");
        }
        for name in ["", "Stripe", "a b", "a.b", "é", &"a".repeat(33)] {
            assert!(name.parse::<GatewayName>().is_err(), "{name}");
        }
    }
}
