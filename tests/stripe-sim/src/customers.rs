//! Customers: `/v1/customers`, and the same edits from the page, as in Stripe's Dashboard.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::StripeError;
use crate::events::{Origin, emit};
use crate::fields::{self, Object};
use crate::ids;
use crate::journal::Record;
use crate::lists::{PAGING, Place, Window, list};
use crate::params::Params;
use crate::state::State;

/// One customer, deleted or not.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) object: Arc<Object>,
    pub(crate) deleted: bool,
    /// What search may still see: each earlier form (`None`: not there), and until when it was so.
    past: VecDeque<(i64, Option<Arc<Object>>)>,
}

impl Entry {
    /// The customer as it was then; `None` if it was not there.
    pub(crate) fn at(&self, ms: i64) -> Option<&Arc<Object>> {
        match self.past.iter().find(|(until, _)| *until > ms) {
            Some((_, form)) => form.as_ref(),
            None => (!self.deleted).then_some(&self.object),
        }
    }
}

/// All customers that ever were.
#[derive(Debug, Default)]
pub(crate) struct Customers {
    by_id: HashMap<String, Entry>,
    /// Those not deleted.
    live: BTreeMap<Place, String>,
    by_email: HashMap<String, BTreeSet<Place>>,
    /// The deleted ones too: search may still see them.
    all: BTreeMap<Place, String>,
}

impl Customers {
    pub(crate) fn entry(&self, id: &str) -> Option<&Entry> {
        self.by_id.get(id)
    }

    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = (&String, &Entry)> {
        self.all.values().filter_map(|id| self.by_id.get_key_value(id))
    }

    /// Puts in what a state file says, or a change; search sees it at once if `now_ms` is `None`.
    pub(crate) fn put(&mut self, place: Place, object: Arc<Object>, deleted: bool, seen: Option<Seen>) {
        let Some(id) = object.get("id").and_then(Value::as_str).map(str::to_owned) else { return };
        let old = self.by_id.remove(&id);
        if let Some(old) = &old {
            self.unindex(old);
        }
        let mut past = VecDeque::new();
        if let Some(Seen { now_ms, lag_ms }) = seen {
            let form = match old {
                Some(old) => {
                    past = old.past;
                    (!old.deleted).then_some(old.object)
                }
                None => None,
            };
            past.retain(|(until, _)| *until > now_ms.saturating_sub(lag_ms));
            past.push_back((now_ms, form));
        }
        if !deleted {
            self.live.insert(place, id.clone());
            if let Some(email) = object.get("email").and_then(Value::as_str) {
                self.by_email.entry(email.to_owned()).or_default().insert(place);
            }
        }
        self.all.insert(place, id.clone());
        self.by_id.insert(id, Entry { place, object, deleted, past });
    }

    fn unindex(&mut self, entry: &Entry) {
        self.live.remove(&entry.place);
        let Some(email) = entry.object.get("email").and_then(Value::as_str) else { return };
        if let Some(places) = self.by_email.get_mut(email) {
            places.remove(&entry.place);
            if places.is_empty() {
                self.by_email.remove(email);
            }
        }
    }
}

/// When a change was made, and how long search does not see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) now_ms: i64,
    pub(crate) lag_ms: i64,
}

/// `POST /v1/customers`
pub(crate) fn create(state: &mut State, params: &Params, origin: &Origin) -> Result<Value, StripeError> {
    let place = state.next_place();
    let mut object = fields::blank(&ids::customer(), place.created, &ids::invoice_prefix());
    fields::apply(&mut object, params, &state.settings)?;
    let object = Arc::new(object);
    put(state, place, object.clone(), false);
    emit(state, "customer.created", object.clone(), None, origin);
    Ok(Value::Object((*object).clone()))
}

/// `GET /v1/customers/{id}`: of a deleted one only that it is.
pub(crate) fn retrieve(state: &State, id: &str, params: &Params) -> Result<Value, StripeError> {
    params.only(&[])?;
    match state.customers.entry(id) {
        Some(entry) if entry.deleted => Ok(deleted(id)),
        Some(entry) => Ok(Value::Object((*entry.object).clone())),
        None => Err(StripeError::no_such("customer", id, "id")),
    }
}

/// `POST /v1/customers/{id}`: what is already so makes no event.
pub(crate) fn update(state: &mut State, id: &str, params: &Params, origin: &Origin) -> Result<Value, StripeError> {
    let (place, old) = live(state, id)?;
    let mut new = (*old).clone();
    fields::apply(&mut new, params, &state.settings)?;
    let previous = fields::previous(&old, &new);
    if !previous.is_empty() {
        let new = Arc::new(new.clone());
        put(state, place, new.clone(), false);
        emit(state, "customer.updated", new, Some(previous), origin);
    }
    Ok(Value::Object(new))
}

/// `DELETE /v1/customers/{id}`: for ever.
pub(crate) fn delete(state: &mut State, id: &str, params: &Params, origin: &Origin) -> Result<Value, StripeError> {
    params.only(&[])?;
    let (place, object) = live(state, id)?;
    put(state, place, object.clone(), true);
    emit(state, "customer.deleted", object, None, origin);
    Ok(deleted(id))
}

/// `GET /v1/customers`: deleted ones are not in it; `email` is compared as it stands.
pub(crate) fn list_customers(state: &State, params: &Params) -> Result<Value, StripeError> {
    let known: Vec<&str> = PAGING.into_iter().chain(["created", "email"]).collect();
    params.only(&known)?;
    let customers = &state.customers;
    let window = Window::parse(params, "customer", |id| customers.entry(id).map(|entry| entry.place))?;
    let (page, has_more) = match params.get("email") {
        Some(email) => {
            let none = BTreeSet::new();
            let places = customers.by_email.get(email).unwrap_or(&none);
            window.page(places.range(window.range()).filter_map(|place| customers.live.get(place)))
        }
        None => window.page(customers.live.range(window.range()).map(|(_, id)| id)),
    };
    let data = page
        .into_iter()
        .filter_map(|id| customers.entry(id))
        .map(|entry| Value::Object((*entry.object).clone()))
        .collect();
    Ok(list("/v1/customers", data, has_more))
}

fn live(state: &State, id: &str) -> Result<(Place, Arc<Object>), StripeError> {
    match state.customers.entry(id) {
        Some(entry) if !entry.deleted => Ok((entry.place, entry.object.clone())),
        _ => Err(StripeError::no_such("customer", id, "id")),
    }
}

fn put(state: &mut State, place: Place, object: Arc<Object>, deleted: bool) {
    let lag_ms = i64::try_from(state.settings.search_lag_ms).unwrap_or(i64::MAX);
    let seen = Seen { now_ms: state.clock.now_ms(), lag_ms };
    state.customers.put(place, object.clone(), deleted, Some(seen));
    state.records.push(Record::Customer { place, object, deleted });
}

fn deleted(id: &str) -> Value {
    json!({ "id": id, "object": "customer", "deleted": true })
}
