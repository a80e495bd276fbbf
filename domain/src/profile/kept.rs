//! What can be kept of a customer, whoever says so: far more than a person may set, and little enough for every event and index.

use super::{Field, InvalidField, Profile, Value};

/// Most characters of a text, or of a part of an address.
const TEXT_CHARS: usize = 5000;
/// Most characters of a metadata key.
const KEY_CHARS: usize = 255;
/// Most metadata keys.
const KEYS: usize = 128;
/// Most bytes of all texts and keys together. A person may set nearly as much, and an event holds it twice: before and after.
const BYTES: usize = 232_000;

impl Profile {
    /// Whether all of it can be kept. What a remote says is a fact and keeps to no rules of ours, but for this one.
    ///
    /// # Errors
    /// The first bound that it breaks.
    pub fn check_kept(&self) -> Result<(), InvalidField> {
        let mut bytes = 0;
        for (field, value) in self.iter() {
            if let Field::Metadata(key) = field {
                bytes += key.len();
                if key.chars().count() > KEY_CHARS {
                    return Err(InvalidField::new(
                        "metadata",
                        format!("has a key of more than {KEY_CHARS} characters"),
                    ));
                }
            }
            let parts = match value {
                Value::Text(text) => [Some(text.as_str()), None, None, None, None, None],
                Value::Address(address) => address.parts().map(|(_, text)| text),
                // Of a later version, which has checked it.
                Value::Other(_) => [None; 6],
            };
            for text in parts.into_iter().flatten() {
                bytes += text.len();
                if text.chars().count() > TEXT_CHARS {
                    return Err(InvalidField::new(field.to_string(), format!("has more than {TEXT_CHARS} characters")));
                }
            }
        }
        if self.metadata().count() > KEYS {
            return Err(InvalidField::new("metadata", format!("has more than {KEYS} keys")));
        }
        if bytes > BYTES {
            return Err(InvalidField::new("metadata", format!("all fields together have more than {BYTES} bytes")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, METADATA_KEYS};

    fn text(n: usize) -> Value {
        Value::Text("x".repeat(n))
    }

    fn of(field: Field, value: Value) -> Profile {
        Profile::default().with(field, value)
    }

    #[test]
    fn more_than_a_person_may_set_is_kept_up_to_a_bound() {
        let name = |n| of(Field::Name, text(n)).check_kept();
        assert_eq!(name(TEXT_CHARS), Ok(()));
        assert!(name(TEXT_CHARS + 1).unwrap_err().to_string().starts_with("name: has more than"));
        let key = |n| of(Field::Metadata("k".repeat(n)), text(1)).check_kept();
        assert!(key(KEY_CHARS).is_ok() && key(KEY_CHARS + 1).is_err());
        let keys = |n| (0..n).map(|n| (Field::Metadata(format!("{n}")), text(1))).collect::<Profile>().check_kept();
        assert!(keys(KEYS).is_ok() && keys(KEYS + 1).is_err());
        let line = |n| Value::Address(Address { line1: Some("x".repeat(n)), ..Address::default() });
        assert!(of(Field::Address, line(TEXT_CHARS)).check_kept().is_ok());
        assert!(of(Field::Address, line(TEXT_CHARS + 1)).check_kept().is_err());
    }

    #[test]
    fn the_largest_that_a_person_may_set_is_kept() {
        let wide = |n: usize| "\u{10437}".repeat(n);
        let keys = (0..METADATA_KEYS).map(|n| (Field::Metadata(format!("{n:02}{}", wide(38))), Value::Text(wide(500))));
        let address = Address::from_parts([(); 6].map(|()| Some(wide(5000))));
        let fields = [(Field::Name, 256), (Field::Email, 512), (Field::Phone, 20)];
        let mut profile: Profile = keys.chain(fields.map(|(field, n)| (field, Value::Text(wide(n))))).collect();
        profile.set(Field::Address, Some(Value::Address(address)));
        assert_eq!(profile.check_kept(), Ok(()));
    }
}
