//! An event as it is written.

use std::collections::BTreeMap;

use serde::Serialize;
use tandem_domain::{Contest, Customer, CustomerEvent, OpenContest, Policy, Side, Value, Winner, upcasters};
use tandem_eventlog::{Recorded, RecordedError};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::customer_body::{AddressBody, Timestamp};

/// Something that happened to a customer.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventBody {
    /// Its place in the feed, from 1 and without gaps; null for a moment after it happened.
    position: Option<u64>,
    /// Its id, also in the feed (`ce-id`).
    id: Uuid,
    /// Whom it happened to.
    customer_id: String,
    /// Its number among the customer's events, from 1.
    version: u64,
    /// What happened: `created`, `updated`, `deleted`, `erased`, `linked`, `unlinked`, `conflict_opened`, `conflict_resolved`.
    r#type: String,
    /// When it happened.
    at: Timestamp,
    /// When it was stored.
    recorded_at: Timestamp,
    /// Who caused it: `api`, or a gateway's name.
    origin: String,
    /// What it follows from: of a change from Stripe, the id of Stripe's event.
    causation_id: Option<String>,
    /// What events of one story share: of a change through the API, the request's id.
    correlation_id: Option<String>,
    /// The changed fields, by name (`email`, `metadata.plan`).
    changes: BTreeMap<String, ChangeBody>,
    /// The gateway that a link or a conflict is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    gateway: Option<String>,
    /// What that gateway calls the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    remote_id: Option<String>,
    /// The conflict that waits for a person, or was resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    conflict: Option<ConflictBody>,
}

/// One field's change.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Change)]
pub(crate) struct ChangeBody {
    /// Its value before; null: it was unset.
    before: Option<ValueBody>,
    /// Its value after; null: it is unset.
    after: Option<ValueBody>,
}

/// A field's value.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Value)]
pub(crate) enum ValueBody {
    /// A text.
    Text(String),
    /// An address.
    Address(AddressBody),
    /// What a field holds that a later version of Tandem wrote.
    Other(serde_json::Value),
}

/// Two edits of one field, made without knowing of each other. Both values stay readable here.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Conflict)]
pub(crate) struct ConflictBody {
    /// The field.
    field: String,
    /// The catalog's side.
    catalog: SideBody,
    /// The gateway's side.
    remote: SideBody,
    /// Whose value stands: `catalog`, `gateway`, a third one (`value`), or none (`deletion`); null while it waits.
    winner: Option<&'static str>,
    /// By which rule: `latest`, `catalog`, `gateway`, or `ask` (a person's decision).
    policy: &'static str,
}

/// One side of a conflict.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Side)]
pub(crate) struct SideBody {
    /// Its value; null: unset.
    value: Option<ValueBody>,
    /// When somebody chose it, as far as is known.
    edited_at: Option<Timestamp>,
}

impl EventBody {
    /// # Errors
    /// The event cannot be read by this version of the program.
    pub(crate) fn of(recorded: &Recorded) -> Result<Self, RecordedError> {
        let event = recorded.event::<Customer>(&upcasters())?;
        let mut body = Self {
            position: Some(recorded.position).filter(|position| *position > 0),
            id: recorded.event_id,
            customer_id: recorded.aggregate_id.clone(),
            version: recorded.version,
            r#type: recorded.event_type.clone(),
            at: Timestamp(recorded.recorded_at),
            recorded_at: Timestamp(recorded.recorded_at),
            origin: recorded.origin.clone(),
            causation_id: recorded.causation_id.clone(),
            correlation_id: recorded.correlation_id.clone(),
            changes: BTreeMap::new(),
            gateway: None,
            remote_id: None,
            conflict: None,
        };
        match event {
            CustomerEvent::Created { profile, at } => {
                body.at = Timestamp(at);
                body.changes = profile
                    .all()
                    .map(|(field, value)| {
                        (field.to_string(), ChangeBody { before: None, after: Some(value.clone().into()) })
                    })
                    .collect();
            }
            CustomerEvent::Updated { changes, at } => {
                body.at = Timestamp(at);
                body.changes = changes
                    .into_iter()
                    .map(|(field, change)| {
                        let (before, after) = (change.before.map(Into::into), change.after.map(Into::into));
                        (field.to_string(), ChangeBody { before, after })
                    })
                    .collect();
            }
            CustomerEvent::Deleted { at } | CustomerEvent::Erased { at } => body.at = Timestamp(at),
            CustomerEvent::Linked { gateway, remote_id, at } | CustomerEvent::Unlinked { gateway, remote_id, at } => {
                body.at = Timestamp(at);
                body.gateway = Some(gateway.to_string());
                body.remote_id = Some(remote_id.to_string());
            }
            CustomerEvent::ConflictOpened(contest) => {
                body.at = Timestamp(contest.at);
                body.gateway = Some(contest.gateway.to_string());
                body.conflict = Some((*contest).into());
            }
            CustomerEvent::ConflictResolved(contest) => {
                body.at = Timestamp(contest.at);
                body.gateway = Some(contest.gateway.to_string());
                body.conflict = Some((*contest).into());
            }
        }
        Ok(body)
    }
}

impl From<Value> for ValueBody {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(text),
            Value::Address(address) => Self::Address(address.into()),
            Value::Other(json) => Self::Other(json),
        }
    }
}

impl From<Side> for SideBody {
    fn from(Side { value, edited_at }: Side) -> Self {
        Self { value: value.map(Into::into), edited_at: edited_at.map(Timestamp) }
    }
}

impl From<OpenContest> for ConflictBody {
    fn from(contest: OpenContest) -> Self {
        Self {
            field: contest.field.to_string(),
            catalog: contest.catalog.into(),
            remote: contest.remote.into(),
            winner: None,
            policy: "ask",
        }
    }
}

impl From<Contest> for ConflictBody {
    fn from(contest: Contest) -> Self {
        Self {
            field: contest.field.to_string(),
            catalog: contest.catalog.into(),
            remote: contest.remote.into(),
            winner: Some(match contest.winner {
                Winner::Catalog => "catalog",
                Winner::Gateway => "gateway",
                Winner::Deletion => "deletion",
                Winner::Value => "value",
            }),
            policy: match contest.policy {
                Policy::Latest => "latest",
                Policy::Catalog => "catalog",
                Policy::Gateway => "gateway",
                Policy::Ask => "ask",
            },
        }
    }
}
