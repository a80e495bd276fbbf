//! An event as a NATS message: CloudEvents 1.0, NATS binding, binary mode.

use crate::feed::Feed;
use crate::mac::{MacKey, Unproved};
use crate::recorded::{Recorded, RecordedError};
use async_nats::{HeaderMap, HeaderValue, Message};
use chrono::{DateTime, SecondsFormat};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::str::FromStr;
use uuid::Uuid;

/// What the binding says is not written as it is (as in HTTP's): controls, space, quote, percent; and all beyond ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

const SPECVERSION: &str = "ce-specversion";
const TYPE: &str = "ce-type";
const SOURCE: &str = "ce-source";
const CONTENT: &str = "ce-datacontenttype";
const ID: &str = "ce-id";
const TIME: &str = "ce-time";
const SUBJECT: &str = "ce-subject";
const POSITION: &str = "Tandem-Position";
const VERSION: &str = "Tandem-Version";
const EVENT: &str = "Tandem-Event";
const EVENT_VERSION: &str = "Tandem-Event-Version";
const AGGREGATE: &str = "Tandem-Aggregate";
const ORIGIN: &str = "Tandem-Origin";
const EPOCH: &str = "Tandem-Epoch";
const CORRELATION: &str = "ce-correlationid";
const CAUSATION: &str = "ce-causationid";
const TRACEPARENT: &str = "traceparent";

/// Proves that the message is the relay's.
pub(crate) const MAC: &str = "Tandem-Mac";

/// The headers that are signed: all of ours. Their order is part of the MAC, and so is their number.
pub(crate) const SIGNED: [&str; 17] = [
    POSITION,
    EPOCH,
    ID,
    AGGREGATE,
    SUBJECT,
    VERSION,
    EVENT,
    EVENT_VERSION,
    TIME,
    ORIGIN,
    CORRELATION,
    CAUSATION,
    TRACEPARENT,
    SPECVERSION,
    TYPE,
    SOURCE,
    CONTENT,
];

/// The headers of an event's message, signed with its data.
pub(crate) fn headers(event: &Recorded, data: &[u8], feed: &Feed, key: &MacKey) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: &str, value: &str| {
        let encoded = utf8_percent_encode(value, ENCODED).to_string();
        // Encoded, it has no line breaks: the only thing that a header's value may not have.
        headers.insert(name, HeaderValue::from(encoded));
    };
    set(SPECVERSION, "1.0");
    set(ID, &event.event_id.to_string());
    set(TYPE, &format!("tandem.{}.{}", event.aggregate_type, event.event_type));
    set(SOURCE, &format!("/tandem/{}", feed.root));
    set(SUBJECT, &event.aggregate_id);
    set(TIME, &event.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true));
    set(CONTENT, "application/json");
    set(AGGREGATE, &event.aggregate_type);
    set(EVENT, &event.event_type);
    set(EVENT_VERSION, &event.event_version);
    set(POSITION, &event.position.to_string());
    set(VERSION, &event.version.to_string());
    set(ORIGIN, &event.origin);
    set(EPOCH, &key.epoch().to_string());
    for (name, value) in
        [(CORRELATION, &event.correlation_id), (CAUSATION, &event.causation_id), (TRACEPARENT, &event.traceparent)]
    {
        if let Some(value) = value {
            set(name, value);
        }
    }
    let mac = key.sign(&headers, data);
    headers.insert(MAC, mac);
    headers
}

