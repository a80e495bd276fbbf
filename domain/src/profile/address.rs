//! A postal address.

use serde::{Deserialize, Serialize};

/// A postal address; an unset part is `None`, never an empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Street and number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line1: Option<String>,
    /// Apartment, suite, unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line2: Option<String>,
    /// City, town, village.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// State, county, province, region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// ZIP or postal code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// Two-letter country code (ISO 3166-1 alpha-2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

/// The parts' names, in the order of [`Address::parts`].
pub const ADDRESS_PARTS: [&str; 6] = ["line1", "line2", "city", "state", "postal_code", "country"];

impl Address {
    /// Every part with its name, set or not.
    pub fn parts(&self) -> [(&'static str, Option<&str>); 6] {
        let [line1, line2, city, state, postal_code, country] = ADDRESS_PARTS;
        [
            (line1, self.line1.as_deref()),
            (line2, self.line2.as_deref()),
            (city, self.city.as_deref()),
            (state, self.state.as_deref()),
            (postal_code, self.postal_code.as_deref()),
            (country, self.country.as_deref()),
        ]
    }

    /// An address from its parts in the order of [`ADDRESS_PARTS`]; an empty text is an unset part.
    pub fn from_parts(parts: [Option<String>; 6]) -> Self {
        let [line1, line2, city, state, postal_code, country] = parts.map(|part| part.filter(|text| !text.is_empty()));
        Self { line1, line2, city, state, postal_code, country }
    }

    /// No part is set.
    pub fn is_empty(&self) -> bool {
        self.parts().iter().all(|(_, part)| part.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_parts_and_an_empty_part_is_unset() {
        let parts = ["1 Main St", "", "London", "", "E1", "GB"].map(|part| Some(part.to_owned()));
        let address = Address::from_parts(parts);
        let named: Vec<_> =
            address.parts().into_iter().filter_map(|(name, part)| part.map(|part| (name, part))).collect();
        assert_eq!(named, [("line1", "1 Main St"), ("city", "London"), ("postal_code", "E1"), ("country", "GB")]);
        assert!(!address.is_empty());
        assert!(Address::from_parts([const { None }; 6]).is_empty());
    }
}
