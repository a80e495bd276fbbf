//! Answers that carry a customer.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tandem_domain::Customer;

use crate::customer_body::CustomerBody;
use crate::execute::Outcome;
use crate::problem::Problem;

/// Says that a write had been carried out before, under the same key.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A customer with its version as `ETag`.
pub(crate) struct Versioned(pub(crate) CustomerBody);

impl IntoResponse for Versioned {
    fn into_response(self) -> Response {
        let tag = etag(self.0.version);
        ([(header::ETAG, tag)], Json(self.0)).into_response()
    }
}

/// The answer to a write that leaves a customer: 201 with where it is, or 200.
pub(crate) fn written(outcome: &Outcome, created_under: Option<&str>) -> Result<Response, Problem> {
    let body = CustomerBody::of(outcome.id, &outcome.customer, outcome.version).ok_or_else(Problem::deleted)?;
    let mut response = Versioned(body).into_response();
    if let Some(folder) = created_under {
        *response.status_mut() = StatusCode::CREATED;
        response.headers_mut().insert(header::LOCATION, ascii(&format!("{folder}/{}", outcome.id)));
    }
    Ok(marked(response, outcome.replayed))
}

/// The answer to a deletion.
pub(crate) fn gone(outcome: &Outcome) -> Response {
    debug_assert!(matches!(outcome.customer, Customer::Deleted { .. }));
    let response = (StatusCode::NO_CONTENT, [(header::ETAG, etag(outcome.version))]).into_response();
    marked(response, outcome.replayed)
}

/// The answer to a write that leaves nothing to show.
pub(crate) fn done(now: bool) -> Response {
    marked(StatusCode::NO_CONTENT.into_response(), !now)
}

fn marked(mut response: Response, replayed: bool) -> Response {
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn etag(version: u64) -> HeaderValue {
    ascii(&format!("\"{version}\""))
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
