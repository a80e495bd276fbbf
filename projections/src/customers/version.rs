//! Which events change what a reader sees of a customer.

use tandem_domain::{Customer, CustomerEvent, upcasters};
use tandem_eventlog::{Recorded, RecordedError};

/// The version that a customer with this history is shown at: the number of the last event that changed its fields, or
/// deleted it. 0 if there is none.
///
/// # Errors
/// An event cannot be read.
pub fn version_shown(history: &[Recorded]) -> Result<u64, RecordedError> {
    let upcasters = upcasters();
    for recorded in history.iter().rev() {
        if shows(&recorded.event::<Customer>(&upcasters)?) {
            return Ok(recorded.version);
        }
    }
    Ok(0)
}

/// Whether the event changes what a reader sees. Who else knows a customer is not what the customer is.
pub fn shows(event: &CustomerEvent) -> bool {
    match event {
        CustomerEvent::Created { .. } | CustomerEvent::Updated { .. } | CustomerEvent::Deleted { .. } => true,
        CustomerEvent::Erased { .. }
        | CustomerEvent::Linked { .. }
        | CustomerEvent::Unlinked { .. }
        | CustomerEvent::ConflictOpened(_)
        | CustomerEvent::ConflictResolved(_) => false,
    }
}
