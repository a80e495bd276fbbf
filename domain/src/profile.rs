//! What a customer is described by: fields and their values.

mod address;
mod field;
mod invisible;
mod kept;
mod key;
mod patch;

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

pub use address::{ADDRESS_PARTS, Address};
pub use field::{Field, InvalidField, METADATA_KEYS};
pub use key::{EmailKey, name_key};
pub use patch::Patch;

/// One field's value. An unset field has none: there is no empty value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Name, email, phone, or the value of a metadata key.
    Text(String),
    /// An address, compared and changed as one.
    Address(Address),
    /// What a later version's field holds.
    Other(serde_json::Value),
}

impl Value {
    /// The text, unless this is an address.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Address(_) | Self::Other(_) => None,
        }
    }

    /// The address, if it is one.
    pub fn as_address(&self) -> Option<&Address> {
        match self {
            Self::Text(_) | Self::Other(_) => None,
            Self::Address(address) => Some(address),
        }
    }

    /// Whether it can be that field's: only a later version's fields hold what is neither text nor address.
    pub(crate) fn fits(&self, field: &Field) -> bool {
        !field.is_known() || !matches!(self, Self::Other(_))
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Address(address) => address.is_empty(),
            Self::Other(json) => json.is_null(),
        }
    }
}

/// The set fields of a customer. In JSON a flat object: `{"email": "…", "metadata.plan": "pro"}`.
///
/// Fields that only a later version knows are in it, too, and in [`Profile::all`]; all else leaves them out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Profile(BTreeMap<Field, Value>);

impl<'de> Deserialize<'de> for Profile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = BTreeMap::<Field, Value>::deserialize(deserializer)?;
        match fields.iter().find(|(field, value)| !value.fits(field)) {
            Some((field, _)) => Err(D::Error::custom(format!("{field} has a value of another kind"))),
            None => Ok(Self(fields)),
        }
    }
}

impl Profile {
    /// The value of a field, if it is set.
    pub fn get(&self, field: &Field) -> Option<&Value> {
        self.0.get(field)
    }

    /// The text of a field, if it is set and a text.
    pub fn text(&self, field: &Field) -> Option<&str> {
        self.get(field).and_then(Value::as_text)
    }

    /// Sets a field, or with `None` or an empty value unsets it.
    pub fn set(&mut self, field: Field, value: Option<Value>) {
        match value.filter(|value| !value.is_empty()) {
            Some(value) => self.0.insert(field, value),
            None => self.0.remove(&field),
        };
    }

    /// The same, for building one.
    pub fn with(mut self, field: Field, value: Value) -> Self {
        self.set(field, Some(value));
        self
    }

    /// Every set field with its value, in the order of [`Field`].
    pub fn iter(&self) -> impl Iterator<Item = (&Field, &Value)> {
        self.0.iter().filter(|(field, _)| field.is_known())
    }

    /// The same, with the fields of a later version.
    pub fn all(&self) -> impl Iterator<Item = (&Field, &Value)> {
        self.0.iter()
    }

    /// Without the fields of a later version.
    pub fn known(&self) -> Self {
        Self(self.iter().map(|(field, value)| (field.clone(), value.clone())).collect())
    }

    /// With the fields of a later version that `other` has.
    pub fn with_unknown_of(mut self, other: &Self) -> Self {
        let unknown = other.0.iter().filter(|(field, _)| !field.is_known());
        self.0.extend(unknown.map(|(field, value)| (field.clone(), value.clone())));
        self
    }

    /// Every field that is set here or in `other`, once.
    pub fn fields_with<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Field> {
        let mine = self.0.keys();
        mine.chain(other.0.keys().filter(|field| !self.0.contains_key(field))).filter(|field| field.is_known())
    }

    /// Whether both hold the same, as far as this version knows.
    pub fn equals(&self, other: &Self) -> bool {
        self.fields_with(other).all(|field| self.get(field) == other.get(field))
    }

