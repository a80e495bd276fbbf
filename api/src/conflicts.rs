//! `/conflicts`: fields that two people edited without knowing of each other.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tandem_domain::{CustomerCommand, CustomerId, Field, GatewayName, Keep, Profile, Resolve};
use tandem_projections::{ConflictRow, ConflictSearch};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::app::App;
use crate::body::{Named, Query};
use crate::customer_body::{CustomerBody, Timestamp};
use crate::customer_patch::CustomerPatch;
use crate::event_body::SideBody;
use crate::execute::Decision;
use crate::gateways;
use crate::page::{Limit, page};
use crate::problem::{Common, OfBody, OfPrecondition, OfQuery, Problem, ProblemBody};
use crate::reply::written;
use crate::write::{IfMatchHeader, JsonBody, OnceHeader, Write};

/// Which of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConflictQuery {
    /// Only those that wait for a person (`open`), or only those that do not (`resolved`).
    #[param(inline)]
    state: Option<ConflictState>,
    /// Only with this gateway.
    #[serde(default, deserialize_with = "gateways::name")]
    #[param(value_type = Option<String>)]
    gateway: Option<GatewayName>,
    /// Only of this customer.
    customer: Option<Uuid>,
    /// Only after this number, as `next` told it.
    after: Option<i64>,
    /// How many at most: 1 to 100, usually 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<Limit>,
}

/// Whether it waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConflictState {
    /// It does.
    Open,
    /// It is decided.
    Resolved,
}

/// A page of conflicts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConflictList {
    /// Oldest first.
    data: Vec<ContestBody>,
    /// Where the next page begins: to be sent as `after`. Null on the last page.
    next: Option<i64>,
}

/// Two edits of one field, made without knowing of each other. Both values stay readable here.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConflictOfCustomer)]
pub(crate) struct ContestBody {
    /// Its number: the place in the feed of the event that told of it first.
    id: i64,
    /// Whether it waits for a person.
    state: ConflictState,
    /// Whose field.
    customer_id: Uuid,
    /// Between the catalog and which gateway.
    gateway: String,
    /// The field (`email`, `metadata.plan`).
    field: String,
    /// The catalog's side.
    catalog: OriginBody,
    /// The gateway's side.
    remote: OriginBody,
    /// Whose value stands: `catalog`, `gateway`, `value` (a third one), or neither (`deletion`); null while it waits.
    winner: Option<String>,
    /// By which rule: `latest`, `catalog`, `gateway`, or `ask` (a person's decision).
    policy: String,
    /// Since when.
    opened_at: Timestamp,
    /// When it was decided.
    resolved_at: Option<Timestamp>,
}

/// One side of a conflict.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginBody {
    #[serde(flatten)]
    side: SideBody,
    /// Who wrote it: `api`, or a gateway's name.
    origin: Option<String>,
}

impl From<ConflictRow> for ContestBody {
    fn from(row: ConflictRow) -> Self {
        let remote = OriginBody { side: row.remote.into(), origin: Some(row.gateway.clone()) };
        Self {
            id: row.id,
            state: if row.winner.is_some() { ConflictState::Resolved } else { ConflictState::Open },
            customer_id: row.customer_id,
            gateway: row.gateway,
            field: row.field,
            catalog: OriginBody { side: row.catalog.into(), origin: row.catalog_origin },
            remote,
            winner: row.winner,
            policy: row.policy,
            opened_at: Timestamp(row.opened_at),
            resolved_at: row.resolved_at.map(Timestamp),
        }
    }
}

/// List conflicts, open and past
///
/// Every value that an edit on the other side replaced is here, with both values.
#[utoipa::path(
    get, path = "/conflicts", tag = "conflicts", operation_id = "list_conflicts",
    params(ConflictQuery),
    responses((status = 200, description = "A page", body = ConflictList), Common, OfQuery)
)]
#[tracing::instrument(name = "conflicts.list", skip_all)]
pub(crate) async fn list(
    State(app): State<App>,
    Query(ConflictQuery { state, gateway, customer, after, limit }): Query<ConflictQuery>,
) -> Result<Json<ConflictList>, Problem> {
    let open = state.map(|state| state == ConflictState::Open);
    let limit = limit.unwrap_or(Limit::MOST);
    let gateway = gateway.map(|name| name.to_string());
    let after = after.unwrap_or_default();
    let search = ConflictSearch { open, gateway, customer, after, limit: limit.and_one().into() };
    let (rows, next) =
        page(tandem_projections::conflicts(app.connections.pool(), &search).await?, limit, |last| last.id);
    Ok(Json(ConflictList { data: rows.into_iter().map(Into::into).collect(), next }))
}

