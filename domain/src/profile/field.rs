//! Each field of a customer, described in one place: its name and its limits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Address, Value, invisible};

/// Most metadata keys a customer may have.
pub const METADATA_KEYS: usize = 50;

const METADATA_KEY_CHARS: usize = 40;
const METADATA_PREFIX: &str = "metadata.";

/// A field of a customer: the unit of patches, merges and pushes. Written `email` or `metadata.plan`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Field {
    /// Full name or business name.
    Name,
    /// Email address.
    Email,
    /// Phone number.
    Phone,
    /// Postal address, as one.
    Address,
    /// One key of the metadata.
    Metadata(String),
    /// A field that a later version of Tandem knows. It is carried along, and never merged, pushed, or set by a person.
    Other(String),
}

/// A field whose value breaks a rule. The reason names the rule, never the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidField {
    /// Which, such as `email` or `address.country`.
    pub field: String,
    /// What the rule is.
    pub reason: String,
}

impl InvalidField {
    /// A broken rule.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

impl Field {
    /// Every field but the metadata.
    pub const PLAIN: [Self; 4] = [Self::Name, Self::Email, Self::Phone, Self::Address];

    /// Most characters of a text, or of each part of an address: the narrowest gateway's limits.
    pub fn max_chars(&self) -> usize {
        match self {
            Self::Name => 256,
            Self::Email => 512,
            Self::Phone => 20,
            Self::Address => 5000,
            Self::Metadata(_) | Self::Other(_) => 500,
        }
    }

    /// Whether this version knows what it is.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Whether a person may set this field, which is unset, to this value.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, value: &Value) -> Result<(), InvalidField> {
        self.broken_by(None, value).into_iter().next().map_or(Ok(()), Err)
    }

    /// The rules that a person breaks by setting this field to `after`. Only what differs from `before` is looked at, part by
    /// part: a gateway may have filled the rest under its own rules.
    pub fn broken_by(&self, before: Option<&Value>, after: &Value) -> Vec<InvalidField> {
        if before == Some(after) {
            return vec![];
        }
        let key = match self {
            Self::Metadata(key) if before.is_none() => check_metadata_key(key),
            Self::Other(name) => Err(unknown(name)),
            Self::Name | Self::Email | Self::Phone | Self::Address | Self::Metadata(_) => Ok(()),
        };
        let mut broken: Vec<InvalidField> = key.err().into_iter().collect();
        match (self, after) {
            (Self::Address, Value::Address(address)) => {
                let before = before.and_then(Value::as_address).cloned().unwrap_or_default();
                broken.extend(broken_parts(&before, address));
            }
            (Self::Address, Value::Text(_) | Value::Other(_)) => {
                broken.push(InvalidField::new("address", "must be an object"))
            }
            (_, Value::Address(_) | Value::Other(_)) => {
                broken.push(InvalidField::new(self.to_string(), "must be a string"))
            }
            (_, Value::Text(text)) => broken.extend(self.check_text(text).err()),
        }
        broken
    }

    fn check_text(&self, text: &str) -> Result<(), InvalidField> {
        check_text(&self.to_string(), text, self.max_chars())?;
        if *self == Self::Email {
            check_email(text)?;
        }
        Ok(())
    }
}

/// The rules that an address breaks in the parts that differ from `before`.
fn broken_parts(before: &Address, after: &Address) -> Vec<InvalidField> {
    let changed = after.parts().into_iter().zip(before.parts()).filter(|(after, before)| after != before);
    let set = changed.filter_map(|((part, text), _)| Some((part, text?)));
    set.filter_map(|(part, text)| {
        let field = format!("address.{part}");
        let checked = check_text(&field, text, Field::Address.max_chars());
        checked.and_then(|()| if part == "country" { check_country(&field, text) } else { Ok(()) }).err()
    })
    .collect()
}

