//! Being known to a gateway.

use chrono::{DateTime, Utc};

use super::{Customer, CustomerError, CustomerEvent, Observe};
use crate::{GatewayName, RemoteId};

/// Be known to a gateway under this id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where.
    pub gateway: GatewayName,
    /// Its name there.
    pub remote_id: RemoteId,
    /// When.
    pub at: DateTime<Utc>,
}

/// No longer be kept in step with a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlink {
    /// Where.
    pub gateway: GatewayName,
    /// The last that was seen of it there: what nobody here had seen stays readable.
    pub last: Option<Box<Observe>>,
    /// When.
    pub at: DateTime<Utc>,
}

impl Customer {
    pub(super) fn link(&self, Link { gateway, remote_id, at }: Link) -> Result<Vec<CustomerEvent>, CustomerError> {
        self.active_profile()?;
        match self.remote_id(&gateway) {
            Some(known) if *known == remote_id => Ok(vec![]),
            Some(_) => Err(CustomerError::LinkedElsewhere(gateway)),
            None => Ok(vec![CustomerEvent::Linked { gateway, remote_id, at }]),
        }
    }

    pub(super) fn unlink(&self, Unlink { gateway, last, at }: Unlink) -> Result<Vec<CustomerEvent>, CustomerError> {
        let Some(local) = self.profile() else { return Err(CustomerError::Unborn) };
        let last = last.filter(|_| !self.is_erased());
        let mut events = last.map_or_else(Vec::new, |last| self.left_behind(&last, local));
        if let Some(remote_id) = self.remote_id(&gateway).cloned() {
            events.push(CustomerEvent::Unlinked { remote_id, gateway, at });
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use crate::{CustomerError, Field, Overwritten, Side, Sight, Winner};

    #[test]
    fn a_customer_is_linked_to_one_remote_object_a_gateway() {
        given([created(ada())]).when(link("cus_1")).then_expect_events(vec![linked("cus_1")]);
        given([created(ada()), linked("cus_1")]).when(link("cus_1")).then_expect_events(vec![]);
        given([created(ada()), linked("cus_1")])
            .when(link("cus_2"))
            .then_expect_error(CustomerError::LinkedElsewhere(stripe()));
    }

    #[test]
    fn a_customer_is_unlinked_once() {
        given([created(ada()), linked("cus_1")]).when(unlink()).then_expect_events(vec![unlinked("cus_1")]);
        given([created(ada()), linked("cus_1"), unlinked("cus_1")]).when(unlink()).then_expect_events(vec![]);
    }

    #[test]
    fn an_unseen_edit_of_what_is_left_behind_becomes_a_conflict() {
        let last = ada().with(Field::Phone, text("2")).with(Field::Name, text("Countess"));
        given([created(ada()), linked("cus_1"), updated(Field::Name, Some("Ada"), Some("Countess"))])
            .when(leave(observation(ada(), Sight::Gone { last: Some(last) })))
            .then_expect_events(vec![
                contest(Field::Phone, (None, None), (Some("2"), None), Winner::Catalog),
                unlinked("cus_1"),
            ]);
    }

    #[test]
    fn an_unseen_edit_that_was_written_over_becomes_a_conflict_though_it_is_left_behind() {
        let previous = Side { value: Some(text("Ada L.")), edited_at: Some(later()) };
        let mut observe = observation(ada(), Sight::Gone { last: None });
        observe.overwritten.push(Overwritten {
            field: Field::Name,
            sent: Some(text("Ada")),
            held: Some(text("Ada")),
            sent_edited_at: Some(at()),
            previous,
        });
        given([created(ada()), linked("cus_1")]).when(leave(observe)).then_expect_events(vec![
            contest(Field::Name, (Some("Ada"), Some(at())), (Some("Ada L."), Some(later())), Winner::Catalog),
            unlinked("cus_1"),
        ]);
    }

    #[test]
    fn a_deleted_customer_can_still_be_unlinked() {
        given([created(ada()), linked("cus_1"), deleted()]).when(unlink()).then_expect_events(vec![unlinked("cus_1")]);
    }
}
