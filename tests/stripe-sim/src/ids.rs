//! Identifiers in Stripe's shapes.

use rand::distr::{Alphanumeric, SampleString};

pub(crate) fn customer() -> String {
    random("cus_", 14)
}

pub(crate) fn event() -> String {
    random("evt_1", 23)
}

pub(crate) fn request() -> String {
    random("req_", 14)
}

pub(crate) fn endpoint() -> String {
    random("we_1", 23)
}

pub(crate) fn endpoint_secret() -> String {
    random("whsec_", 32)
}

/// Eight characters in capitals, which Stripe puts before the numbers of a customer's invoices.
pub(crate) fn invoice_prefix() -> String {
    random("", 8).to_ascii_uppercase()
}

fn random(prefix: &str, length: usize) -> String {
    let mut id = String::with_capacity(prefix.len() + length);
    id.push_str(prefix);
    Alphanumeric.append_string(&mut rand::rng(), &mut id, length);
    id
}
