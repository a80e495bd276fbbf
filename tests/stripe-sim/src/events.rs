//! What happened, as `GET /v1/events` and webhooks tell it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::API_VERSION;
use crate::error::StripeError;
use crate::fields::Object;
use crate::ids;
use crate::journal::Record;
use crate::lists::{PAGING, Place, Window, list};
use crate::params::Params;
use crate::state::State;
use crate::webhooks::{Fate, Sending};

/// Stripe lists and retrieves events for 30 days.
const KEPT_SECONDS: i64 = 30 * 24 * 3600;

/// One event, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredEvent {
    pub(crate) id: String,
    pub(crate) place: Place,
    pub(crate) kind: String,
    pub(crate) object: Arc<Object>,
    pub(crate) previous: Option<Object>,
    pub(crate) origin: Origin,
    /// The connected account that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<String>,
}

/// Which call made a change.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) request_id: Option<String>,
    pub(crate) idempotency_key: Option<String>,
}

/// All events, and which endpoints have yet to get each.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(crate) by_place: BTreeMap<Place, Arc<StoredEvent>>,
    by_id: HashMap<String, Place>,
    pub(crate) pending: BTreeMap<String, BTreeSet<String>>,
}

impl Events {
    pub(crate) fn get(&self, id: &str) -> Option<&Arc<StoredEvent>> {
        self.by_place.get(self.by_id.get(id)?)
    }

    pub(crate) fn insert(&mut self, event: Arc<StoredEvent>, pending: BTreeSet<String>) {
        self.by_id.insert(event.id.clone(), event.place);
        if !pending.is_empty() {
            self.pending.insert(event.id.clone(), pending);
        }
        self.by_place.insert(event.place, event);
    }

    /// The endpoint has it, or never will.
    pub(crate) fn delivered(&mut self, event: &str, endpoint: &str) -> bool {
        let Some(pending) = self.pending.get_mut(event) else { return false };
        let removed = pending.remove(endpoint);
        if pending.is_empty() {
            self.pending.remove(event);
        }
        removed
    }

    fn pending_of(&self, id: &str) -> usize {
        self.pending.get(id).map_or(0, BTreeSet::len)
    }

    /// As Stripe would send it now.
    pub(crate) fn show(&self, event: &StoredEvent) -> Value {
        event.to_value(self.pending_of(&event.id))
    }
}

impl StoredEvent {
    pub(crate) fn to_value(&self, pending_webhooks: usize) -> Value {
        let mut data = json!({ "object": *self.object });
        if let Some(previous) = &self.previous {
            data["previous_attributes"] = Value::Object(previous.clone());
        }
        let mut event = json!({
            "id": self.id,
            "object": "event",
            "api_version": API_VERSION,
            "created": self.place.created,
            "data": data,
            "livemode": false,
            "pending_webhooks": pending_webhooks,
            "request": { "id": self.origin.request_id, "idempotency_key": self.origin.idempotency_key },
            "type": self.kind,
        });
        if let Some(account) = &self.account {
            event["account"] = json!(account);
        }
        event
    }
}

/// Writes the event down and hands it to the webhooks.
pub(crate) fn emit(state: &mut State, kind: &str, mut object: Arc<Object>, previous: Option<Object>, origin: &Origin) {
    if !state.settings.events_without.is_empty() {
        Arc::make_mut(&mut object).retain(|field, _| !state.settings.events_without.contains(field));
    }
    let event = Arc::new(StoredEvent {
        id: ids::event(),
        place: state.next_place(),
        kind: kind.to_owned(),
        object,
        previous,
        origin: origin.clone(),
        account: state.connected.clone(),
    });
    let mut pending = state.endpoints.wanting(kind);
    if !pending.is_empty() {
        match state.switches.fate(&event.id) {
            Fate::Dropped => pending.clear(),
            Fate::Held => {}
            Fate::Sent(times) => {
                for endpoint in (0..times).flat_map(|_| &pending) {
                    state.outbox.push(Sending::new(&event, endpoint));
                }
            }
        }
    }
    state.records.push(Record::Event { event: event.clone(), pending: pending.clone() });
    state.events.insert(event, pending);
}

/// `GET /v1/events/{id}`
pub(crate) fn retrieve(state: &State, id: &str, params: &Params) -> Result<Value, StripeError> {
    params.only(&[])?;
    state
        .events
        .get(id)
        .filter(|event| event.place.created > state.clock.now() - KEPT_SECONDS)
        .map(|event| state.events.show(event))
        .ok_or_else(|| StripeError::no_such("event", id, "id"))
}

/// `POST /v1/events/{id}/retry`, which `stripe events resend` calls: to one endpoint, or to all that want it.
pub(crate) fn resend(state: &mut State, id: &str, params: &Params) -> Result<Value, StripeError> {
    params.only(&["account", "for_stripecli", "webhook_endpoint"])?;
    let event = state.events.get(id).cloned().ok_or_else(|| StripeError::no_such("event", id, "id"))?;
    let mut endpoints = state.endpoints.wanting(&event.kind);
    if let Some(endpoint) = params.get("webhook_endpoint") {
        endpoints.retain(|wanting| wanting == endpoint);
        if endpoints.is_empty() {
            return Err(StripeError::no_such("webhook endpoint", endpoint, "webhook_endpoint"));
        }
    }
    state.outbox.extend(endpoints.iter().map(|endpoint| Sending::new(&event, endpoint)));
    Ok(state.events.show(&event))
}

/// `GET /v1/events`
pub(crate) fn list_events(state: &State, params: &Params) -> Result<Value, StripeError> {
    let known: Vec<&str> = PAGING.into_iter().chain(["created", "delivery_success", "type", "types"]).collect();
    params.only(&known)?;
    let one = params.get("type");
    let several = params.list("types");
    if one.is_some() && !several.is_empty() {
        return Err(StripeError::exclusive_params("type", "types"));
    }
    if several.len() > 20 {
        return Err(StripeError::bad_param("types", "You may pass up to 20 event types."));
    }
    let delivered = match params.get("delivery_success") {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => {
            return Err(StripeError::bad_param("delivery_success", format!("Invalid boolean: {other}")));
        }
    };
    let mut window = Window::parse(params, "event", |id| state.events.get(id).map(|event| event.place))?;
    window.not_before(state.clock.now() - KEPT_SECONDS + 1);
    let wanted = |event: &StoredEvent| {
        one.is_none_or(|pattern| matches_type(pattern, &event.kind))
            && (several.is_empty() || several.contains(&event.kind))
            && delivered.is_none_or(|delivered| delivered == (state.events.pending_of(&event.id) == 0))
    };
    let (page, has_more) =
        window.page(state.events.by_place.range(window.range()).map(|(_, event)| event).filter(|event| wanted(event)));
    Ok(list("/v1/events", page.into_iter().map(|event| state.events.show(event)).collect(), has_more))
}

/// `customer.*` is every type that begins so, `*` every one.
pub(crate) fn matches_type(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => pattern == kind,
    }
}
