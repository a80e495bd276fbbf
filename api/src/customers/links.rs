//! `GET /customers/{id}/links`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tandem_gateways::LinkStatus;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::CustomerPath;
use crate::customer_body::Timestamp;
use crate::problem::{Common, Problem, ProblemBody};

/// How a customer stands at each gateway.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LinkList {
    /// One link a gateway that has heard of it.
    data: Vec<LinkBody>,
}

/// One customer at one gateway.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Link)]
pub(crate) struct LinkBody {
    /// The gateway.
    gateway: String,
    /// What it calls the customer; null until it is created there.
    remote_id: Option<String>,
    /// `active`, `deleted` or `unlinked`.
    state: String,
    /// Nothing waits to be told or looked at, or for a person.
    in_sync: bool,
    /// Since when it is so.
    since: Timestamp,
    /// What went wrong last, if it has not gone right since.
    last_error: Option<String>,
    /// What waits for a person, by its number under `/parked`.
    parked: Option<i64>,
    /// On how many fields both sides differ until a person decides: see `/conflicts`.
    contested: i32,
}

impl From<LinkStatus> for LinkBody {
    fn from(
        LinkStatus { gateway, remote_id, state, in_sync, since, last_error, parked, contested }: LinkStatus,
    ) -> Self {
        Self { gateway, remote_id, state, in_sync, since: Timestamp(since), last_error, parked, contested }
    }
}

/// Show how a customer stands at each gateway
///
/// Of a deleted customer, too.
#[utoipa::path(
    get, path = "/customers/{id}/links", tag = "customers", operation_id = "list_links",
    params(("id" = Uuid, Path, description = "The customer")),
    responses(
        (status = 200, description = "Its links", body = LinkList),
        (status = 404, description = "There is no such customer", body = ProblemBody, content_type = "application/problem+json"),
        Common,
    )
)]
#[tracing::instrument(name = "customers.links", skip_all, fields(customer.id = %id))]
pub(crate) async fn links(State(app): State<App>, CustomerPath(id): CustomerPath) -> Result<Json<LinkList>, Problem> {
    let data: Vec<LinkBody> = app.gateways.links(id).await?.into_iter().map(Into::into).collect();
    // A gateway may know of a customer a moment before the catalog does.
    if app.store.load(&id.to_string()).await?.version == 0 {
        return Err(Problem::no_customer());
    }
    Ok(Json(LinkList { data }))
}
