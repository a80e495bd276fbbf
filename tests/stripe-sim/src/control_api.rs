//! The control API under `/_sim`, and the page at `/`: what a person or a test does to the local Stripe from outside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::clock::ClockChange;
use crate::customers::{self, Entry};
use crate::endpoints;
use crate::error::StripeError;
use crate::events::Origin;
use crate::faults::{FaultId, Rule};
use crate::journal::Record;
use crate::options::Settings;
use crate::params::Params;
use crate::server::Shared;
use crate::state::State;
use crate::webhooks::{Order, send_in_order};

/// Every path under `/_sim`, on one screen.
pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/customers", get(list_customers).post(create_customer))
        .route("/customers/{id}", get(get_customer).post(edit_customer).delete(delete_customer))
        .route("/events", get(list_events))
        .route("/events/{id}/deliver", post(deliver_event))
        .route("/calls", get(list_calls).delete(clear_calls))
        .route("/faults", get(list_faults).post(arm_fault).delete(clear_faults))
        .route("/faults/{id}/release", post(release_fault))
        .route("/webhooks", get(show_webhooks))
        .route("/webhooks/endpoints", post(add_endpoint))
        .route("/webhooks/hold", post(hold_webhooks))
        .route("/webhooks/release", post(release_webhooks))
        .route("/webhooks/duplicate", post(duplicate_webhooks))
        .route("/webhooks/drop", post(drop_webhooks))
        .route("/clock", get(show_clock).post(change_clock))
        .route("/settings", get(show_settings).put(change_settings))
        .route("/changes", get(wait_for_change))
        .fallback(|| async { (StatusCode::NOT_FOUND, Json(json!({ "error": { "message": "no such control" } }))) })
}

/// `GET /`
pub(crate) async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}

/// How many to show at most; the newest ones.
#[derive(Deserialize)]
struct Limit {
    #[serde(default = "hundred")]
    limit: usize,
}

/// Only calls with a higher number.
#[derive(Deserialize)]
struct AfterCall {
    #[serde(default)]
    after: u64,
}

fn hundred() -> usize {
    100
}

/// Parameters as a call would send them: `{"name": "Ada", "metadata[tier]": "gold"}`.
type Fields = Json<BTreeMap<String, String>>;

/// Deleted ones too, newest first.
async fn list_customers(app: Shared, Query(Limit { limit }): Query<Limit>) -> Json<Value> {
    Json(app.read(|state| state.customers.entries().rev().take(limit).map(|(_, entry)| show(entry)).collect()))
}

async fn get_customer(app: Shared, Path(id): Path<String>) -> Response {
    reply(app.read(|state| state.customers.entry(&id).map(show).ok_or_else(|| no_such_customer(&id))))
}

async fn create_customer(app: Shared, Json(fields): Fields) -> Response {
    let params = Params::from_pairs(fields);
    reply(app.change(|state| customers::create(state, &params, &by_hand())))
}

async fn edit_customer(app: Shared, Path(id): Path<String>, Json(fields): Fields) -> Response {
    let params = Params::from_pairs(fields);
    reply(app.change(|state| customers::update(state, &id, &params, &by_hand())))
}

async fn delete_customer(app: Shared, Path(id): Path<String>) -> Response {
    let delete = |state: &mut State| {
        customers::delete(state, &id, &Params::default(), &by_hand())?;
        state.customers.entry(&id).map(show).ok_or_else(|| no_such_customer(&id))
    };
    reply(app.change(delete))
}

/// The last ones, oldest first.
async fn list_events(app: Shared, Query(Limit { limit }): Query<Limit>) -> Json<Value> {
    Json(app.read(|state| {
        let mut last: Vec<Value> =
            state.events.by_place.values().rev().take(limit).map(|event| state.events.show(event)).collect();
        last.reverse();
        last.into()
    }))
}

async fn deliver_event(app: Shared, Path(id): Path<String>) -> Response {
    if app.read(|state| state.events.get(&id).is_none()) {
        return reply(Err(StripeError::no_such("event", &id, "id")));
    }
    Json(send_in_order(&app, vec![id]).await).into_response()
}

async fn list_calls(
    app: Shared,
    Query(Limit { limit }): Query<Limit>,
    Query(AfterCall { after }): Query<AfterCall>,
) -> Json<Value> {
    Json(app.read(|state| json!(state.calls.last(limit).filter(|call| call.number > after).collect::<Vec<_>>())))
}

