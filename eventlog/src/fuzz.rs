//! Messages of any bytes: they are read or refused, and what is read is published as the same message.

use async_nats::{HeaderMap, HeaderName, HeaderValue};

use crate::cloudevent::{headers, parse};
use crate::feed::Feed;
use crate::mac::MacKey;
use uuid::Uuid;

/// Plays one message: headers, one a line as `name: value`, an empty line, a payload.
///
/// # Panics
/// When an event does not read back from the message that is made of it.
pub fn message(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, payload) = (&bytes[..end], bytes.get(end + 2..).unwrap_or_default());
    let mut sent = HeaderMap::new();
    for line in String::from_utf8_lossy(head).lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            sent.insert(name, value);
        }
    }
    let Ok(event) = parse(&sent, payload) else { return };
    let data = serde_json::to_vec(&event.payload).unwrap_or_default();
    let Ok(key) = MacKey::new(Uuid::nil(), &[0; 32]) else { return };
    let made = headers(&event, &data, &Feed::default(), &key);
    assert_eq!(key.check_parts(&made, &data), Ok(()));
    assert_eq!(parse(&made, &data).ok(), Some(event));
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_fuzzer_found_is_read_or_refused() {
        for found in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/message")).unwrap() {
            super::message(&std::fs::read(found.unwrap().path()).unwrap());
        }
    }
}
