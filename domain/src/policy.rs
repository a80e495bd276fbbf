//! Who wins where both sides changed a field, field by field.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Field, InvalidField};

/// Who wins where both sides changed a field to different values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The later edit.
    #[default]
    Latest,
    /// The catalog's.
    Catalog,
    /// The gateway's.
    Gateway,
    /// Nobody, until a person decides: each side keeps its value, and the other fields go on.
    Ask,
}

/// The policies of one gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Of every field that none is set for.
    pub usual: Policy,
    /// Of these fields.
    pub of: BTreeMap<FieldSet, Policy>,
}

/// The fields that a policy is set for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum FieldSet {
    /// One.
    One(Field),
    /// Every key of the metadata that none is set for, written `metadata`.
    Metadata,
}

impl Policies {
    /// The same for every field.
    pub fn all(usual: Policy) -> Self {
        Self { usual, of: BTreeMap::new() }
    }

    /// Of that field: its own, else that of all metadata, else the usual one.
    pub fn of(&self, field: &Field) -> Policy {
        let own = self.of.get(&FieldSet::One(field.clone()));
        let shared = || matches!(field, Field::Metadata(_)).then(|| self.of.get(&FieldSet::Metadata)).flatten();
        own.or_else(shared).copied().unwrap_or(self.usual)
    }
}

impl fmt::Display for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(field) => field.fmt(f),
            Self::Metadata => f.write_str("metadata"),
        }
    }
}

impl From<FieldSet> for String {
    fn from(set: FieldSet) -> Self {
        set.to_string()
    }
}

impl FromStr for FieldSet {
    type Err = InvalidField;

    fn from_str(name: &str) -> Result<Self, InvalidField> {
        if name == "metadata" { Ok(Self::Metadata) } else { name.parse().map(Self::One) }
    }
}

impl TryFrom<String> for FieldSet {
    type Error = InvalidField;

    fn try_from(name: String) -> Result<Self, InvalidField> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_policy_holds() {
        let of = [("metadata", Policy::Catalog), ("metadata.plan", Policy::Ask), ("email", Policy::Gateway)];
        let of = of.into_iter().map(|(name, policy)| (name.parse().unwrap(), policy)).collect();
        let policies = Policies { usual: Policy::Latest, of };
        assert_eq!(policies.of(&Field::Email), Policy::Gateway);
        assert_eq!(policies.of(&Field::Metadata("plan".to_owned())), Policy::Ask);
        assert_eq!(policies.of(&Field::Metadata("region".to_owned())), Policy::Catalog);
        assert_eq!(policies.of(&Field::Name), Policy::Latest);
        assert!("emial".parse::<FieldSet>().is_err());
    }

    #[test]
    fn fields_are_named_as_they_are_read() {
        for name in ["metadata", "metadata.plan", "email"] {
            assert_eq!(String::from(name.parse::<FieldSet>().unwrap()), name);
        }
    }
}