async fn clear_calls(app: Shared) -> StatusCode {
    app.change(|state| state.calls.clear());
    StatusCode::NO_CONTENT
}

async fn list_faults(app: Shared) -> Json<Value> {
    Json(app.read(|state| json!(state.faults.status())))
}

async fn arm_fault(app: Shared, Json(rule): Json<Rule>) -> Json<Value> {
    Json(json!({ "id": app.change(|state| state.faults.arm(rule)) }))
}

async fn clear_faults(app: Shared) -> StatusCode {
    app.change(|state| state.faults.clear());
    StatusCode::NO_CONTENT
}

async fn release_fault(app: Shared, Path(id): Path<FaultId>) -> StatusCode {
    match app.change(|state| state.faults.release(id)) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::NOT_FOUND,
    }
}

async fn show_webhooks(app: Shared, Query(Limit { limit }): Query<Limit>) -> Json<Value> {
    Json(app.read(|state| json!(state.switches.status(limit))))
}

#[derive(Deserialize)]
struct NewEndpoint {
    url: String,
    secret: String,
}

async fn add_endpoint(app: Shared, Json(NewEndpoint { url, secret }): Json<NewEndpoint>) -> Json<Value> {
    let id = app.change(|state| {
        let endpoint = endpoints::Endpoint::of_all(crate::ids::endpoint(), state.next_place(), url, secret);
        let id = endpoint.id.clone();
        endpoints::put(state, endpoint);
        id
    });
    Json(json!({ "id": id }))
}

async fn hold_webhooks(app: Shared) -> StatusCode {
    app.change(|state| state.switches.hold());
    StatusCode::NO_CONTENT
}

/// Answers when each has been tried once.
async fn release_webhooks(app: Shared, Json(order): Json<Order>) -> Json<Value> {
    let events = app.change(|state| state.switches.release(order));
    Json(json!(send_in_order(&app, events).await))
}

/// How many of the next events.
#[derive(Deserialize)]
struct Next {
    next: u32,
}

async fn duplicate_webhooks(app: Shared, Json(Next { next }): Json<Next>) -> StatusCode {
    app.change(|state| state.switches.duplicate_next = next);
    StatusCode::NO_CONTENT
}

async fn drop_webhooks(app: Shared, Json(Next { next }): Json<Next>) -> StatusCode {
    app.change(|state| state.switches.drop_next = next);
    StatusCode::NO_CONTENT
}

async fn show_clock(app: Shared) -> Json<Value> {
    Json(app.read(clock))
}

async fn change_clock(app: Shared, Json(change): Json<ClockChange>) -> Json<Value> {
    Json(app.change(|state| {
        state.clock.change(change);
        state.records.push(Record::Clock { clock: state.clock });
        clock(state)
    }))
}

fn clock(state: &State) -> Value {
    json!({
        "now_ms": state.clock.now_ms(),
        "offset_ms": state.clock.offset_ms,
        "frozen_ms": state.clock.frozen_ms,
    })
}

async fn show_settings(app: Shared) -> Json<Settings> {
    Json(app.read(|state| state.settings.clone()))
}

async fn change_settings(app: Shared, Json(settings): Json<Settings>) -> StatusCode {
    app.change(|state| state.settings = settings);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct After {
    after: u64,
    #[serde(default)]
    wait_ms: u64,
}

/// Answers once something has changed since, or the time is up.
async fn wait_for_change(app: Shared, Query(After { after, wait_ms }): Query<After>) -> Json<Value> {
    Json(json!({ "version": app.changed_since(after, Duration::from_millis(wait_ms.min(60_000))).await }))
}

/// A change by hand has no request and no key.
fn by_hand() -> Origin {
    Origin::default()
}

fn show(entry: &Entry) -> Value {
    let mut object = (*entry.object).clone();
    if entry.deleted {
        object.insert("deleted".to_owned(), true.into());
    }
    Value::Object(object)
}

fn no_such_customer(id: &str) -> StripeError {
    StripeError::no_such("customer", id, "id")
}

fn reply(result: Result<Value, StripeError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => {
            let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, Json(error.body("req_by_hand", 0))).into_response()
        }
    }
}
