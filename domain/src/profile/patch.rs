//! A change of some fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Field, Profile, Value};

/// Fields to set (`Some`) or unset (`None`); fields that it does not name stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Patch(BTreeMap<Field, Option<Value>>);

impl Patch {
    /// Adds a field to set or unset.
    pub fn set(&mut self, field: Field, value: Option<Value>) {
        self.0.insert(field, value);
    }

    /// The same, for building one.
    pub fn with(mut self, field: Field, value: Option<Value>) -> Self {
        self.set(field, value);
        self
    }

    /// Names that field no longer.
    pub fn leave_out(&mut self, field: &Field) {
        self.0.remove(field);
    }

    /// Names no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every named field with its new value.
    pub fn iter(&self) -> impl Iterator<Item = (&Field, Option<&Value>)> {
        self.0.iter().map(|(field, value)| (field, value.as_ref()))
    }

    /// The profile after this change.
    pub fn applied_to(&self, profile: &Profile) -> Profile {
        let mut after = profile.clone();
        for (field, value) in self.iter() {
            after.set(field.clone(), value.cloned());
        }
        after
    }
}
