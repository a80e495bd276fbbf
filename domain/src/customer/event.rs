//! What has happened to a customer. Every event's JSON is pinned: old history must stay readable.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use cqrs_es::persist::EventUpcaster;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Field, GatewayName, Policy, Profile, RemoteId, Value};

/// Something that happened to a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CustomerEvent {
    /// It came into being.
    Created {
        /// With these fields.
        profile: Profile,
        /// When.
        at: DateTime<Utc>,
    },
    /// Some fields changed.
    Updated {
        /// Which, from what, to what.
        #[serde(deserialize_with = "changes")]
        changes: Changes,
        /// When.
        at: DateTime<Utc>,
    },
    /// It was deleted.
    Deleted {
        /// When.
        at: DateTime<Utc>,
    },
    /// What was known of it is blank now in all events before this one.
    Erased {
        /// When.
        at: DateTime<Utc>,
    },
    /// A gateway knows it.
    Linked {
        /// Where.
        gateway: GatewayName,
        /// Under which id.
        remote_id: RemoteId,
        /// When.
        at: DateTime<Utc>,
    },
    /// A gateway is no longer kept in step.
    Unlinked {
        /// Where.
        gateway: GatewayName,
        /// Under which id it was known.
        remote_id: RemoteId,
        /// When.
        at: DateTime<Utc>,
    },
    /// Two people, who had not seen each other's value, edited one field, and a person shall decide. Again for one that is
    /// open already: its values are these now.
    ConflictOpened(Box<OpenContest>),
    /// Two people, who had not seen each other's value, edited one field. Both values stay readable here.
    ConflictResolved(Box<Contest>),
}

/// The changed fields of an update, those of a later version, too.
pub type Changes = BTreeMap<Field, Change>;

fn changes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Changes, D::Error> {
    let changes = Changes::deserialize(deserializer)?;
    let fits = |(field, change): &(&Field, &Change)| {
        [&change.before, &change.after].into_iter().flatten().all(|value| value.fits(field))
    };
    match changes.iter().find(|one| !fits(one)) {
        Some((field, _)) => Err(D::Error::custom(format!("{field} has a value of another kind"))),
        None => Ok(changes),
    }
}

/// One field's change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its value before.
    pub before: Option<Value>,
    /// Its value after.
    pub after: Option<Value>,
    /// When a person chose the new value.
    pub edited_at: DateTime<Utc>,
    /// No person chose it: it is a remote's spelling of what one chose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

impl Change {
    /// A value that a person chose.
    pub fn edit(before: Option<Value>, after: Option<Value>, edited_at: DateTime<Utc>) -> Self {
        Self { before, after, edited_at, adopted: false }
    }
}

/// A conflict on one field, and who won.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contest {
    /// Between the catalog and which gateway.
    pub gateway: GatewayName,
    /// On which field.
    pub field: Field,
    /// The catalog's value.
    pub catalog: Side,
    /// The gateway's.
    pub remote: Side,
    /// Whose value stands.
    pub winner: Winner,
    /// By which rule.
    pub policy: Policy,
    /// When it was decided.
    pub at: DateTime<Utc>,
}

/// A conflict on one field that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenContest {
    /// Between the catalog and which gateway.
    pub gateway: GatewayName,
    /// On which field.
    pub field: Field,
    /// The catalog's value.
    pub catalog: Side,
    /// The gateway's.
    pub remote: Side,
    /// A call of ours had written over the gateway's value before anybody had seen it: both sides hold the catalog's, and
    /// the field goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwritten: bool,
    /// When it was found.
    pub at: DateTime<Utc>,
}

/// One side of a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The value; `None` is unset.
    pub value: Option<Value>,
    /// When a person chose it, as far as is known.
    pub edited_at: Option<DateTime<Utc>>,
}

/// Whose value stands after a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Winner {
    /// The catalog's.
    Catalog,
    /// The gateway's.
    Gateway,
    /// Neither: the customer was deleted.
    Deletion,
    /// Neither: a person chose a third one.
    Value,
}

impl DomainEvent for CustomerEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Created { .. } => "created",
            Self::Updated { .. } => "updated",
            Self::Deleted { .. } => "deleted",
            Self::Erased { .. } => "erased",
            Self::Linked { .. } => "linked",
            Self::Unlinked { .. } => "unlinked",
            Self::ConflictOpened(_) => "conflict_opened",
            Self::ConflictResolved(_) => "conflict_resolved",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