/// What a person decides.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"keep": "gateway"}))]
pub(crate) struct Resolution {
    /// Which value shall stand.
    keep: KeepWord,
    /// With `value`: what the field shall be; null unsets it.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<Value>)]
    value: Option<Value>,
}

/// Which value shall stand: the catalog's, the gateway's, or the one that is sent as `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeepWord {
    Catalog,
    Gateway,
    Value,
}

impl JsonBody for Resolution {}

/// What is there, null too, is told.
fn told<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Decide a conflict
///
/// The value that is kept goes to both sides.
#[utoipa::path(
    post, path = "/conflicts/{id}/resolve", tag = "conflicts", operation_id = "resolve_conflict",
    params(
        ("id" = i64, Path, description = "Its number"),
        IfMatchHeader,
        OnceHeader,
    ),
    request_body(content = Resolution, content_type = "application/json"),
    responses(
        (status = 200, description = "The customer as it is now", body = CustomerBody, headers(
            ("ETag" = String, description = "Its version, quoted"),
        )),
        (status = 404, description = "There is no such conflict", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is decided already", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "The customer was deleted", body = ProblemBody, content_type = "application/problem+json"),
        Common, OfBody, OfPrecondition,
    )
)]
#[tracing::instrument(name = "conflicts.resolve", skip_all, fields(conflict.id = id))]
pub(crate) async fn resolve(
    State(app): State<App>,
    Named(id): Named<i64>,
    Write { body, context, if_match }: Write<Resolution>,
) -> Result<Response, Problem> {
    let row = tandem_projections::conflict(app.connections.pool(), id).await?;
    let row = row.ok_or_else(|| Problem::not_found("there is no conflict of this number"))?;
    let field: Field = row.field.parse().map_err(|_| Problem::later_field(&row.field))?;
    let patched = field.clone();
    let gateway: GatewayName = row.gateway.parse().map_err(|error| Problem::internal(&error))?;
    let since = row.opened_at;
    let at = app.clock.now();
    let command = move |keep| {
        CustomerCommand::Resolve(Resolve { gateway: gateway.clone(), field: field.clone(), since, keep, at })
    };
    let decision = match (body.keep, body.value) {
        (KeepWord::Catalog, None) => Decision::Fixed(Box::new(command(Keep::Catalog))),
        (KeepWord::Gateway, None) => Decision::Fixed(Box::new(command(Keep::Gateway))),
        (KeepWord::Value, Some(value)) => {
            let field = patched;
            let patch = patch(&field, value)?;
            Decision::Relative(Box::new(move |current: &Profile| {
                let changed = patch.against(current);
                let chosen = changed.iter().find(|(name, _)| **name == field);
                command(Keep::Value(chosen.map_or_else(|| current.get(&field).cloned(), |(_, value)| value.cloned())))
            }))
        }
        (KeepWord::Value, None) => return Err(Problem::invalid("value", "must be there; null unsets the field")),
        (_, Some(_)) => return Err(Problem::invalid("value", "goes with keep: value only")),
    };
    let outcome = app.execute(CustomerId(row.customer_id), decision, context, &if_match).await?;
    written(&outcome, None)
}

/// A value is read as in a change of its field.
fn patch(field: &Field, value: Value) -> Result<CustomerPatch, Problem> {
    let body = match field {
        Field::Metadata(key) => json!({ "metadata": { key.as_str(): value } }),
        Field::Name | Field::Email | Field::Phone | Field::Address | Field::Other(_) => {
            json!({ field.to_string(): value })
        }
    };
    serde_json::from_value(body).map_err(|_| Problem::invalid("value", format!("must be as {field} is in PATCH")))
}
