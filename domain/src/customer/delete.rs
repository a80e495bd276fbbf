//! Deleting a customer.

use chrono::{DateTime, Utc};

use super::{Customer, CustomerError, CustomerEvent};

/// Be deleted, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// When.
    pub at: DateTime<Utc>,
}

impl Customer {
    /// Deleting what is deleted changes nothing.
    pub(super) fn delete(&self, Delete { at }: Delete) -> Result<Vec<CustomerEvent>, CustomerError> {
        match self {
            Self::Unborn => Err(CustomerError::Unborn),
            Self::Active { .. } => Ok(vec![CustomerEvent::Deleted { at }]),
            Self::Deleted { .. } => Ok(vec![]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use crate::CustomerError;

    #[test]
    fn a_customer_is_deleted_once() {
        given([created(ada())]).when(delete()).then_expect_events(vec![deleted()]);
        given([created(ada()), deleted()]).when(delete()).then_expect_events(vec![]);
    }

    #[test]
    fn an_unborn_customer_cannot_be_deleted() {
        given([]).when(delete()).then_expect_error(CustomerError::Unborn);
    }
}
