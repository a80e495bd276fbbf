//! Webhook endpoints: `/v1/webhook_endpoints`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::error::StripeError;
use crate::events::matches_type;
use crate::fields;
use crate::ids;
use crate::journal::Record;
use crate::lists::{PAGING, Place, Window, list};
use crate::options::Settings;
use crate::params::{Param, Params};
use crate::state::State;

/// How many webhooks are on their way to one endpoint at once.
const AT_ONCE: usize = 128;

/// Where events are sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) id: String,
    pub(crate) place: Place,
    pub(crate) url: String,
    pub(crate) secret: String,
    pub(crate) enabled_events: Vec<String>,
    pub(crate) enabled: bool,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Value,
    pub(crate) api_version: Option<String>,
    #[serde(skip, default = "free_slots")]
    pub(crate) slots: Arc<Semaphore>,
}

fn free_slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(AT_ONCE))
}

impl Endpoint {
    /// One that gets every event.
    pub(crate) fn of_all(id: String, place: Place, url: String, secret: String) -> Self {
        Self {
            id,
            place,
            url,
            secret,
            enabled_events: vec!["*".to_owned()],
            enabled: true,
            description: None,
            metadata: json!({}),
            api_version: None,
            slots: free_slots(),
        }
    }

    fn to_value(&self) -> Value {
        json!({
            "id": self.id,
            "object": "webhook_endpoint",
            "api_version": self.api_version,
            "application": null,
            "created": self.place.created,
            "description": self.description,
            "enabled_events": self.enabled_events,
            "livemode": false,
            "metadata": self.metadata,
            "status": if self.enabled { "enabled" } else { "disabled" },
            "url": self.url,
        })
    }

    fn apply(&mut self, params: &Params) -> Result<(), StripeError> {
        if let Some(url) = params.get("url") {
            let scheme_and_host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            if scheme_and_host.is_none_or(str::is_empty) {
                return Err(StripeError::bad_param(
                    "url",
                    "Invalid URL: An explicit scheme (such as https) must be provided.",
                ));
            }
            url.clone_into(&mut self.url);
        }
        if params.under("enabled_events").next().is_some() {
            self.enabled_events = params.list("enabled_events");
            if let Some(bad) = self.enabled_events.iter().find(|kind| *kind != "*" && !kind.contains('.')) {
                let message = format!("Invalid enabled_events: {bad} is not a type of event");
                return Err(StripeError::bad_param("enabled_events", message));
            }
            if self.enabled_events.is_empty() {
                return Err(StripeError::missing_param("enabled_events"));
            }
        }
        if let Some(description) = params.get("description") {
            self.description = (!description.is_empty()).then(|| description.to_owned());
        }
        match params.get("disabled") {
            None => {}
            Some("true") => self.enabled = false,
            Some("false") => self.enabled = true,
            Some(other) => return Err(StripeError::bad_param("disabled", format!("Invalid boolean: {other}"))),
        }
        let metadata: Vec<&Param> = params.under("metadata").collect();
        if !metadata.is_empty() {
            self.metadata = fields::metadata(self.metadata.take(), &metadata, &Settings::default())?;
        }
        if let Some(version) = params.get("api_version") {
            self.api_version = (!version.is_empty()).then(|| version.to_owned());
        }
        Ok(())
    }
}

/// All endpoints.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    by_place: BTreeMap<Place, Endpoint>,
    by_id: HashMap<String, Place>,
}

impl Endpoints {
    pub(crate) fn get(&self, id: &str) -> Option<&Endpoint> {
        self.by_place.get(self.by_id.get(id)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.by_place.values()
    }

    pub(crate) fn put(&mut self, endpoint: Endpoint) {
        if let Some(old) = self.by_id.insert(endpoint.id.clone(), endpoint.place) {
            self.by_place.remove(&old);
        }
        self.by_place.insert(endpoint.place, endpoint);
    }

    pub(crate) fn remove(&mut self, id: &str) {
        if let Some(place) = self.by_id.remove(id) {
            self.by_place.remove(&place);
        }
    }

    /// The ids of those that get events of this type.
    pub(crate) fn wanting(&self, kind: &str) -> BTreeSet<String> {
        self.iter()
            .filter(|endpoint| endpoint.enabled)
            .filter(|endpoint| endpoint.enabled_events.iter().any(|pattern| matches_type(pattern, kind)))
            .map(|endpoint| endpoint.id.clone())
            .collect()
    }
}

/// `POST /v1/webhook_endpoints`: the one answer that holds the secret.
pub(crate) fn create(state: &mut State, params: &Params) -> Result<Value, StripeError> {
    params.only(&["api_version", "connect", "description", "enabled_events", "metadata", "url"])?;
    for name in ["url", "enabled_events"] {
        if params.under(name).next().is_none() {
            return Err(StripeError::missing_param(name));
        }
    }
    let place = state.next_place();
    let mut endpoint = Endpoint::of_all(ids::endpoint(), place, String::new(), ids::endpoint_secret());
    endpoint.apply(params)?;
    let mut shown = endpoint.to_value();
    shown["secret"] = endpoint.secret.as_str().into();
    put(state, endpoint);
    Ok(shown)
}

/// `GET /v1/webhook_endpoints/{id}`
pub(crate) fn retrieve(state: &State, id: &str, params: &Params) -> Result<Value, StripeError> {
    params.only(&[])?;
    state.endpoints.get(id).map(Endpoint::to_value).ok_or_else(|| no_such(id))
}

/// `POST /v1/webhook_endpoints/{id}`
pub(crate) fn update(state: &mut State, id: &str, params: &Params) -> Result<Value, StripeError> {
    params.only(&["description", "disabled", "enabled_events", "metadata", "url"])?;
    let mut endpoint = state.endpoints.get(id).ok_or_else(|| no_such(id))?.clone();
    endpoint.apply(params)?;
    let shown = endpoint.to_value();
    put(state, endpoint);
    Ok(shown)
}

/// `DELETE /v1/webhook_endpoints/{id}`
pub(crate) fn delete(state: &mut State, id: &str, params: &Params) -> Result<Value, StripeError> {
    params.only(&[])?;
    state.endpoints.get(id).ok_or_else(|| no_such(id))?;
    state.endpoints.remove(id);
    state.records.push(Record::EndpointDeleted { id: id.to_owned() });
    Ok(json!({ "id": id, "object": "webhook_endpoint", "deleted": true }))
}

/// `GET /v1/webhook_endpoints`
pub(crate) fn list_endpoints(state: &State, params: &Params) -> Result<Value, StripeError> {
    params.only(&PAGING)?;
    let window =
        Window::parse(params, "webhook endpoint", |id| state.endpoints.get(id).map(|endpoint| endpoint.place))?;
    let (page, has_more) = window.page(state.endpoints.by_place.range(window.range()).map(|(_, endpoint)| endpoint));
    Ok(list("/v1/webhook_endpoints", page.into_iter().map(Endpoint::to_value).collect(), has_more))
}

/// Registers an endpoint, or changes it.
pub(crate) fn put(state: &mut State, endpoint: Endpoint) {
    state.records.push(Record::Endpoint { endpoint: endpoint.clone() });
    state.endpoints.put(endpoint);
}

fn no_such(id: &str) -> StripeError {
    StripeError::no_such("webhook endpoint", id, "id")
}
