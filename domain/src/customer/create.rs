//! Creating a customer.

use chrono::{DateTime, Utc};

use super::{Customer, CustomerError, CustomerEvent};
use crate::Profile;

/// Come into being with these fields. Name or email must be among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The fields to begin with.
    pub profile: Profile,
    /// When.
    pub at: DateTime<Utc>,
}

impl Customer {
    pub(super) fn create(&self, Create { profile, at }: Create) -> Result<Vec<CustomerEvent>, CustomerError> {
        match self {
            Self::Unborn => {
                profile.check()?;
                Ok(vec![CustomerEvent::Created { profile, at }])
            }
            Self::Active { .. } => Err(CustomerError::Exists),
            Self::Deleted { .. } => Err(CustomerError::Deleted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use crate::{CustomerError, InvalidField, Profile};

    #[test]
    fn a_customer_is_created_with_a_name_and_an_email() {
        given([]).when(create(ada())).then_expect_events(vec![created(ada())]);
    }

    #[test]
    fn an_email_alone_is_enough() {
        let profile = Profile::default().with(crate::Field::Email, text("ada@old.example"));
        given([]).when(create(profile.clone())).then_expect_events(vec![created(profile)]);
    }

    #[test]
    fn a_customer_without_name_and_email_is_refused() {
        given([])
            .when(create(Profile::default()))
            .then_expect_error(InvalidField::new("name", "name or email is required").into());
    }

    #[test]
    fn an_id_is_used_once() {
        given([created(ada())]).when(create(ada())).then_expect_error(CustomerError::Exists);
        given([created(ada()), deleted()]).when(create(ada())).then_expect_error(CustomerError::Deleted);
    }
}
