//! Erasing what is known of a deleted customer.

use chrono::{DateTime, Utc};

use super::{Changes, Contest, Customer, CustomerError, CustomerEvent, OpenContest, Side};
use crate::Profile;

/// Be erased: that it was there stays known, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erase {
    /// When.
    pub at: DateTime<Utc>,
}

impl Customer {
    /// Only of the dead; each time anew, since something may have been told of it after the last time.
    pub(super) fn erase(&self, Erase { at }: Erase) -> Result<Vec<CustomerEvent>, CustomerError> {
        match self {
            Self::Unborn => Err(CustomerError::Unborn),
            Self::Active { .. } => Err(CustomerError::Alive),
            Self::Deleted { .. } => Ok(vec![CustomerEvent::Erased { at }]),
        }
    }
}

impl CustomerEvent {
    /// The event without what it says about a person: what happened stays, and when, and of a conflict the field.
    #[must_use]
    pub fn blanked(self) -> Self {
        let side = |side: Side| Side { value: None, edited_at: side.edited_at };
        match self {
            Self::Created { profile: _, at } => Self::Created { profile: Profile::default(), at },
            Self::Updated { changes: _, at } => Self::Updated { changes: Changes::new(), at },
            Self::ConflictOpened(contest) => {
                let OpenContest { gateway, field, catalog, remote, overwritten, at } = *contest;
                let (catalog, remote) = (side(catalog), side(remote));
                Self::ConflictOpened(Box::new(OpenContest { gateway, field, catalog, remote, overwritten, at }))
            }
            Self::ConflictResolved(contest) => {
                let Contest { gateway, field, catalog, remote, winner, policy, at } = *contest;
                let (catalog, remote) = (side(catalog), side(remote));
                Self::ConflictResolved(Box::new(Contest { gateway, field, catalog, remote, winner, policy, at }))
            }
            says_nothing @ (Self::Deleted { at: _ }
            | Self::Erased { at: _ }
            | Self::Linked { gateway: _, remote_id: _, at: _ }
            | Self::Unlinked { gateway: _, remote_id: _, at: _ }) => says_nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use crate::{Field, Overwritten, Sight, Spelling, Winner};

    #[test]
    fn only_a_deleted_customer_is_erased() {
        let erased = CustomerEvent::Erased { at: later() };
        given([created(ada()), deleted()]).when(erase()).then_expect_events(vec![erased.clone()]);
        given([created(ada()), deleted(), erased.clone()]).when(erase()).then_expect_events(vec![erased]);
        given([created(ada())]).when(erase()).then_expect_error(CustomerError::Alive);
        given([]).when(erase()).then_expect_error(CustomerError::Unborn);
    }

    #[test]
    fn what_was_known_before_is_no_longer_known() {
        let customer = customer([created(ada()), deleted(), CustomerEvent::Erased { at: later() }]);
        assert_eq!(customer.profile(), Some(&Profile::default()));
    }

    #[test]
    fn a_blanked_history_can_be_read_and_says_nothing_about_the_person() {
        let history = [
            created(ada()),
            linked("cus_1"),
            updated(Field::Phone, None, Some("ada")),
            opened(Field::Phone, Some("ada"), Some("ada")),
            contest(Field::Name, (Some("ada"), Some(at())), (None, None), Winner::Catalog),
            deleted(),
        ];
        for event in history {
            let blank = event.clone().blanked();
            let said = serde_json::to_string(&blank).unwrap();
            assert!(!said.to_lowercase().contains("ada"), "{said}");
            assert_eq!(cqrs_es::DomainEvent::event_type(&blank), cqrs_es::DomainEvent::event_type(&event));
            assert_eq!(blank.clone().blanked(), blank);
        }
    }

    /// Fails where what is told late is compared with what is blank: each value would be news.
    #[test]
    fn an_erased_customer_takes_in_no_value_whatever_it_is_told() {
        let erased = || [created(ada()), linked("cus_1"), deleted(), CustomerEvent::Erased { at: later() }];
        let text_of = |value: &str| Some(text(value));
        let mut wrote_over = observation(ada(), present(ada()));
        wrote_over.overwritten.push(Overwritten {
            field: Field::Name,
            sent: text_of("Ada"),
            held: text_of("Ada"),
            sent_edited_at: Some(at()),
            previous: Side { value: text_of("Countess"), edited_at: None },
        });
        let mut respelled = observation(Profile::default(), Sight::Gone { last: Some(ada()) });
        respelled.spellings.insert(Field::Email, Spelling { sent: text_of("Ada@X"), held: text_of("ada@x") });
        for told in [
            observed(Profile::default(), ada()),
            observed(ada(), ada().with(Field::Phone, text("1"))),
            gone(Profile::default(), Some(ada())),
            command(wrote_over.clone()),
            command(respelled),
            update(Field::Phone, None),
        ] {
            let events = customer(erased()).decide(told.clone()).unwrap_or_default();
            assert_eq!(events, vec![], "{told:?}");
        }
        wrote_over.sight = Sight::Gone { last: Some(ada()) };
        given(erased()).when(leave(wrote_over)).then_expect_events(vec![unlinked("cus_1")]);
        given([created(ada()), deleted(), CustomerEvent::Erased { at: later() }])
            .when(observed(Profile::default(), ada()))
            .then_expect_events(vec![linked_later()]);
    }
}
