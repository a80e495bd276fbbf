//! Changing a customer's fields.

use chrono::{DateTime, Utc};

use super::{Change, Changes, Customer, CustomerError, CustomerEvent};
use crate::{InvalidField, Patch};

/// Set or unset some fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Which, and to what.
    pub patch: Patch,
    /// When.
    pub at: DateTime<Utc>,
}

impl Customer {
    /// Setting what is already so changes nothing: an echo of our own change ends here.
    pub(super) fn update(&self, Update { patch, at }: Update) -> Result<Vec<CustomerEvent>, CustomerError> {
        let profile = self.active_profile()?;
        let changes: Changes = patch
            .iter()
            .filter(|(field, after)| profile.get(field) != *after)
            .map(|(field, after)| (field.clone(), Change::edit(profile.get(field).cloned(), after.cloned(), at)))
            .collect();
        if changes.is_empty() {
            return Ok(vec![]);
        }
        // Only what this change touches is checked: a remote may have filled the rest under other rules.
        let broken: Vec<InvalidField> = changes
            .iter()
            .filter_map(|(field, change)| Some(field.broken_by(change.before.as_ref(), change.after.as_ref()?)))
            .flatten()
            .collect();
        if !broken.is_empty() {
            return Err(CustomerError::Invalid(broken));
        }
        patch.applied_to(profile).check_not_worse_than(profile)?;
        let mut events = self.after_edits(&changes, None, at);
        events.push(CustomerEvent::Updated { changes, at });
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use crate::{CustomerError, Field, InvalidField, METADATA_KEYS, Patch};

    #[test]
    fn a_changed_field_is_recorded_with_its_value_before_and_after() {
        given([created(ada())]).when(update(Field::Email, Some("ada@new.example"))).then_expect_events(vec![updated(
            Field::Email,
            Some("ada@old.example"),
            Some("ada@new.example"),
        )]);
    }

    #[test]
    fn setting_what_is_already_so_makes_no_event() {
        given([created(ada())]).when(update(Field::Email, Some("ada@old.example"))).then_expect_events(vec![]);
        given([created(ada())]).when(update(Field::Phone, None)).then_expect_events(vec![]);
    }

    #[test]
    fn a_field_can_be_unset() {
        given([created(ada())]).when(update(Field::Email, None)).then_expect_events(vec![updated(
            Field::Email,
            Some("ada@old.example"),
            None,
        )]);
    }

    #[test]
    fn name_and_email_cannot_both_be_unset() {
        given([created(ada()), updated(Field::Name, Some("Ada"), None)])
            .when(update(Field::Email, None))
            .then_expect_error(InvalidField::new("name", "name or email is required").into());
    }

    #[test]
    fn every_value_that_breaks_a_rule_is_told_and_what_stays_is_not_looked_at() {
        let at_stripe = "not an email";
        let odd = ada().with(Field::Email, text(at_stripe));
        let given = || given([created(odd.clone())]);
        let change = |phone: &str| {
            Patch::default()
                .with(Field::Email, Some(text(at_stripe)))
                .with(Field::Phone, Some(text(phone)))
                .with(Field::Name, Some(text(phone)))
        };
        let Err(CustomerError::Invalid(broken)) = given().when(patch(change(" "))).inspect_result() else {
            panic!("blank")
        };
        assert_eq!(broken.iter().map(|broken| broken.field.as_str()).collect::<Vec<_>>(), ["name", "phone"]);
        assert!(given().when(patch(change("7"))).inspect_result().is_ok());
    }

    #[test]
    fn a_metadata_key_too_many_is_refused() {
        let full =
            (0..METADATA_KEYS).fold(ada(), |profile, n| profile.with(Field::Metadata(format!("k{n}")), text("v")));
        given([created(full)])
            .when(update(Field::Metadata("one_more".to_owned()), Some("v")))
            .then_expect_error(InvalidField::new("metadata", format!("at most {METADATA_KEYS} keys")).into());
    }

    #[test]
    fn a_deleted_customer_refuses_updates() {
        given([created(ada()), deleted()])
            .when(update(Field::Email, Some("ada@new.example")))
            .then_expect_error(CustomerError::Deleted);
    }

    #[test]
    fn an_unborn_customer_cannot_be_updated() {
        given([]).when(update(Field::Email, Some("ada@new.example"))).then_expect_error(CustomerError::Unborn);
    }

    #[test]
    fn an_empty_patch_makes_no_event() {
        given([created(ada())]).when(patch(Patch::default())).then_expect_events(vec![]);
    }
}
