//! A customer as people write it: new, or what is to change.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use tandem_domain::{Address, Field, Patch, Profile, Value};
use utoipa::ToSchema;

use crate::body::Object;
use crate::problem::{FieldError, Problem};
use crate::write::JsonBody;

/// A new customer. Name or email must be there. An empty text is the same as null.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Ada Lovelace", "email": "ada@example.com", "metadata": {"plan": "pro"}}))]
pub(crate) struct NewCustomer {
    /// Full name or business name: 256 characters at most.
    name: Option<String>,
    /// Email address: 512 characters at most.
    email: Option<String>,
    /// Phone number: 20 characters at most.
    phone: Option<String>,
    /// Postal address.
    #[schema(value_type = Option<NewAddress>)]
    address: Option<Object<NewAddress>>,
    /// Whatever else is known: 50 keys at most of 40 characters at most, with values of 500 characters at most.
    metadata: Option<BTreeMap<String, Option<String>>>,
}

/// A new address: each part 5000 characters at most.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAddress {
    /// Street and number.
    line1: Option<String>,
    /// Apartment, suite, unit.
    line2: Option<String>,
    /// City, town, village.
    city: Option<String>,
    /// State, county, province, region.
    state: Option<String>,
    /// ZIP or postal code.
    postal_code: Option<String>,
    /// Two-letter country code (ISO 3166-1 alpha-2), such as DE.
    country: Option<String>,
}

/// A change (JSON merge patch, RFC 7396): null or an empty text unsets, what is not there stays; `address` and `metadata`
/// are merged part by part.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "ada@example.com", "phone": null, "metadata": {"plan": null}}))]
pub(crate) struct CustomerPatch {
    /// Full name or business name.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>)]
    name: Told<String>,
    /// Email address.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>)]
    email: Told<String>,
    /// Phone number.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>)]
    phone: Told<String>,
    /// Postal address: null unsets it whole.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<AddressPatch>)]
    address: Told<Object<AddressPatch>>,
    /// Whatever else is known: null unsets all keys.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    metadata: Told<BTreeMap<String, Option<String>>>,
}

/// The parts of an address to change: null or an empty text unsets, what is not there stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddressPatch {
    /// Street and number.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>)]
    line1: Told<String>,
    /// Apartment, suite, unit.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>)]
    line2: Told<String>,
    /// City, town, village.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>)]
    city: Told<String>,
    /// State, county, province, region.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>)]
    state: Told<String>,
    /// ZIP or postal code.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>)]
    postal_code: Told<String>,
    /// Two-letter country code.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>)]
    country: Told<String>,
}

/// `None`: nothing is said of it. `Some(None)`: it is to be unset.
type Told<T> = Option<Option<T>>;

fn told<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Told<T>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl JsonBody for NewCustomer {}

impl JsonBody for CustomerPatch {
    const MEDIA: &[&str] = &["application/merge-patch+json", "application/json"];
}

impl NewCustomer {
    /// Only these two, as the paths `/customer` have them.
    pub(crate) fn of_name_and_email(name: String, email: String) -> Self {
        Self { name: Some(name), email: Some(email), ..Self::default() }
    }

    /// Its fields, each found to be right.
    ///
    /// # Errors
    /// Every field that is not.
    pub(crate) fn parse(self) -> Result<Profile, Problem> {
        let Self { name, email, phone, address, metadata } = self;
        let mut checked = Checked::default();
        checked.text(Field::Name, name);
        checked.text(Field::Email, email);
        checked.text(Field::Phone, phone);
        if let Some(Object(NewAddress { line1, line2, city, state, postal_code, country })) = address {
            checked.address(Address::from_parts([line1, line2, city, state, postal_code, country]));
        }
        for (key, value) in metadata.unwrap_or_default() {
            checked.text(Field::Metadata(key), value);
        }
        checked.profile()
    }
}

impl CustomerPatch {
    /// Whether what it means depends on what the customer is.
    pub(crate) fn is_relative(&self) -> bool {
        matches!(self.address, Some(Some(_))) || matches!(self.metadata, Some(None))
    }

    /// What it changes in a customer that is so. The customer checks each field that changes.
    pub(crate) fn against(&self, current: &Profile) -> Patch {
        let mut patch = Patch::default();
        for (field, told) in [(Field::Name, &self.name), (Field::Email, &self.email), (Field::Phone, &self.phone)] {
            if let Some(value) = told {
                patch.set(field, text(value));
            }
        }
        if let Some(address) = &self.address {
            let before = current.get(&Field::Address).and_then(Value::as_address).cloned().unwrap_or_default();
            let after =
                address.as_ref().map(|Object(address)| address.applied_to(before)).filter(|after| !after.is_empty());
            patch.set(Field::Address, after.map(Value::Address));
        }
        match &self.metadata {
            None => {}
            Some(None) => {
                for (key, _) in current.metadata() {
                    patch.set(Field::Metadata(key.to_owned()), None);
                }
            }
            Some(Some(keys)) => {
                for (key, value) in keys {
                    patch.set(Field::Metadata(key.clone()), text(value));
                }
            }
        }
        patch
    }

