//! Stored events of any bytes: they are read or refused; what is read can be written, read again, and applied.

use cqrs_es::Aggregate;

use crate::{Customer, CustomerEvent};

/// Plays stored events, one a line.
///
/// # Panics
/// When an event does not read back as it was written.
pub fn events(bytes: &[u8]) {
    let mut customer = Customer::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(event) = serde_json::from_slice::<CustomerEvent>(line) else { continue };
        let written = serde_json::to_vec(&event).unwrap_or_default();
        let read = serde_json::from_slice::<CustomerEvent>(&written).ok();
        assert_eq!(read.as_ref(), Some(&event));
        customer.apply(event);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_fuzzer_found_is_read_or_refused() {
        for found in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/events")).unwrap() {
            super::events(&std::fs::read(found.unwrap().path()).unwrap());
        }
    }
}
