//! Erasing what is known of a deleted customer.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{Customer, CustomerError, CustomerEvent};

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

/// An event's payload without what it says about a person. It can still be read: what happened stays, and when, and of a
/// conflict the field.
pub fn blanked(event_type: &str, mut payload: Value) -> Value {
    let emptied = match event_type {
        "created" => Some("profile"),
        "updated" => Some("changes"),
        _ => None,
    };
    if let Some(emptied) = emptied {
        payload[emptied] = Value::Object(Map::new());
    }
    for side in ["catalog", "remote"] {
        if let Some(value) = payload.get_mut(side).and_then(|side| side.get_mut("value")) {
            *value = Value::Null;
        }
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use crate::{Field, Profile, Winner};

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
            let payload = serde_json::to_value(&event).unwrap();
            let kind = payload["type"].as_str().unwrap().to_owned();
            let blank = blanked(&kind, payload);
            assert!(!blank.to_string().to_lowercase().contains("ada"), "{blank}");
            let read: CustomerEvent = serde_json::from_value(blank.clone()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), blank, "{kind}");
        }
    }
}
