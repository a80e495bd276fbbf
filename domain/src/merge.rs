//! The three-way merge of one field, and what is left to push.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Field, Patch, Profile, Value};

/// What a remote made of a value that it was sent: `Ada@X` sent, `ada@x` held. As long as the catalog has the one
/// and the remote the other, they count as equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spelling {
    /// The catalog's value.
    pub sent: Option<Value>,
    /// The remote's.
    pub held: Option<Value>,
}

/// The spellings of one link, by field.
pub type Spellings = BTreeMap<Field, Spelling>;

/// How the catalog's value and the remote's relate, given what the remote was last seen to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// Both hold the same.
    Same,
    /// Only the catalog's changed: it stays, and is pushed.
    KeepLocal,
    /// Only the remote's changed: the catalog takes it.
    TakeRemote,
    /// Both changed, to different values.
    Conflict,
}

/// Merges one field.
pub fn merge(base: Option<&Value>, local: Option<&Value>, remote: Option<&Value>) -> Merged {
    if local == remote {
        Merged::Same
    } else if remote == base {
        Merged::KeepLocal
    } else if local == base {
        Merged::TakeRemote
    } else {
        Merged::Conflict
    }
}

/// What the remote, which holds `base`, must be told to hold `local`.
pub fn differences(local: &Profile, base: &Profile, spellings: &Spellings) -> Patch {
    let mut patch = Patch::default();
    for field in local.fields_with(base) {
        let (ours, theirs) = (local.get(field), base.get(field));
        if as_spelled(field, ours, spellings) != theirs {
            patch.set(field.clone(), ours.cloned());
        }
    }
    patch
}

/// The catalog's value in the remote's spelling, where one is known.
pub(crate) fn as_spelled<'a>(field: &Field, local: Option<&'a Value>, spellings: &'a Spellings) -> Option<&'a Value> {
    match spellings.get(field) {
        Some(spelling) if spelling.sent.as_ref() == local => spelling.held.as_ref(),
        _ => local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Option<Value> {
        Some(Value::Text(value.to_owned()))
    }

    #[test]
    fn a_merge_takes_the_side_that_changed() {
        let (a, b, c) = (text("a"), text("b"), text("c"));
        let merged = |base, local, remote| merge(Option::as_ref(base), Option::as_ref(local), Option::as_ref(remote));
        assert_eq!(merged(&a, &a, &a), Merged::Same);
        assert_eq!(merged(&a, &b, &b), Merged::Same);
        assert_eq!(merged(&a, &b, &a), Merged::KeepLocal);
        assert_eq!(merged(&a, &a, &b), Merged::TakeRemote);
        assert_eq!(merged(&a, &b, &c), Merged::Conflict);
        assert_eq!(merged(&a, &None, &c), Merged::Conflict);
        assert_eq!(merged(&None, &None, &c), Merged::TakeRemote);
    }

    #[test]
    fn a_known_spelling_is_no_difference() {
        let local = Profile::default().with(Field::Email, Value::Text("Ada@X".to_owned()));
        let base = Profile::default().with(Field::Email, Value::Text("ada@x".to_owned()));
        let spellings = Spellings::from([(Field::Email, Spelling { sent: text("Ada@X"), held: text("ada@x") })]);
        assert!(differences(&local, &base, &spellings).is_empty());
        assert!(!differences(&local, &base, &Spellings::new()).is_empty());
    }
}
