//! Settings that are a table or a list in the file, and one text in the environment.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{Error, IntoDeserializer};
use serde::{Deserialize, Deserializer};
use tandem_domain::{FieldSet, Policy};

/// One of several words. What serde says of another names them; what the settings' crate says does not.
pub(super) fn word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(deserializer)?.into_deserializer())
}

/// A table, or a text such as `email=ask,metadata=catalog`.
pub(super) fn policies<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<FieldSet, Policy>, D::Error> {
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
pub(super) fn secrets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SecretString>, D::Error> {
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
