//! `/parked`: what waits for a person.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tandem_domain::GatewayName;
use tandem_gateways::{Parked, Verdict};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::app::App;
use crate::body::{Named, Query};
use crate::customer_body::Timestamp;
use crate::gateways;
use crate::page::{Limit, page};
use crate::problem::{Common, OfBody, OfQuery, Problem, ProblemBody};
use crate::reply::done;
use crate::write::{JsonBody, NoBody, OnceHeader, Optional, Write};

/// Which of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ParkedQuery {
    /// Only at this gateway.
    #[serde(default, deserialize_with = "gateways::name")]
    #[param(value_type = Option<String>)]
    gateway: Option<GatewayName>,
    /// Only after this number, as `next` told it.
    after: Option<i64>,
    /// How many at most: 1 to 100, usually 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<Limit>,
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
    /// `rejected`: a push, or a read, that repeating cannot help, or something stored that cannot be read (its code is
    /// `stored_unreadable`); `duplicate`: a second object with one customer's id; `ambiguous`: the
    /// other side has one with the same email that no link knows; `deletion`: one side is deleted, and nobody has said yet
    /// whether the other shall be; `unstorable`: a change that the gateway told of and that cannot be stored.
    kind: String,
    /// Whose; null of an unstorable one. Of an ambiguous one, the customer that may be the same as the object; null where several may be.
    customer_id: Option<Uuid>,
    /// The gateway's object, if there is one. Of an ambiguous one, the object that may be the same as the customer; null
    /// where several may be.
    remote_id: Option<String>,
    /// Of an ambiguous one, the ids that it may be the same as: of the gateway's objects where a customer is to be created
    /// there, of customers where an object is to be imported.
    candidates: Vec<String>,
    /// The field that the gateway named.
    field: Option<String>,
    /// The gateway's code, such as `email_invalid`.
    code: Option<String>,
    /// Why.
    reason: String,
    /// Since when.
    parked_at: Timestamp,
    /// Of a deletion, which side is deleted: `catalog` or `gateway`.
    deleted_side: Option<String>,
    /// Of a deletion, when that was, as far as is known.
    deleted_at: Option<Timestamp>,
}

impl From<Parked> for ParkedBody {
    fn from(parked: Parked) -> Self {
        Self {
            id: parked.id,
            gateway: parked.gateway,
            kind: parked.kind,
            customer_id: parked.customer_id,
            remote_id: parked.remote_id,
            candidates: parked.candidates,
            field: parked.field,
            code: parked.code,
            reason: parked.reason,
            parked_at: Timestamp(parked.parked_at),
            deleted_side: parked.deleted_side,
            deleted_at: parked.deleted_at.map(Timestamp),
        }
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
    let limit = limit.unwrap_or(Limit::MOST);
    let gateway = gateway.as_ref().map(GatewayName::as_str);
    let found = app.gateways.parked(gateway, after.unwrap_or_default(), limit.and_one().into()).await?;
    let (parked, next) = page(found, limit, |last| last.id);
    Ok(Json(ParkedList { data: parked.into_iter().map(Into::into).collect(), next }))
}

/// Try it again
///
/// The push is made anew from what the customer is now; what is ambiguous is looked at again; what could not be stored is tried
/// again.
#[utoipa::path(
    post, path = "/parked/{id}/retry", tag = "parked", operation_id = "retry_parked",
    params(
        ("id" = i64, Path, description = "Its number"),
        OnceHeader,
    ),
    responses(
        (status = 204, description = "It is tried again"),
        (status = 404, description = "Nothing is parked under this number", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is a deletion, which is decided by `delete` or `keep`", body = ProblemBody, content_type = "application/problem+json"),
        Common, OfBody,
    )
)]
#[tracing::instrument(name = "parked.retry", skip_all, fields(parked.id = id))]
pub(crate) async fn retry(
    State(app): State<App>,
    Named(id): Named<i64>,
    write: Write<NoBody>,
) -> Result<Response, Problem> {
    Ok(done(app.gateways.retry(id, write.context.key.as_ref()).await?))
}

