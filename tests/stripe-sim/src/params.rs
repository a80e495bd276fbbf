//! A call's parameters, form-encoded with brackets: `address[line1]=…&expand[]=…`.

use std::collections::BTreeMap;

use crate::error::StripeError;

/// Parameters in the order in which they came, those of the query first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Vec<Param>);

/// `key` is as sent, `root` what stands before the brackets, `path` what stands in them.
#[derive(Debug, Clone)]
pub(crate) struct Param {
    pub(crate) key: String,
    pub(crate) root: String,
    pub(crate) path: Vec<String>,
    pub(crate) value: String,
}

impl Params {
    pub(crate) fn parse(query: &str, body: &[u8]) -> Result<Self, StripeError> {
        let mut pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(query).map_err(|_| StripeError::not_a_form())?;
        pairs.extend(
            serde_urlencoded::from_bytes::<Vec<(String, String)>>(body).map_err(|_| StripeError::not_a_form())?,
        );
        Ok(Self::from_pairs(pairs))
    }

    pub(crate) fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().map(|(key, value)| Param::new(key, value)).collect())
    }

    /// Each name before brackets, once.
    pub(crate) fn roots(&self) -> Vec<&str> {
        let mut roots: Vec<&str> = Vec::new();
        for param in &self.0 {
            if !roots.contains(&param.root.as_str()) {
                roots.push(&param.root);
            }
        }
        roots
    }

    /// The plain value of `root`; of several the last.
    pub(crate) fn get(&self, root: &str) -> Option<&str> {
        self.0.iter().rev().find(|param| param.root == root && param.path.is_empty()).map(|param| param.value.as_str())
    }

    /// Everything under `root`.
    pub(crate) fn under<'a>(&'a self, root: &'a str) -> impl Iterator<Item = &'a Param> {
        self.0.iter().filter(move |param| param.root == root)
    }

    /// The elements of a list: `root[]=a&root[]=b` or `root[0]=a&root[1]=b`.
    pub(crate) fn list(&self, root: &str) -> Vec<String> {
        self.under(root).filter(|param| param.path.len() == 1).map(|param| param.value.clone()).collect()
    }

    /// Refuses names that the endpoint does not know; `expand` is known everywhere.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), StripeError> {
        let unknown: Vec<&str> =
            self.roots().into_iter().filter(|root| *root != "expand" && !known.contains(root)).collect();
        if unknown.is_empty() { Ok(()) } else { Err(StripeError::unknown_params(&unknown)) }
    }

    /// Names and values as sent, for the log of calls.
    pub(crate) fn as_sent(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|param| (param.key.clone(), param.value.clone())).collect()
    }

    /// The same for the same parameters in any order: what an idempotency key is held against.
    pub(crate) fn fingerprint(&self) -> String {
        let mut pairs: Vec<(&str, &str)> =
            self.0.iter().map(|param| (param.key.as_str(), param.value.as_str())).collect();
        pairs.sort_unstable();
        serde_urlencoded::to_string(pairs).unwrap_or_default()
    }
}

impl Param {
    fn new(key: String, value: String) -> Self {
        let (root, path) = match key.split_once('[') {
            Some((root, rest)) if !root.is_empty() && rest.ends_with(']') => {
                let inner = &rest[..rest.len() - 1];
                (root.to_owned(), inner.split("][").map(str::to_owned).collect())
            }
            _ => (key.clone(), Vec::new()),
        };
        Self { key, root, path, value }
    }
}

/// A whole number, or Stripe's refusal naming the parameter.
pub(crate) fn integer(key: &str, value: &str) -> Result<i64, StripeError> {
    value.parse().map_err(|_| StripeError::bad_integer(key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_name_what_is_inside() {
        let params = Params::parse("expand[]=a", b"address[line1]=1+Main+St&metadata[a][b]=x&name=Ada%20L").unwrap();
        let seen: Vec<_> = params.0.iter().map(|p| (p.root.as_str(), p.path.join("/"), p.value.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("expand", String::new(), "a"),
                ("address", "line1".to_owned(), "1 Main St"),
                ("metadata", "a/b".to_owned(), "x"),
                ("name", String::new(), "Ada L"),
            ]
        );
        assert_eq!(params.list("expand"), ["a"]);
    }

    #[test]
    fn order_does_not_change_the_fingerprint() {
        let one = Params::parse("", b"a=1&b=2").unwrap();
        let other = Params::parse("", b"b=2&a=1").unwrap();
        assert_eq!(one.fingerprint(), other.fingerprint());
    }
}
