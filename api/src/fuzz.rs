//! What clients send, of any bytes: it is taken or refused.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tandem_domain::Profile;
use tandem_loopback::is_local;

use crate::customer_patch::{CustomerPatch, NewCustomer};
use crate::precondition::IfMatch;

/// Plays the body of a request that creates or changes a customer.
///
/// # Panics
/// When what was taken breaks a rule of the domain.
pub fn body(bytes: &[u8]) {
    if let Ok(new) = serde_json::from_slice::<NewCustomer>(bytes)
        && let Ok(profile) = new.parse()
    {
        assert!(profile.check().is_ok(), "{profile:?}");
    }
    if let Ok(patch) = serde_json::from_slice::<CustomerPatch>(bytes) {
        let profile = patch.against(&Profile::default()).applied_to(&Profile::default());
        let again = patch.against(&profile).applied_to(&profile);
        assert_eq!(profile, again, "the same change twice is one change");
    }
}

/// Plays the headers of a request, one a line as `name: value`.
///
/// # Panics
/// When another site's name is taken for this machine's.
pub fn headers(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(colon) = line.windows(2).position(|pair| pair == b": ") else { continue };
        let (name, value) = (&line[..colon], &line[colon + 2..]);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let _ = IfMatch::read(&headers);
    let local = is_local(&Uri::from_static("/customers"), &headers);
    for name in ["host", "origin"] {
        let foreign = headers.get_all(name).iter().any(|value| {
            let value = String::from_utf8_lossy(value.as_bytes()).to_lowercase();
            value.contains('@')
                || !["localhost", "127.", "[::1]", "[::ffff:127."].iter().any(|ours| value.contains(ours))
                    && !value.contains("[0:")
        });
        assert!(!(local && foreign), "{headers:?}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_fuzzer_found_is_taken_or_refused() {
        for (target, play) in [("body", super::body as fn(&[u8])), ("headers", super::headers)] {
            let corpus = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
            for found in std::fs::read_dir(corpus).unwrap() {
                play(&std::fs::read(found.unwrap().path()).unwrap());
            }
        }
    }
}