/// Let it be
///
/// A rejected push is not tried until the customer is edited again; a second copy stays unlinked. Of what is ambiguous it says
/// that they are two: it is created, or imported, after all. A change that cannot be stored is forgotten.
#[utoipa::path(
    post, path = "/parked/{id}/dismiss", tag = "parked", operation_id = "dismiss_parked",
    params(
        ("id" = i64, Path, description = "Its number"),
        OnceHeader,
    ),
    responses(
        (status = 204, description = "It is dismissed"),
        (status = 404, description = "Nothing is parked under this number", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is a deletion, which is decided by `delete` or `keep`", body = ProblemBody, content_type = "application/problem+json"),
        Common, OfBody,
    )
)]
#[tracing::instrument(name = "parked.dismiss", skip_all, fields(parked.id = id))]
pub(crate) async fn dismiss(
    State(app): State<App>,
    Named(id): Named<i64>,
    write: Write<NoBody>,
) -> Result<Response, Problem> {
    Ok(done(app.gateways.dismiss(id, write.context.key.as_ref()).await?))
}

/// Which of the candidates.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chosen {
    /// Its id, as `candidates` has it. Needed only where there are several.
    candidate: Option<String>,
}

impl JsonBody for Chosen {}

/// Link what is ambiguous
///
/// They are the same: the customer and the gateway's object become one, and are merged. Where they differ is a conflict,
/// decided as any other, and both values stay readable.
#[utoipa::path(
    post, path = "/parked/{id}/link", tag = "parked", operation_id = "link_parked",
    params(
        ("id" = i64, Path, description = "Its number"),
        OnceHeader,
    ),
    request_body(content = Option<Chosen>, description = "Not needed where there is one candidate"),
    responses(
        (status = 204, description = "They are linked"),
        (status = 404, description = "Nothing is parked under this number", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is not ambiguous, or one of the two is linked by now", body = ProblemBody, content_type = "application/problem+json"),
        Common, OfBody,
    )
)]
#[tracing::instrument(name = "parked.link", skip_all, fields(parked.id = id))]
pub(crate) async fn link(
    State(app): State<App>,
    Named(id): Named<i64>,
    Write { body: Optional(Chosen { candidate }), context, .. }: Write<Optional<Chosen>>,
) -> Result<Response, Problem> {
    Ok(done(app.gateways.link(id, candidate.as_deref(), context.key.as_ref()).await?))
}

/// Carry a deletion out
///
/// The other side is deleted, too. Saying it again changes nothing.
#[utoipa::path(
    post, path = "/parked/{id}/delete", tag = "parked", operation_id = "delete_parked",
    params(
        ("id" = i64, Path, description = "Its number"),
        OnceHeader,
    ),
    responses(
        (status = 204, description = "It is carried out in a moment"),
        (status = 404, description = "Nothing is parked under this number", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is no deletion, it was decided otherwise, or both sides are deleted by now", body = ProblemBody, content_type = "application/problem+json"),
        Common, OfBody,
    )
)]
#[tracing::instrument(name = "parked.delete", skip_all, fields(parked.id = id))]
pub(crate) async fn delete(
    State(app): State<App>,
    Named(id): Named<i64>,
    write: Write<NoBody>,
) -> Result<Response, Problem> {
    Ok(done(app.gateways.decide(id, Verdict::Delete, write.context.key.as_ref()).await?))
}

/// Keep the other side of a deletion
///
/// It lives on, and is no longer kept in step. Saying it again changes nothing.
#[utoipa::path(
    post, path = "/parked/{id}/keep", tag = "parked", operation_id = "keep_parked",
    params(
        ("id" = i64, Path, description = "Its number"),
        OnceHeader,
    ),
    responses(
        (status = 204, description = "It is unlinked in a moment"),
        (status = 404, description = "Nothing is parked under this number", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is no deletion, it was decided otherwise, or both sides are deleted by now", body = ProblemBody, content_type = "application/problem+json"),
        Common, OfBody,
    )
)]
#[tracing::instrument(name = "parked.keep", skip_all, fields(parked.id = id))]
pub(crate) async fn keep(
    State(app): State<App>,
    Named(id): Named<i64>,
    write: Write<NoBody>,
) -> Result<Response, Problem> {
    Ok(done(app.gateways.decide(id, Verdict::Keep, write.context.key.as_ref()).await?))
}
