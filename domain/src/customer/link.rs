//! Being known to a gateway.

use chrono::{DateTime, Utc};

use super::{Customer, CustomerError, CustomerEvent};
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

    pub(super) fn unlink(&self, Unlink { gateway, at }: Unlink) -> Result<Vec<CustomerEvent>, CustomerError> {
        match (self, self.remote_id(&gateway)) {
            (Self::Unborn, _) => Err(CustomerError::Unborn),
            (_, None) => Ok(vec![]),
            (_, Some(remote_id)) => Ok(vec![CustomerEvent::Unlinked { remote_id: remote_id.clone(), gateway, at }]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use crate::CustomerError;

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
    fn a_deleted_customer_can_still_be_unlinked() {
        given([created(ada()), linked("cus_1"), deleted()]).when(unlink()).then_expect_events(vec![unlinked("cus_1")]);
    }
}
