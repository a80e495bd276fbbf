//! An event as a NATS message: CloudEvents 1.0, NATS binding, binary mode.

use crate::feed::Feed;
use crate::recorded::{Recorded, RecordedError};
use async_nats::{HeaderMap, HeaderValue, Message};
use chrono::{DateTime, SecondsFormat};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::str::FromStr;
use uuid::Uuid;

/// What the binding says is not written as it is (as in HTTP's): controls, space, quote, percent; and all beyond ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

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

/// The headers of an event's message.
pub(crate) fn headers(event: &Recorded, feed: &Feed, epoch: Uuid) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: &str, value: &str| {
        let encoded = utf8_percent_encode(value, ENCODED).to_string();
        // Encoded, it has no line breaks: the only thing that a header's value may not have.
        headers.insert(name, HeaderValue::from(encoded));
    };
    set("ce-specversion", "1.0");
    set(ID, &event.event_id.to_string());
    set("ce-type", &format!("tandem.{}.{}", event.aggregate_type, event.event_type));
    set("ce-source", &format!("/tandem/{}", feed.root));
    set(SUBJECT, &event.aggregate_id);
    set(TIME, &event.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true));
    set("ce-datacontenttype", "application/json");
    set(AGGREGATE, &event.aggregate_type);
    set(EVENT, &event.event_type);
    set(EVENT_VERSION, &event.event_version);
    set(POSITION, &event.position.to_string());
    set(VERSION, &event.version.to_string());
    set(ORIGIN, &event.origin);
    set(EPOCH, &epoch.to_string());
    for (name, value) in
        [(CORRELATION, &event.correlation_id), (CAUSATION, &event.causation_id), (TRACEPARENT, &event.traceparent)]
    {
        if let Some(value) = value {
            set(name, value);
        }
    }
    headers
}

/// Reads a message back, and the epoch it was published in.
pub(crate) fn read(message: &Message) -> Result<(Recorded, Uuid), RecordedError> {
    let headers = message.headers.as_ref().ok_or(RecordedError::Header(ID))?;
    parse(headers, &message.payload)
}

pub(crate) fn parse(headers: &HeaderMap, data: &[u8]) -> Result<(Recorded, Uuid), RecordedError> {
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
    Ok((recorded, epoch(headers)?))
}

/// A message's id, the same as its event's.
pub(crate) fn id(headers: &HeaderMap) -> Result<Uuid, RecordedError> {
    parsed(headers, ID)
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
        let epoch = Uuid::from_u128(9);

        let headers = headers(&event, &Feed::default(), epoch);

        assert_eq!(headers.get("ce-type").unwrap().as_str(), "tandem.customer.updated");
        let data = serde_json::to_vec(&event.payload).unwrap();
        assert_eq!(parse(&headers, &data).unwrap(), (event, epoch));
    }
}
