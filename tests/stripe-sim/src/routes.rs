//! Every path under `/v1`, on one screen.

use serde_json::{Value, json};

use crate::customers;
use crate::endpoints;
use crate::error::StripeError;
use crate::events::{self, Origin};
use crate::params::Params;
use crate::search;
use crate::state::State;

/// Does what the call asks for.
pub(crate) fn route(
    state: &mut State,
    account: &str,
    method: &str,
    path: &str,
    params: &Params,
    origin: &Origin,
) -> Result<Value, StripeError> {
    match (method, segments(path).as_slice()) {
        ("POST", ["customers"]) => customers::create(state, params, origin),
        ("GET", ["customers"]) => customers::list_customers(state, params),
        ("GET", ["customers", "search"]) => search::search(state, params),
        ("GET", ["customers", id]) => customers::retrieve(state, id, params),
        ("POST", ["customers", id]) => customers::update(state, id, params, origin),
        ("DELETE", ["customers", id]) => customers::delete(state, id, params, origin),
        ("GET", ["events"]) => events::list_events(state, params),
        ("GET", ["events", id]) => events::retrieve(state, id, params),
        ("POST", ["events", id, "retry"]) => events::resend(state, id, params),
        ("POST", ["webhook_endpoints"]) => endpoints::create(state, params),
        ("GET", ["webhook_endpoints"]) => endpoints::list_endpoints(state, params),
        ("GET", ["webhook_endpoints", id]) => endpoints::retrieve(state, id, params),
        ("POST", ["webhook_endpoints", id]) => endpoints::update(state, id, params),
        ("DELETE", ["webhook_endpoints", id]) => endpoints::delete(state, id, params),
        ("GET", ["account"]) => Ok(show_account(account)),
        ("GET", ["accounts", id]) if *id == account => Ok(show_account(account)),
        _ => Err(StripeError::unrecognised_url(method, path)),
    }
}

/// The method and the path without ids: what a rate limit counts.
pub(crate) fn endpoint_of(method: &str, path: &str) -> String {
    match segments(path).as_slice() {
        [resource, "search"] => format!("{method} {resource}/search"),
        [resource, _] => format!("{method} {resource}/*"),
        other => format!("{method} {}", other.join("/")),
    }
}

/// The customer that the path names.
pub(crate) fn customer_of(path: &str) -> Option<&str> {
    match segments(path).as_slice() {
        ["customers", id] if *id != "search" => Some(*id),
        _ => None,
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.trim_start_matches("/v1").split('/').filter(|segment| !segment.is_empty()).collect()
}

fn show_account(id: &str) -> Value {
    json!({
        "id": id,
        "object": "account",
        "business_type": null,
        "charges_enabled": true,
        "country": "US",
        "created": 1_234_567_890,
        "default_currency": "usd",
        "details_submitted": true,
        "email": null,
        "metadata": {},
        "payouts_enabled": true,
        "settings": { "dashboard": { "display_name": "Local Stripe", "timezone": "Etc/UTC" } },
        "type": "standard",
    })
}