/// What makes yesterday's events readable today. None yet: every event is of its first version.
pub fn upcasters() -> Vec<Box<dyn EventUpcaster>> {
    vec![]
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::fixtures::*;
    use super::*;
    use crate::Address;

    fn json(event: &CustomerEvent) -> String {
        serde_json::to_string(event).unwrap()
    }

    #[test]
    fn a_created_event_reads_as_ever() {
        let address =
            Address { line1: Some("1 Main St".to_owned()), country: Some("GB".to_owned()), ..Address::default() };
        let profile =
            ada().with(Field::Address, Value::Address(address)).with(Field::Metadata("plan".to_owned()), text("pro"));
        assert_snapshot!(json(&created(profile)), @r#"{"type":"created","profile":{"name":"Ada","email":"ada@old.example","address":{"line1":"1 Main St","country":"GB"},"metadata.plan":"pro"},"at":"2023-11-14T22:13:20Z"}"#);
    }

    #[test]
    fn an_updated_event_reads_as_ever() {
        assert_snapshot!(json(&updated(Field::Email, Some("ada@old.example"), None)), @r#"{"type":"updated","changes":{"email":{"before":"ada@old.example","after":null,"edited_at":"2023-11-14T22:13:20Z"}},"at":"2023-11-14T22:13:20Z"}"#);
    }

    #[test]
    fn an_adopted_value_is_marked() {
        let change = Change { before: Some(text("Ada@X")), after: Some(text("ada@x")), edited_at: at(), adopted: true };
        let event = CustomerEvent::Updated { changes: Changes::from([(Field::Email, change)]), at: at() };
        assert_snapshot!(json(&event), @r#"{"type":"updated","changes":{"email":{"before":"Ada@X","after":"ada@x","edited_at":"2023-11-14T22:13:20Z","adopted":true}},"at":"2023-11-14T22:13:20Z"}"#);
    }

    #[test]
    fn the_other_events_read_as_ever() {
        assert_snapshot!(json(&deleted()), @r#"{"type":"deleted","at":"2023-11-14T22:13:20Z"}"#);
        assert_snapshot!(json(&CustomerEvent::Erased { at: at() }), @r#"{"type":"erased","at":"2023-11-14T22:13:20Z"}"#);
        assert_snapshot!(json(&linked("cus_1")), @r#"{"type":"linked","gateway":"stripe","remote_id":"cus_1","at":"2023-11-14T22:13:20Z"}"#);
        assert_snapshot!(json(&unlinked("cus_1")), @r#"{"type":"unlinked","gateway":"stripe","remote_id":"cus_1","at":"2023-11-14T22:13:20Z"}"#);
    }

    #[test]
    fn a_conflict_keeps_both_values() {
        let contest = Contest {
            gateway: stripe(),
            field: Field::Name,
            catalog: Side { value: Some(text("Ada")), edited_at: Some(at()) },
            remote: Side { value: Some(text("Ada L.")), edited_at: None },
            winner: Winner::Catalog,
            policy: Policy::Latest,
            at: at(),
        };
        assert_snapshot!(json(&CustomerEvent::ConflictResolved(Box::new(contest))), @r#"{"type":"conflict_resolved","gateway":"stripe","field":"name","catalog":{"value":"Ada","edited_at":"2023-11-14T22:13:20Z"},"remote":{"value":"Ada L.","edited_at":null},"winner":"catalog","policy":"latest","at":"2023-11-14T22:13:20Z"}"#);
    }

    #[test]
    fn an_open_conflict_has_both_values() {
        assert_snapshot!(json(&opened(Field::Phone, Some("1"), Some("2"))), @r#"{"type":"conflict_opened","gateway":"stripe","field":"phone","catalog":{"value":"1","edited_at":"2023-11-14T22:13:20Z"},"remote":{"value":"2","edited_at":"2023-11-14T22:14:20Z"},"at":"2023-11-14T22:14:20Z"}"#);
    }

    #[test]
    fn every_event_reads_back_as_it_was() {
        for event in [
            created(ada()),
            updated(Field::Phone, None, Some("1")),
            deleted(),
            CustomerEvent::Erased { at: at() },
            linked("cus_1"),
            unlinked("cus_1"),
            opened(Field::Phone, None, Some("2")),
        ] {
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(
                (json["type"].as_str(), event.event_version().as_str()),
                (Some(event.event_type().as_str()), "1.0")
            );
            assert_eq!(serde_json::from_value::<CustomerEvent>(json).unwrap(), event);
        }
    }
}