fn check_metadata_key(key: &str) -> Result<(), InvalidField> {
    let broken = |reason: String| Err(InvalidField::new("metadata", reason));
    if key.is_empty() || key.chars().count() > METADATA_KEY_CHARS {
        return broken(format!("a key has 1 to {METADATA_KEY_CHARS} characters"));
    }
    if key.contains(['[', ']']) || key.chars().any(char::is_control) {
        return broken("a key has no square brackets and no control characters".to_owned());
    }
    if key == "tandem_id" {
        return Err(InvalidField::new("metadata.tandem_id", "is taken: it ties a customer to its copies"));
    }
    Ok(())
}

fn check_text(field: &str, text: &str, max_chars: usize) -> Result<(), InvalidField> {
    if text.chars().all(char::is_whitespace) {
        return Err(InvalidField::new(field, "must not be blank; null or an empty text unsets it"));
    }
    if text.chars().all(invisible::shows_nothing) {
        let reason = "must not be made of invisible characters alone, such as a zero-width space (U+200B); null or an \
                      empty text unsets it";
        return Err(InvalidField::new(field, reason));
    }
    if text.chars().count() > max_chars {
        return Err(InvalidField::new(field, format!("at most {max_chars} characters")));
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(InvalidField::new(field, "must not contain control characters"));
    }
    Ok(())
}

fn check_country(field: &str, code: &str) -> Result<(), InvalidField> {
    if code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(InvalidField::new(field, "must be a two-letter country code, such as DE"))
}

/// A name may have invisible characters: some scripts and emoji are written with them. An email that has one looks like
/// another, and no mail arrives.
fn check_email(text: &str) -> Result<(), InvalidField> {
    if text.chars().any(invisible::is_invisible) {
        let reason = "must not contain invisible characters, such as a zero-width space (U+200B): copying often brings \
                      them along, typing does not";
        return Err(InvalidField::new("email", reason));
    }
    if is_email(text) { Ok(()) } else { Err(InvalidField::new("email", "must be an email address")) }
}

/// Loose on purpose: what is an address is for the mail server to say.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    !local.is_empty() && !domain.is_empty() && !text.chars().any(char::is_whitespace) && !local.contains('@')
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("name"),
            Self::Email => f.write_str("email"),
            Self::Phone => f.write_str("phone"),
            Self::Address => f.write_str("address"),
            Self::Metadata(key) => write!(f, "{METADATA_PREFIX}{key}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl From<Field> for String {
    fn from(field: Field) -> Self {
        field.to_string()
    }
}

impl FromStr for Field {
    type Err = InvalidField;

