//! What an object does not tell.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tandem_domain::{Field, Profile};

/// The fields of which an object, as it came, says nothing: neither a value nor that there is none. A webhook has the shape
/// of the API version of its endpoint, and older ones lack fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Untold {
    /// These, and
    pub fields: BTreeSet<Field>,
    /// all metadata.
    pub metadata: bool,
}

impl Untold {
    /// It tells of nothing: what it says cannot be kept.
    pub(crate) fn all() -> Self {
        Self { fields: Field::PLAIN.into(), metadata: true }
    }

    /// It tells of everything.
    pub fn is_nothing(&self) -> bool {
        self.fields.is_empty() && !self.metadata
    }

    /// Whether it says nothing of that field.
    pub fn has(&self, field: &Field) -> bool {
        self.fields.contains(field) || self.metadata && matches!(field, Field::Metadata(_))
    }

    /// What was told, and of the rest what is known.
    pub(crate) fn filled(&self, told: Profile, known: &Profile) -> Profile {
        let rest = known.iter().filter(|(field, _)| self.has(field));
        rest.fold(told, |profile, (field, value)| profile.with(field.clone(), value.clone()))
    }
}

#[cfg(test)]
mod tests {
    use tandem_domain::Value;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn of_what_is_not_told_stays_what_is_known() {
        let plan = || Field::Metadata("plan".to_owned());
        let known =
            Profile::default().with(Field::Name, text("Ada")).with(Field::Phone, text("1")).with(plan(), text("pro"));
        let told = Profile::default().with(Field::Email, text("ada@new.example"));
        let untold = Untold { fields: BTreeSet::from([Field::Phone]), metadata: true };
        let filled = told.clone().with(Field::Phone, text("1")).with(plan(), text("pro"));
        assert_eq!(untold.filled(told.clone(), &known), filled, "the name is told to be unset");
        assert_eq!(Untold::default().filled(told.clone(), &known), told);
    }
}
