//! `GET /openapi.json`: the API's document, generated from the routes.

use std::sync::Arc;

use axum::Extension;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

/// What stands around the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tandem",
        description = "Keeps a company's customer catalog and Stripe's the same, both ways.\n\nErrors are problems \
            (RFC 9457). A write with an `Idempotency-Key` happens once, however often it is sent: a repeat gets the \
            answer of the first time, marked `Idempotent-Replayed: true`.",
    ),
    tags(
        (name = "customers", description = "The catalog"),
        (name = "customer", description = "The catalog, under the paths that Tandem began with"),
        (name = "feed", description = "What happened"),
        (name = "conflicts", description = "Fields that two people edited without knowing of each other"),
        (name = "gateways", description = "The systems that are kept in step"),
        (name = "parked", description = "What waits for a person"),
        (name = "webhooks", description = "What gateways tell"),
        (name = "service", description = "How the service does"),
    ),
    security(("key" = []))
)]
pub(crate) struct Document;

/// The document's frame, before the routes are in it.
pub(crate) fn frame() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    let key = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some("One of TANDEM_API_KEYS, if any is set"));
    components.add_security_scheme("key", SecurityScheme::Http(key.build()));
    document
}

/// Show this document
#[utoipa::path(
    get, path = "/openapi.json", tag = "service", operation_id = "openapi",
    responses(
        (status = 200, description = "OpenAPI", content_type = "application/json", body = Object),
        crate::problem::Admission,
    )
)]
pub(crate) async fn show(Extension(Rendered(document)): Extension<Rendered>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}

/// The document as it is sent.
#[derive(Clone)]
pub(crate) struct Rendered(Arc<str>);

impl Rendered {
    pub(crate) fn of(document: &utoipa::openapi::OpenApi) -> Self {
        // Only a map with keys that are no texts cannot be written, and there is none.
        Self(document.to_json().unwrap_or_default().into())
    }
}
