//! What Stripe sends, of any bytes: it is read or refused.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::Sha256;

use super::refusal::Refusal;
use super::webhook::Webhooks;
use super::{translate, wire};

const SECRET: &str = "whsec_fuzz";

/// Plays the body of a genuine webhook. Without its signature it is refused.
///
/// # Panics
/// When it is taken unsigned.
pub fn webhook(body: &[u8]) {
    let webhooks = Webhooks::new(vec![SECRET.into()], None, Some(false));
    let now = DateTime::<Utc>::UNIX_EPOCH;
    assert!(webhooks.verify(&HeaderMap::new(), body, now).is_err());
    // A key of any length will do for an HMAC.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()) else { return };
    let signature = hex::encode(mac.chain_update(b"0.").chain_update(body).finalize().into_bytes());
    let Ok(signature) = HeaderValue::from_str(&format!("t=0,v1={signature}")) else { return };
    let headers = HeaderMap::from_iter([(HeaderName::from_static("stripe-signature"), signature)]);
    let _ = webhooks.verify(&headers, body, now);
}

/// Plays an answer: two bytes of status, then a body, which may be a refusal or an object.
pub fn answer(bytes: &[u8]) {
    let Some((status, body)) = bytes.split_first_chunk() else { return };
    let status = 200 + u16::from_le_bytes(*status) % 400;
    let Ok(status) = StatusCode::from_u16(status) else { return };
    for write in [true, false] {
        let _ = Refusal::read(status, &HeaderMap::new(), body).into_error(write);
    }
    if let Ok(body) = std::str::from_utf8(body)
        && let Ok(object) = miniserde::json::from_str::<miniserde::json::Object>(body)
        && let Some(customer) = wire::Customer::read(&object)
    {
        let _ = translate::object(&customer);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_fuzzer_found_is_read_or_refused() {
        for (target, play) in [("webhook", super::webhook as fn(&[u8])), ("answer", super::answer)] {
            let corpus = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
            for found in std::fs::read_dir(corpus).unwrap() {
                play(&std::fs::read(found.unwrap().path()).unwrap());
            }
        }
    }
}
