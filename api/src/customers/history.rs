//! `GET /customers/{id}/events`

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tandem_eventlog::history_after;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::body::{CustomerPath, Query};
use crate::event_body::EventBody;
use crate::page::{Limit, page};
use crate::problem::{Common, OfQuery, Problem, ProblemBody};

/// Which of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// Only after this version of the customer, as `next` told it.
    after: Option<u64>,
    /// How many at most: 1 to 100, usually 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<Limit>,
}

/// A page of a customer's history.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventList {
    /// Its events, oldest first.
    data: Vec<EventBody>,
    /// Where the next page begins: to be sent as `after`. Null on the last page.
    next: Option<u64>,
}

/// Show what happened to a customer
///
/// Page by page, oldest first; of a deleted customer, too.
#[utoipa::path(
    get, path = "/customers/{id}/events", tag = "customers", operation_id = "list_customer_events",
    params(("id" = Uuid, Path, description = "The customer"), HistoryQuery),
    responses(
        (status = 200, description = "A page of its history", body = EventList),
        (status = 404, description = "There is no such customer", body = ProblemBody, content_type = "application/problem+json"),
        Common, OfQuery,
    )
)]
#[tracing::instrument(name = "customers.history", skip_all, fields(customer.id = %id))]
pub(crate) async fn history(
    State(app): State<App>,
    CustomerPath(id): CustomerPath,
    Query(HistoryQuery { after, limit }): Query<HistoryQuery>,
) -> Result<Json<EventList>, Problem> {
    let limit = limit.unwrap_or(Limit::MOST);
    let (id, after) = (id.to_string(), after.unwrap_or_default());
    let session = app.store.disk().session().await?;
    let found = history_after(app.connections.pool(), "customer", &id, after, limit.and_one()).await?;
    // What has a position is on disk. The rest is there, but a crash could take it.
    if found.last().is_some_and(|newest| newest.position == 0) {
        app.store.disk().reached(session).await?;
    }
    // Whoever has a history has a first event.
    if found.is_empty() && history_after(app.connections.pool(), "customer", &id, 0, 1).await?.is_empty() {
        return Err(Problem::no_customer());
    }
    let (events, next) = page(found, limit, |last| last.version);
    Ok(Json(EventList { data: events.iter().map(EventBody::of).collect::<Result<_, _>>()?, next }))
}
