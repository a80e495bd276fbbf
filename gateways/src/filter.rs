//! Which customers are created at a gateway.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tandem_domain::{Field, Profile, Value};

/// Customers whose field is so. Of the others none is created at the gateway.
///
/// It decides about creating alone. Who is there stays, and stays in step, whatever becomes of the field: an edit deletes
/// nothing. What is born at the gateway is imported whatever its fields.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Which field: `name`, `email`, `phone`, `address`, or `metadata.region` and the like.
    #[serde(deserialize_with = "known")]
    pub field: Field,
    /// It is exactly this text.
    #[serde(default)]
    pub equals: Option<String>,
    /// It is set, or, with `false`, it is not.
    #[serde(default)]
    pub present: Option<bool>,
}

/// A field of a later version, or a mistake, is refused.
fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Field, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

impl Filter {
    /// Whether it says anything, and no more than one thing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), &'static str> {
        match (&self.equals, self.present, &self.field) {
            (Some(_), None, Field::Address) => Err("an address equals no text: only `present` can be asked of it"),
            (Some(_), None, _) | (None, Some(_), _) => Ok(()),
            (None, None, _) | (Some(_), Some(_), _) => Err("must have one of `equals` and `present`"),
        }
    }

    /// Whether a customer with these fields is created there.
    pub(crate) fn admits(&self, profile: &Profile) -> bool {
        let held = profile.get(&self.field);
        match (&self.equals, self.present) {
            (Some(wanted), _) => matches!(held, Some(Value::Text(text)) if text == wanted),
            (None, present) => held.is_some() == present.unwrap_or(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter(given: serde_json::Value) -> Filter {
        serde_json::from_value(given).unwrap()
    }

    fn of(region: Option<&str>) -> Profile {
        region
            .map(|region| (Field::Metadata("region".to_owned()), Value::Text(region.to_owned())))
            .into_iter()
            .collect()
    }

    #[test]
    fn a_text_is_compared_as_it_stands() {
        let eu = filter(json!({"field": "metadata.region", "equals": "eu"}));
        for (region, admitted) in [(Some("eu"), true), (Some("EU"), false), (Some("us"), false), (None, false)] {
            assert_eq!(eu.admits(&of(region)), admitted, "{region:?}");
        }
    }

    #[test]
    fn a_field_may_only_have_to_be_there_or_not() {
        let set = filter(json!({"field": "metadata.region", "present": true}));
        let unset = filter(json!({"field": "metadata.region", "present": false}));
        for region in [Some("eu"), None] {
            assert_eq!((set.admits(&of(region)), unset.admits(&of(region))), (region.is_some(), region.is_none()));
        }
    }

    #[test]
    fn a_filter_that_says_nothing_or_two_things_is_wrong() {
        assert_eq!(filter(json!({"field": "address", "present": true})).check(), Ok(()));
        for wrong in [
            json!({"field": "email"}),
            json!({"field": "email", "equals": "x", "present": true}),
            json!({"field": "address", "equals": "x"}),
        ] {
            assert!(filter(wrong.clone()).check().is_err(), "{wrong}");
        }
        assert!(serde_json::from_value::<Filter>(json!({"field": "region", "present": true})).is_err());
    }
}
