//! `POST /webhooks/{gateway}`

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use tandem_gateways::Accepted;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::Named;
use crate::problem::{Problem, ProblemBody};

/// Most bytes of a webhook.
const LIMIT: usize = 256 * 1024;

/// What became of a webhook.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Taken {
    /// `stored`, `repeated` (it had come before), `ignored` (of a type that is not followed), `foreign` (of another account or mode), or
    /// `test` (the gateway tried the endpoint).
    outcome: &'static str,
}

/// Take a gateway's webhook
///
/// Needs no API key: it is signed. It is stored before it is answered, and acted on then; every other answer than 200
/// makes the gateway send it again.
#[utoipa::path(
    post, path = "/webhooks/{gateway}", tag = "webhooks", operation_id = "take_webhook",
    security(()),
    params(("gateway" = String, Path, description = "The gateway's name, such as stripe")),
    request_body(content = String, description = "As the gateway signed it", content_type = "application/json"),
    responses(
        (status = 200, description = "Taken", body = Taken),
        (status = 400, description = "Not genuine, too old, not to be read, or not all of it came", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No gateway has this name", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "More than 256 KiB", body = ProblemBody, content_type = "application/problem+json"),
        (status = 500, description = "A defect; nothing about it is told", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "It could not be stored: send it again", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
#[tracing::instrument(name = "webhooks", skip_all, fields(gateway))]
pub(crate) async fn take(
    State(app): State<App>,
    Named(gateway): Named<String>,
    request: Request,
) -> Result<Json<Taken>, Problem> {
    let (parts, body) = request.into_parts();
    // Nobody's body is read for a gateway that there is not, or without a signature.
    app.gateways.expects(&gateway, &parts.headers, app.clock.now())?;
    let body = app.bodies.read(body, LIMIT).await?;
    let accepted = app.gateways.accept(&gateway, &parts.headers, &body, app.clock.now()).await?;
    tracing::Span::current().record("gateway", &gateway);
    let (outcome, kind) = match &accepted {
        Accepted::Stored => ("stored", ""),
        Accepted::Repeated => ("repeated", ""),
        Accepted::Ignored(kind) => ("ignored", kind.as_str()),
        Accepted::Foreign(whose) => ("foreign", whose.as_str()),
        Accepted::Sample => ("test", ""),
    };
    metrics::counter!("tandem_webhooks_total", "gateway" => gateway, "outcome" => outcome).increment(1);
    let kind: String = kind.chars().take(100).collect();
    tracing::debug!(outcome, kind, "a webhook was taken");
    Ok(Json(Taken { outcome }))
}
