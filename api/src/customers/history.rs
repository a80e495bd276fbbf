//! `GET /customers/{id}/events`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::CustomerPath;
use crate::event_body::EventBody;
use crate::problem::{Common, Problem, ProblemBody};

/// A customer's history.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventList {
    /// Its events, oldest first.
    data: Vec<EventBody>,
}

/// Show what happened to a customer
///
/// Everything, oldest first; of a deleted customer, too.
#[utoipa::path(
    get, path = "/customers/{id}/events", tag = "customers", operation_id = "list_customer_events",
    params(("id" = Uuid, Path, description = "The customer")),
    responses(
        (status = 200, description = "Its history", body = EventList),
        (status = 404, description = "There is no such customer", body = ProblemBody, content_type = "application/problem+json"),
        Common,
    )
)]
#[tracing::instrument(name = "customers.history", skip_all, fields(customer.id = %id))]
pub(crate) async fn history(
    State(app): State<App>,
    CustomerPath(id): CustomerPath,
) -> Result<Json<EventList>, Problem> {
    let events = tandem_eventlog::history(&app.pool, "customer", &id.to_string()).await?;
    if events.is_empty() {
        return Err(Problem::no_customer());
    }
    Ok(Json(EventList { data: events.iter().map(EventBody::of).collect::<Result<_, _>>()? }))
}