    /// Only these two, as the paths `/customer` have them.
    pub(crate) fn of_name_and_email(name: Told<String>, email: Told<String>) -> Self {
        Self { name, email, ..Self::default() }
    }
}

/// Forms send an empty text for what is not there.
fn text(value: &Option<String>) -> Option<Value> {
    value.clone().filter(|text| !text.is_empty()).map(Value::Text)
}

impl AddressPatch {
    fn applied_to(&self, before: Address) -> Address {
        let part = |told: &Told<String>, before| told.clone().unwrap_or(before);
        Address::from_parts([
            part(&self.line1, before.line1),
            part(&self.line2, before.line2),
            part(&self.city, before.city),
            part(&self.state, before.state),
            part(&self.postal_code, before.postal_code),
            part(&self.country, before.country),
        ])
    }
}

/// Collects fields, and everything that is wrong with them.
#[derive(Default)]
struct Checked {
    profile: Profile,
    errors: Vec<FieldError>,
}

impl Checked {
    fn text(&mut self, field: Field, told: Option<String>) {
        if let Some(value) = text(&told) {
            self.check(&field, &value);
            self.profile.set(field, Some(value));
        }
    }

    fn address(&mut self, address: Address) {
        let value = Value::Address(address);
        self.check(&Field::Address, &value);
        self.profile.set(Field::Address, Some(value));
    }

    fn check(&mut self, field: &Field, value: &Value) {
        self.errors.extend(field.broken_by(None, value).into_iter().map(Into::into));
    }

    fn profile(mut self) -> Result<Profile, Problem> {
        if self.errors.is_empty() {
            self.errors.extend(self.profile.check().err().map(Into::into));
        }
        if self.errors.is_empty() { Ok(self.profile) } else { Err(Problem::all_invalid(self.errors)) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(text: &str) -> Option<Value> {
        Some(Value::Text(text.to_owned()))
    }

    fn patch(json: serde_json::Value) -> CustomerPatch {
        serde_json::from_value(json).unwrap()
    }

    fn ada() -> Profile {
        let address =
            Address { line1: Some("1 Main St".to_owned()), city: Some("London".to_owned()), ..<_>::default() };
        Profile::default()
            .with(Field::Name, Value::Text("Ada".to_owned()))
            .with(Field::Address, Value::Address(address))
            .with(Field::Metadata("plan".to_owned()), Value::Text("pro".to_owned()))
            .with(Field::Metadata("since".to_owned()), Value::Text("1842".to_owned()))
    }

    #[test]
    fn null_unsets_and_what_is_not_there_stays() {
        let patch = patch(json!({"name": null, "email": "ada@example.com"})).against(&ada());
        let expected = Patch::default().with(Field::Name, None).with(Field::Email, text("ada@example.com"));
        assert_eq!(patch, expected);
    }

    #[test]
    fn an_address_is_merged_part_by_part() {
        let after = patch(json!({"address": {"line1": null, "country": "GB"}})).against(&ada()).applied_to(&ada());
        let address = after.get(&Field::Address).and_then(Value::as_address).unwrap();
        assert_eq!(
            (address.line1.as_deref(), address.city.as_deref(), address.country.as_deref()),
            (None, Some("London"), Some("GB"))
        );
    }

    #[test]
    fn an_empty_text_unsets_as_null_does() {
        let empty = patch(json!({"name": "", "address": {"line1": "", "city": ""}, "metadata": {"plan": ""}}));
        let null = patch(json!({"name": null, "address": {"line1": null, "city": null}, "metadata": {"plan": null}}));
        assert_eq!(empty.against(&ada()), null.against(&ada()));
        let new: NewCustomer = serde_json::from_value(json!({
            "name": "Ada", "email": "", "address": {"line1": ""}, "metadata": {"plan": ""}
        }))
        .unwrap();
        assert_eq!(new.parse().unwrap(), Profile::default().with(Field::Name, Value::Text("Ada".to_owned())));
    }

    #[test]
    fn an_address_whose_last_part_is_unset_is_unset() {
        let patch = patch(json!({"address": {"line1": null, "city": null}})).against(&ada());
        assert_eq!(patch, Patch::default().with(Field::Address, None));
    }

    #[test]
    fn metadata_is_merged_by_key_and_null_unsets_all() {
        let plan = || Field::Metadata("plan".to_owned());
        let one = patch(json!({"metadata": {"plan": null}})).against(&ada());
        assert_eq!(one, Patch::default().with(plan(), None));
        let all = patch(json!({"metadata": null})).against(&ada());
        assert_eq!(all, Patch::default().with(plan(), None).with(Field::Metadata("since".to_owned()), None));
    }

    #[test]
    fn every_wrong_field_is_told_at_once() {
        let new: NewCustomer =
            serde_json::from_value(json!({"name": " ", "email": "ada", "phone": "1".repeat(21)})).unwrap();
        let told = format!("{:?}", new.parse().unwrap_err());
        for field in ["name", "email", "phone"] {
            assert!(told.contains(&format!("field: \"{field}\"")), "{told}");
        }
    }
}