    /// Set metadata, by key.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(field, value)| match field {
            Field::Metadata(key) => value.as_text().map(|text| (key.as_str(), text)),
            Field::Name | Field::Email | Field::Phone | Field::Address | Field::Other(_) => None,
        })
    }

    /// Whether a person may create a customer so.
    ///
    /// # Errors
    /// The first rule that it breaks: name or email must be set, metadata has at most [`METADATA_KEYS`] keys,
    /// and every value keeps to its field's limits.
    pub fn check(&self) -> Result<(), InvalidField> {
        self.check_named()?;
        self.check_metadata()?;
        self.iter().try_for_each(|(field, value)| field.check(value))
    }

    /// Whether a person may leave it so, coming from `before`: what a remote made of it is not theirs to mend.
    ///
    /// # Errors
    /// The rule on the whole profile that it breaks and `before` kept.
    pub fn check_not_worse_than(&self, before: &Self) -> Result<(), InvalidField> {
        if before.check_named().is_ok() {
            self.check_named()?;
        }
        if self.metadata().count() > before.metadata().count() {
            self.check_metadata()?;
        }
        Ok(())
    }

    fn check_named(&self) -> Result<(), InvalidField> {
        if self.get(&Field::Name).is_none() && self.get(&Field::Email).is_none() {
            return Err(InvalidField::new("name", "name or email is required"));
        }
        Ok(())
    }

    fn check_metadata(&self) -> Result<(), InvalidField> {
        if self.metadata().count() > METADATA_KEYS {
            return Err(InvalidField::new("metadata", format!("at most {METADATA_KEYS} keys")));
        }
        Ok(())
    }
}

impl FromIterator<(Field, Value)> for Profile {
    fn from_iter<I: IntoIterator<Item = (Field, Value)>>(fields: I) -> Self {
        let mut profile = Self::default();
        for (field, value) in fields {
            profile.set(field, Some(value));
        }
        profile
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    fn with_keys(count: usize) -> Profile {
        let keys = (0..count).map(|n| (Field::Metadata(format!("key{n}")), text("x")));
        keys.chain([(Field::Name, text("Ada"))]).collect()
    }

    #[test]
    fn a_field_is_read_as_what_it_is() {
        let address = Address { city: Some("London".to_owned()), ..Address::default() };
        let profile =
            Profile::default().with(Field::Name, text("Ada")).with(Field::Address, Value::Address(address.clone()));
        assert_eq!((profile.text(&Field::Name), profile.text(&Field::Address)), (Some("Ada"), None));
        assert_eq!(profile.get(&Field::Address).and_then(Value::as_address), Some(&address));
        assert_eq!(profile.get(&Field::Name).and_then(Value::as_address), None);
    }

    #[test]
    fn an_empty_value_unsets_a_field() {
        let mut profile = with_keys(1);
        profile.set(Field::Name, Some(text("")));
        profile.set(Field::Metadata("key0".to_owned()), None);
        profile.set(Field::Address, Some(Value::Address(Address::default())));
        assert_eq!(profile, Profile::default());
    }

    #[test]
    fn a_profile_has_a_name_or_an_email_and_not_too_much_metadata() {
        assert_eq!(with_keys(METADATA_KEYS).check(), Ok(()));
        assert!(with_keys(METADATA_KEYS + 1).check().is_err());
        assert!(Profile::default().check().is_err());
    }

    #[test]
    fn what_a_remote_made_of_it_is_not_for_a_person_to_mend() {
        let (full, over) = (with_keys(METADATA_KEYS), with_keys(METADATA_KEYS + 1));
        assert_eq!(over.check_not_worse_than(&over), Ok(()));
        assert!(over.check_not_worse_than(&full).is_err());
        assert_eq!(Profile::default().check_not_worse_than(&Profile::default()), Ok(()));
        assert!(Profile::default().check_not_worse_than(&full).is_err());
    }
}
