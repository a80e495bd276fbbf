//! `/parked`: what waits for a person.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tandem_gateways::Parked;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::app::App;
use crate::body::Query;
use crate::customer_body::Timestamp;
use crate::problem::{Common, OfQuery, Problem, ProblemBody};

/// Most on a page.
const MOST: i64 = 100;

/// Which of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ParkedQuery {
    /// Only at this gateway.
    gateway: Option<String>,
    /// Only after this number, as `next` told it.
    after: Option<i64>,
    /// How many at most: 1 to 100, usually 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
}

/// A page of what waits for a person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ParkedList {
    /// Oldest first.
    data: Vec<ParkedBody>,
    /// Where the next page begins: to be sent as `after`. Null on the last page.
    next: Option<i64>,
}

/// Something that waits for a person.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Parked)]
pub(crate) struct ParkedBody {
    /// Its number.
    id: i64,
    /// At which gateway.
    gateway: String,
    /// `rejected`: a push that repeating cannot help; `duplicate`: a second object with one customer's id.
    kind: String,
    /// Whose.
    customer_id: Uuid,
    /// The gateway's object, if there is one.
    remote_id: Option<String>,
    /// The field that the gateway named.
    field: Option<String>,
    /// The gateway's code, such as `email_invalid`.
    code: Option<String>,
    /// Why.
    reason: String,
    /// Since when.
    parked_at: Timestamp,
}

impl From<Parked> for ParkedBody {
    fn from(parked: Parked) -> Self {
        let Parked { id, gateway, kind, customer_id, remote_id, field, code, reason, parked_at } = parked;
        let parked_at = Timestamp(parked_at);
        Self { id, gateway, kind, customer_id, remote_id, field, code, reason, parked_at }
    }
}

/// List what waits for a person
#[utoipa::path(
    get, path = "/parked", tag = "parked", operation_id = "list_parked",
    params(ParkedQuery),
    responses((status = 200, description = "A page", body = ParkedList), Common, OfQuery)
)]
#[tracing::instrument(name = "parked.list", skip_all)]
pub(crate) async fn list(
    State(app): State<App>,
    Query(ParkedQuery { gateway, after, limit }): Query<ParkedQuery>,
) -> Result<Json<ParkedList>, Problem> {
    let limit = limit.unwrap_or(MOST);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::invalid("limit", format!("must be from 1 to {MOST}")));
    }
    if gateway.as_ref().is_some_and(|name| name.contains('\0')) {
        return Err(Problem::invalid("gateway", "must be a gateway's name"));
    }
    let mut parked = app.gateways.parked(gateway.as_deref(), after.unwrap_or_default(), limit + 1).await?;
    let more = parked.len() as i64 > limit;
    parked.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = parked.last().filter(|_| more).map(|last| last.id);
    Ok(Json(ParkedList { data: parked.into_iter().map(Into::into).collect(), next }))
}

/// Try it again
///
/// The push is made anew from what the customer is now.
#[utoipa::path(
    post, path = "/parked/{id}/retry", tag = "parked", operation_id = "retry_parked",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 204, description = "It is tried again"),
        (status = 404, description = "Nothing is parked under this number", body = ProblemBody, content_type = "application/problem+json"),
        Common,
    )
)]
#[tracing::instrument(name = "parked.retry", skip_all, fields(parked.id = id))]
pub(crate) async fn retry(State(app): State<App>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    app.gateways.retry(parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let it be
///
/// A rejected push is not tried until the customer is edited again; a second copy stays unlinked.
#[utoipa::path(
    post, path = "/parked/{id}/dismiss", tag = "parked", operation_id = "dismiss_parked",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 204, description = "It is dismissed"),
        (status = 404, description = "Nothing is parked under this number", body = ProblemBody, content_type = "application/problem+json"),
        Common,
    )
)]
#[tracing::instrument(name = "parked.dismiss", skip_all, fields(parked.id = id))]
pub(crate) async fn dismiss(State(app): State<App>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    app.gateways.dismiss(parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse(id: &str) -> Result<i64, Problem> {
    id.parse().map_err(|_| Problem::not_found("nothing is parked under this number"))
}