/// Why a message is not taken for the event that it says it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It may be anybody's.
    #[error(transparent)]
    Unproved(#[from] Unproved),
    /// It is the relay's, of a version that writes otherwise.
    #[error("the message cannot be read")]
    Unreadable(#[from] RecordedError),
}

/// Reads a message back that is proved to be the relay's.
pub(crate) fn read(message: &Message, key: &MacKey) -> Result<Recorded, Refused> {
    let headers = message.headers.as_ref().ok_or(Unproved::Missing)?;
    key.check_parts(headers, &message.payload)?;
    Ok(parse(headers, &message.payload)?)
}

/// What a message says, whoever made it.
pub(crate) fn parse(headers: &HeaderMap, data: &[u8]) -> Result<Recorded, RecordedError> {
    let recorded = Recorded {
        position: parsed(headers, POSITION)?,
        event_id: parsed(headers, ID)?,
        aggregate_type: text(headers, AGGREGATE)?,
        aggregate_id: text(headers, SUBJECT)?,
        version: parsed(headers, VERSION)?,
        event_type: text(headers, EVENT)?,
        event_version: text(headers, EVENT_VERSION)?,
        payload: serde_json::from_slice(data).map_err(RecordedError::Data)?,
        origin: text(headers, ORIGIN)?,
        correlation_id: text(headers, CORRELATION).ok(),
        causation_id: text(headers, CAUSATION).ok(),
        traceparent: text(headers, TRACEPARENT).ok(),
        recorded_at: DateTime::parse_from_rfc3339(&text(headers, TIME)?)
            .map_err(|_| RecordedError::Header(TIME))?
            .to_utc(),
    };
    Ok(recorded)
}

/// A message's id, the same as its event's.
pub(crate) fn id(headers: &HeaderMap) -> Result<Uuid, RecordedError> {
    parsed(headers, ID)
}

/// The position that a message says it has.
pub(crate) fn position(headers: &HeaderMap) -> Result<u64, RecordedError> {
    parsed(headers, POSITION)
}

/// The epoch that a message was published in.
pub(crate) fn epoch(headers: &HeaderMap) -> Result<Uuid, RecordedError> {
    parsed(headers, EPOCH)
}

fn text(headers: &HeaderMap, name: &'static str) -> Result<String, RecordedError> {
    let value = headers.get(name).ok_or(RecordedError::Header(name))?;
    let decoded = percent_decode_str(value.as_str()).decode_utf8().map_err(|_| RecordedError::Header(name))?;
    Ok(decoded.into_owned())
}

fn parsed<T: FromStr>(headers: &HeaderMap, name: &'static str) -> Result<T, RecordedError> {
    text(headers, name)?.parse().map_err(|_| RecordedError::Header(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;
    use serde_json::json;

    proptest::proptest! {
        #[test]
        fn a_message_of_anything_is_refused(
            values in proptest::collection::vec("[ -~]{0,40}", 13),
            data: Vec<u8>,
        ) {
            let names = [
                POSITION, ID, AGGREGATE, SUBJECT, VERSION, EVENT, EVENT_VERSION, ORIGIN, CORRELATION, CAUSATION,
                TRACEPARENT, TIME, EPOCH,
            ];
            let mut headers = HeaderMap::new();
            for (name, value) in names.into_iter().zip(&values) {
                headers.insert(name, value.as_str());
            }
            proptest::prop_assert!(parse(&headers, &data).is_err());
        }
    }

    #[test]
    fn a_message_reads_back_as_the_event_it_was_made_from() {
        let event = Recorded {
            position: 7,
            event_id: Uuid::from_u128(7),
            aggregate_type: "customer".to_owned(),
            aggregate_id: Uuid::from_u128(1).to_string(),
            version: 2,
            event_type: "updated".to_owned(),
            event_version: "1".to_owned(),
            payload: json!({"name": "Ada"}),
            origin: "api".to_owned(),
            // A client chose it: a line break must not become a header of its own.
            correlation_id: Some("größe 100%\r\nTandem-Origin: stripe".to_owned()),
            causation_id: Some("evt_1".to_owned()),
            traceparent: None,
            recorded_at: chrono::Utc.timestamp_opt(1_700_000_000, 123_456_000).unwrap(),
        };
        let key = MacKey::new(Uuid::from_u128(9), &[7; 32]).unwrap();
        let data = serde_json::to_vec(&event.payload).unwrap();

        let headers = headers(&event, &data, &Feed::default(), &key);

        assert_eq!(headers.get("ce-type").unwrap().as_str(), "tandem.customer.updated");
        assert_eq!(parse(&headers, &data).unwrap(), event);
        assert_eq!(epoch(&headers).unwrap(), key.epoch());
        assert_eq!(key.check_parts(&headers, &data), Ok(()));
        // The MAC's own value is for ever: another would make every stored message a stranger's.
        assert_eq!(
            headers.get(MAC).unwrap().as_str(),
            "66adb0597c64dec9cc65d52a5debe1ec07e6d7e377ad1e305e5eb52490ff47ab"
        );

        // Whatever is changed, taken away or put elsewhere shows.
        for name in SIGNED {
            let mut changed = headers.clone();
            changed.insert(name, "x");
            assert_eq!(key.check_parts(&changed, &data), Err(Unproved::Wrong), "{name}");
            let rest = headers.iter().filter(|(other, _)| other.to_string() != name);
            let rest = rest.map(|(name, values)| (name.clone(), values[0].clone()));
            let rest: HeaderMap = rest.collect();
            if headers.get(name).is_some() {
                assert_eq!(key.check_parts(&rest, &data), Err(Unproved::Wrong), "{name}");
            }
        }
        let mut moved = headers.clone();
        moved.insert(CORRELATION, "evt_1");
        moved.insert(CAUSATION, headers.get(CORRELATION).unwrap().as_str());
        assert_eq!(key.check_parts(&moved, &data), Err(Unproved::Wrong));
        assert_eq!(key.check_parts(&headers, b"{}"), Err(Unproved::Wrong));
        assert_eq!(key.check_parts(&HeaderMap::new(), &data), Err(Unproved::Missing));
        let other = MacKey::new(key.epoch(), &[8; 32]).unwrap();
        assert_eq!(other.check_parts(&headers, &data), Err(Unproved::Wrong));
    }

    #[test]
    fn a_key_is_in_no_debug_output() {
        let key = MacKey::new(Uuid::nil(), b"secretsecretsecretsecretsecretse").unwrap();
        assert_eq!(format!("{key:?}"), "MacKey { epoch: 00000000-0000-0000-0000-000000000000, .. }");
    }
}
