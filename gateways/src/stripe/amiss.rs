//! What is wrong with a body that is no event to us: which member, and what it must be. Never what it holds.

use miniserde::json::{self, Number, Object, Value};

use super::translate;

/// Says it in words.
pub(super) fn amiss(body: &str) -> String {
    let event = match json::from_str::<Value>(body) {
        Ok(Value::Object(event)) => event,
        Ok(other) => return format!("it is {}, and must be an object", name(Some(&other))),
        Err(_) => return "it is not JSON".to_owned(),
    };
    let wrong = EVENT.iter().find_map(|(path, shape)| shape.misses(at(&event, path)).map(|what| (path, what, shape)));
    wrong.map_or_else(
        || "one of its members cannot be read".to_owned(),
        |(path, what, shape)| format!("`{path}` is {what}, and must be {}", shape.expects()),
    )
}

/// What an event must have, in the order in which it is looked at. A field of the object that is of another shape says nothing, and is no fault.
const EVENT: [(&str, Shape); 9] = [
    ("id", Shape::Text),
    ("type", Shape::Text),
    ("livemode", Shape::BooleanOrNone),
    ("account", Shape::TextOrNone),
    ("created", Shape::Seconds),
    ("data", Shape::Object),
    ("data.object", Shape::Object),
    ("data.object.id", Shape::Text),
    ("data.previous_attributes", Shape::ObjectOrNone),
];

#[derive(Clone, Copy, Debug)]
enum Shape {
    Text,
    TextOrNone,
    BooleanOrNone,
    Seconds,
    Object,
    ObjectOrNone,
}

impl Shape {
    fn expects(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::TextOrNone => "a text, null or absent",
            Self::BooleanOrNone => "true, false, null or absent",
            Self::Seconds => "a time in whole seconds since 1970",
            Self::Object => "an object",
            Self::ObjectOrNone => "an object, null or absent",
        }
    }

    /// What stands there instead, if it is something else.
    fn misses(self, value: Option<&Value>) -> Option<&'static str> {
        let fits = match (self, value) {
            (Self::Text | Self::TextOrNone, Some(Value::String(_)))
            | (Self::BooleanOrNone, Some(Value::Bool(_)))
            | (Self::Object | Self::ObjectOrNone, Some(Value::Object(_)))
            | (Self::TextOrNone | Self::BooleanOrNone | Self::ObjectOrNone, None | Some(Value::Null)) => true,
            (Self::Seconds, Some(Value::Number(seconds))) => {
                if is_time(seconds) {
                    return None;
                }
                return Some("a number that is no such time");
            }
            _ => false,
        };
        (!fits).then(|| name(value))
    }
}

fn is_time(seconds: &Number) -> bool {
    let seconds = match seconds {
        Number::U64(seconds) => i64::try_from(*seconds).ok(),
        Number::I64(seconds) => Some(*seconds),
        Number::F64(_) => None,
    };
    seconds.and_then(translate::time).is_some()
}

fn at<'a>(event: &'a Object, path: &str) -> Option<&'a Value> {
    let mut names = path.split('.');
    let mut value = event.get(names.next()?);
    for name in names {
        value = match value? {
            Value::Object(members) => members.get(name),
            _ => None,
        };
    }
    value
}

fn name(value: Option<&Value>) -> &'static str {
    match value {
        None => "missing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "true or false",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_member_is_named_and_what_it_must_be() {
        let event = |change: fn(&mut serde_json::Value)| {
            let mut event = json!({
                "id": "evt_1", "type": "customer.updated", "created": 1_700_000_000,
                "data": { "object": { "id": "cus_1", "email": "ada@old.example", "metadata": { "a": "b" } } }
            });
            change(&mut event);
            amiss(&event.to_string())
        };
        assert_eq!(event(|event| event["type"] = json!(null)), "`type` is null, and must be a text");
        assert_eq!(
            event(|event| event["created"] = json!("yesterday")),
            "`created` is a text, and must be a time in whole seconds since 1970"
        );
        assert_eq!(
            event(|event| event["created"] = json!(1.5)),
            "`created` is a number that is no such time, and must be a time in whole seconds since 1970"
        );
        assert_eq!(
            event(|event| event["data"]["object"] = json!({})),
            "`data.object.id` is missing, and must be a text"
        );
        assert_eq!(
            event(|event| event["data"]["previous_attributes"] = json!(["ada@old.example"])),
            "`data.previous_attributes` is a list, and must be an object, null or absent"
        );
        assert_eq!(amiss("[]"), "it is a list, and must be an object");
        assert_eq!(amiss("{"), "it is not JSON");
    }
}
