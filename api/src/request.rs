//! Around every request: its id, its span, its line in the log, its time.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use metrics::{counter, histogram};
use tracing::{Instrument, field, info_span};
use uuid::Uuid;

use crate::app::App;
use crate::problem::Problem;

const HEADER: &str = "x-request-id";

/// What a request is called in the log, in its answer, and as the correlation id of its events.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// Gives each request its id and its span, tells how it went, and what every answer says of itself.
///
/// A measurement's labels live as long as the process, so none of them is a text from outside.
pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = known(request.method());
    // The path may name a customer's id and the query an email: the template is enough.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let id = sent_id(request.headers()).unwrap_or_else(|| Uuid::now_v7().to_string());
    let span = info_span!("request", method, route, request.id = id, status = field::Empty, ms = field::Empty);
    request.extensions_mut().insert(RequestId(id.clone()));

    let mut response = next.run(request).instrument(span.clone()).await;

    let seconds = started.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    span.record("status", status);
    span.record("ms", (seconds * 1e6).round() / 1e3);
    span.in_scope(|| tracing::debug!("answered"));
    let labels = [("method", method.to_owned()), ("route", route), ("status", status.to_string())];
    counter!("tandem_http_requests_total", &labels).increment(1);
    histogram!("tandem_http_request_seconds", &labels).record(seconds);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, id);
    }
    // No browser shall take a customer's values for a page.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A method's name, if it is one that many know: a client may invent any.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The client's own id, unless it is too long or cannot be printed.
fn sent_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(HEADER)?.to_str().ok()?;
    let fits = (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| id.to_owned())
}

/// Until the tables are made, there is nothing to ask.
pub(crate) async fn started(State(app): State<App>, request: Request, next: Next) -> Result<Response, Problem> {
    if app.starting.borrow().is_some() {
        return Err(Problem::starting());
    }
    Ok(next.run(request).await)
}