    fn from_str(name: &str) -> Result<Self, InvalidField> {
        if let Some(key) = name.strip_prefix(METADATA_PREFIX) {
            return Ok(Self::Metadata(key.to_owned()));
        }
        Self::PLAIN.into_iter().find(|field| field.to_string() == name).ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> InvalidField {
    InvalidField::new(name, "is no field of a customer")
}

/// What is stored may name fields of a later version. What a person writes is parsed, and refused.
impl From<String> for Field {
    fn from(name: String) -> Self {
        name.parse().unwrap_or(Self::Other(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;

    /// The fields that are named when this one is set.
    fn broken(field: &Field, before: Option<&Value>, after: &Value) -> Vec<String> {
        field.broken_by(before, after).into_iter().map(|broken| broken.field).collect()
    }

    #[test]
    fn a_part_of_an_address_that_does_not_change_is_not_looked_at() {
        let before = Address {
            line1: Some("1 Main St\r\nFlat 2".to_owned()),
            city: Some(" ".to_owned()),
            country: Some("US - United States".to_owned()),
            ..Address::default()
        };
        let after = |city: &str| Value::Address(Address { city: Some(city.to_owned()), ..before.clone() });
        let held = Value::Address(before.clone());
        assert!(broken(&Field::Address, Some(&held), &after("Cambridge")).is_empty());
        assert_eq!(broken(&Field::Address, Some(&held), &after("\t")), ["address.city"]);
        assert_eq!(broken(&Field::Address, None, &held), ["address.line1", "address.city", "address.country"]);
    }

    #[test]
    fn a_key_that_is_there_is_not_looked_at() {
        let (key, old) = (Field::Metadata("k".repeat(41)), Value::Text("old".to_owned()));
        let new = Value::Text("new".to_owned());
        assert!(broken(&key, Some(&old), &new).is_empty());
        assert_eq!(broken(&key, None, &new), ["metadata"]);
    }

    #[test]
    fn an_email_has_no_invisible_characters_and_a_name_may() {
        for invisible in ['\u{200b}', '\u{ad}', '\u{feff}', '\u{2060}', '\u{202a}', '\u{fe0f}', '\u{3164}'] {
            let error = Field::Email.check(&Value::Text(format!("ada@old.example{invisible}"))).unwrap_err();
            assert!(error.reason.contains("invisible"), "{invisible:?}: {error}");
        }
        // A Persian name with a non-joiner, an emoji with a joiner.
        for name in ["علی\u{200c}رضا", "\u{1f469}\u{200d}\u{1f52c}"] {
            assert_eq!(Field::Name.check(&Value::Text(name.to_owned())), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_text_shows_something() {
        for blank in ["", " ", "\n", "\u{200b}", " \u{2060}\u{feff}", "\u{2800}", "\u{3164}"] {
            let text = Value::Text(blank.to_owned());
            for field in [Field::Name, Field::Phone, Field::Email, Field::Metadata("plan".to_owned())] {
                assert!(field.check(&text).is_err(), "{field} {blank:?}");
            }
        }
    }

    fn text(n: usize) -> Value {
        Value::Text("x".repeat(n))
    }

    #[test]
    fn names_read_back_as_what_they_were() {
        for field in Field::PLAIN.into_iter().chain([Field::Metadata("a.b".to_owned())]) {
            assert_eq!(field.to_string().parse(), Ok(field));
        }
        assert!("emial".parse::<Field>().is_err());
    }

    #[test]
    fn a_text_may_be_as_long_as_its_limit_and_no_longer() {
        for field in [Field::Name, Field::Phone, Field::Metadata("plan".to_owned())] {
            assert_eq!(field.check(&text(field.max_chars())), Ok(()));
            assert!(field.check(&text(field.max_chars() + 1)).is_err());
        }
    }

    #[test]
    fn a_country_is_two_capital_letters() {
        let country = |code: &str| {
            let address = Address { country: Some(code.to_owned()), ..Address::default() };
            Field::Address.check(&Value::Address(address))
        };
        assert_eq!(country("DE"), Ok(()));
        for wrong in ["D", "DEU", "de", "D1", "De"] {
            assert!(country(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Field::Address.check(&Value::Address(Address::default())), Ok(()));
    }

    #[test]
    fn a_text_may_have_lines_and_no_other_control_characters() {
        for (text, allowed) in [("a\nb", true), ("a\tb", true), ("a\rb", false), ("a\u{7}b", false)] {
            assert_eq!(Field::Name.check(&Value::Text(text.to_owned())).is_ok(), allowed, "{text:?}");
        }
    }

    #[test]
    fn characters_count_not_bytes() {
        assert_eq!(Field::Phone.check(&Value::Text("é".repeat(20))), Ok(()));
    }

    #[test]
    fn an_email_has_one_at_sign_between_two_parts() {
        for good in ["ada@old.example", "a+b@x", "ä@ö.example"] {
            assert_eq!(Field::Email.check(&Value::Text(good.to_owned())), Ok(()), "{good}");
        }
        for bad in ["ada", "@x", "ada@", "a b@x", "a@b@c"] {
            assert!(Field::Email.check(&Value::Text(bad.to_owned())).is_err(), "{bad}");
        }
    }

    #[test]
    fn metadata_keys_keep_the_gateways_rules() {
        let check = |key: &str| Field::Metadata(key.to_owned()).check(&Value::Text("x".to_owned()));
        assert_eq!(check(&"k".repeat(40)), Ok(()));
        for bad in ["", &"k".repeat(41), "a[b]", "tandem_id"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_broken_rule_never_repeats_the_value() {
        let error = Field::Email.check(&Value::Text("secret".to_owned())).unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }
}
