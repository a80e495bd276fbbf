//! Texts as they are compared, sorted and looked for: one definition for all tables, and bounded, whatever a remote sends.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::{Field, Profile};

/// The most bytes of a text that its key repeats. It has room for every name that the catalog takes, and for every email in
/// ASCII; with the digest, a key fits the rows of every index (PostgreSQL: 2704 bytes).
const KEPT_BYTES: usize = 1024;

/// An email as it is compared: two that differ only in case, or by white space around them, are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailKey(String);

impl EmailKey {
    /// The key of an email.
    pub fn of(email: &str) -> Self {
        Self(email.trim().to_lowercase())
    }

    /// The key of a profile's email, if it has one.
    pub fn of_profile(profile: &Profile) -> Option<Self> {
        profile.text(&Field::Email).map(Self::of)
    }

    /// The email in the spelling by which it is compared, whole: to ask others for it.
    pub fn spelling(&self) -> &str {
        &self.0
    }

    /// The key as it is stored where emails are looked for by a part of them, too.
    pub fn stored(&self) -> String {
        bounded(&self.0).into_owned()
    }

    /// The key as it is stored where emails are only compared, and only with others of that salt: it says nothing of the
    /// person, not even to the planner's statistics.
    pub fn salted(&self, salt: &[u8]) -> String {
        digest(Sha256::new().chain_update(salt).chain_update(self.0.as_bytes()))
    }
}

/// A name as it is sorted and looked for: ignoring case.
pub fn name_key(name: &str) -> String {
    bounded(&name.to_lowercase()).into_owned()
}

/// The text itself, or if it is long, its beginning and a digest of all of it. No text's key is another text itself: keys of long
/// texts are longer than any text that is its own key.
fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= KEPT_BYTES {
        return Cow::Borrowed(text);
    }
    let mut kept: String = text.chars().take(KEPT_BYTES).collect();
    while kept.len() > KEPT_BYTES {
        kept.pop();
    }
    Cow::Owned(kept + &digest(Sha256::new().chain_update(text.as_bytes())))
}

fn digest(hash: Sha256) -> String {
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails_are_the_same_but_for_case_and_blanks_around_them() {
        let key = |email: &str| EmailKey::of(email).stored();
        assert_eq!(key(" Ädá@Old.Example\u{a0}"), "ädá@old.example");
        assert_ne!(key("ada@old.example"), key("a da@old.example"));
    }

    #[test]
    fn a_key_is_bounded_and_tells_texts_apart_all_the_same() {
        let long = |end: &str| "é".repeat(50_000) + end;
        let keys = [name_key(&long("a")), name_key(&long("b")), EmailKey::of(&long("c")).stored()];
        for key in &keys {
            assert_eq!(key.len(), KEPT_BYTES + 64);
        }
        assert!(keys[0] != keys[1] && keys[0] == name_key(&long("A")));
        // A text that looks like the key of a long one is another.
        assert_ne!(name_key(&keys[0]), keys[0]);
        assert_eq!(name_key(&"x".repeat(KEPT_BYTES)), "x".repeat(KEPT_BYTES));
    }

    #[test]
    fn salted_keys_are_the_same_for_one_salt_only() {
        let key = |email: &str, salt: &[u8]| EmailKey::of(email).salted(salt);
        assert_eq!(key("Ada@x", b"1"), key(" ada@x", b"1"));
        assert_ne!(key("ada@x", b"1"), key("ada@x", b"2"));
        assert_ne!(key("ada@x", b"1"), key("eda@x", b"1"));
    }
}
