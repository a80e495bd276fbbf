//! `/gateways`: how each stands, and pausing it.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use tandem_domain::GatewayName;
use tandem_gateways::{Direction, GatewayStatus, Pause};
use utoipa::ToSchema;

use crate::app::App;
use crate::body::Named;
use crate::customer_body::Timestamp;
use crate::problem::{Common, OfBody, Problem, ProblemBody};
use crate::reply::done;
use crate::write::{JsonBody, OnceHeader, Optional, Write};

/// All gateways.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GatewayList {
    /// By name.
    data: Vec<GatewayBody>,
}

/// How a gateway stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Gateway)]
pub(crate) struct GatewayBody {
    /// Its name.
    name: String,
    /// Links that wait or are worked on.
    due: i64,
    /// Of these, those for which somebody waits: a person's edit, a webhook, a retry by hand. They go first.
    due_live: i64,
    /// And those for which nobody in particular does: a first run, a repair, a resume. Of many it is told about how many they are.
    due_bulk: i64,
    /// How long the longest of them has waited, in seconds, of those that do not wait for a resume.
    oldest_due_seconds: f64,
    /// And of those for which somebody waits.
    oldest_live_seconds: f64,
    /// How long those will take for which nobody waits, in seconds, at the speed of the last minute or so; null where there are none,
    /// or they do not become fewer.
    bulk_seconds_left: Option<f64>,
    /// What is parked.
    parked: i64,
    /// Links with fields on which a person shall decide.
    contested: i64,
    /// What stands still.
    pauses: Vec<PauseBody>,
    /// Signed webhooks that were of another account or mode and were ignored, as all processes have counted them, ever. Is the endpoint at the
    /// gateway the right one?
    foreign: i64,
    /// When the last of them came.
    foreign_at: Option<Timestamp>,
    /// Whose they were: `another_account`, `platform` (ours is connected to it), `live_mode`, `test_mode`.
    foreign_whose: Vec<String>,
    /// When its list of changes was last read.
    swept_at: Option<Timestamp>,
}

/// A direction that stands still.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pause)]
pub(crate) struct PauseBody {
    /// `inbound`: from the gateway to the catalog; `outbound`: the other way.
    direction: String,
    /// Why.
    reason: String,
    /// `person`, or `guard`: too much changed at once.
    paused_by: String,
    /// Since when.
    paused_at: Timestamp,
}

impl From<Pause> for PauseBody {
    fn from(Pause { direction, reason, paused_by, paused_at, .. }: Pause) -> Self {
        Self { direction, reason, paused_by, paused_at: Timestamp(paused_at) }
    }
}

/// Show how the gateways stand
#[utoipa::path(
    get, path = "/gateways", tag = "gateways", operation_id = "list_gateways",
    responses((status = 200, description = "All that are switched on", body = GatewayList), Common)
)]
#[tracing::instrument(name = "gateways.list", skip_all)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<GatewayList>, Problem> {
    let pauses = app.gateways.pauses().await?;
    let body = |status: GatewayStatus| GatewayBody {
        pauses: pauses.iter().filter(|pause| pause.gateway == status.name).cloned().map(Into::into).collect(),
        name: status.name,
        due: status.due,
        due_live: status.due_live,
        due_bulk: status.due_bulk,
        oldest_due_seconds: status.oldest_due_seconds,
        oldest_live_seconds: status.oldest_live_seconds,
        bulk_seconds_left: status.bulk_seconds_left,
        parked: status.parked,
        contested: status.contested,
        foreign: status.foreign,
        foreign_at: status.foreign_at.map(Timestamp),
        foreign_whose: status.foreign_whose,
        swept_at: status.swept_at.map(Timestamp),
    };
    Ok(Json(GatewayList { data: app.gateways.status().await?.into_iter().map(body).collect() }))
}

/// Which direction, and why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"direction": "inbound", "reason": "an import runs in Stripe"}))]
pub(crate) struct PauseRequest {
    /// `inbound`: from the gateway to the catalog; `outbound`: the other way; both without it.
    direction: Option<DirectionWord>,
    /// Why, for those who find it paused: 200 characters at most.
    reason: Option<String>,
}

/// Which direction.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"direction": "inbound"}))]
pub(crate) struct ResumeRequest {
    /// `inbound` or `outbound`; both without it.
    direction: Option<DirectionWord>,
}

impl JsonBody for PauseRequest {}
impl JsonBody for ResumeRequest {}

/// One of the two.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DirectionWord {
    Inbound,
    Outbound,
}

impl From<DirectionWord> for Direction {
    fn from(word: DirectionWord) -> Self {
        match word {
            DirectionWord::Inbound => Self::Inbound,
            DirectionWord::Outbound => Self::Outbound,
        }
    }
}

/// Pause a gateway
///
/// What changes meanwhile waits, and goes on together when it is resumed. A direction that is paused already stays as it is.
#[utoipa::path(
    post, path = "/gateways/{name}/pause", tag = "gateways", operation_id = "pause_gateway",
    params(
        ("name" = String, Path, description = "The gateway, such as stripe"),
        OnceHeader,
    ),
    request_body(content = Option<PauseRequest>, description = "Not needed to pause both directions"),
    responses(
        (status = 204, description = "It is paused"),
        (status = 404, description = "No gateway has this name", body = ProblemBody, content_type = "application/problem+json"),
        Common, OfBody,
    )
)]
#[tracing::instrument(name = "gateways.pause", skip_all, fields(gateway))]
pub(crate) async fn pause(
    State(app): State<App>,
    Named(name): Named<String>,
    Write { body: Optional(PauseRequest { direction, reason }), context, .. }: Write<Optional<PauseRequest>>,
) -> Result<Response, Problem> {
    let reason = reason.unwrap_or_else(|| "a person paused it".to_owned());
    if reason.chars().count() > 200 || reason.chars().any(char::is_control) {
        return Err(Problem::invalid("reason", "must have at most 200 characters, and no control characters"));
    }
    let key = context.key.as_ref();
    let gateway = named(&app, &name)?;
    tracing::Span::current().record("gateway", gateway.as_str());
    Ok(done(app.gateways.pause(gateway, direction.map(Into::into), &reason, key).await?))
}

/// Resume a gateway
///
/// What has waited goes on, and the guard counts from now on.
#[utoipa::path(
    post, path = "/gateways/{name}/resume", tag = "gateways", operation_id = "resume_gateway",
    params(
        ("name" = String, Path, description = "The gateway, such as stripe"),
        OnceHeader,
    ),
    request_body(content = Option<ResumeRequest>, description = "Not needed to resume both directions"),
    responses(
        (status = 204, description = "It goes on"),
        (status = 404, description = "No gateway has this name", body = ProblemBody, content_type = "application/problem+json"),
        Common, OfBody,
    )
)]
#[tracing::instrument(name = "gateways.resume", skip_all, fields(gateway))]
pub(crate) async fn resume(
    State(app): State<App>,
    Named(name): Named<String>,
    Write { body: Optional(ResumeRequest { direction }), context, .. }: Write<Optional<ResumeRequest>>,
) -> Result<Response, Problem> {
    let gateway = named(&app, &name)?;
    tracing::Span::current().record("gateway", gateway.as_str());
    Ok(done(app.gateways.resume(gateway, direction.map(Into::into), context.key.as_ref()).await?))
}

/// A gateway's name in a query.
pub(crate) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<GatewayName>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

fn named<'a>(app: &'a App, name: &str) -> Result<&'a GatewayName, Problem> {
    app.gateways.named(name).ok_or_else(|| Problem::not_found("no gateway has this name"))
}
