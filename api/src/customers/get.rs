//! `GET /customers/{id}`

use std::time::Duration;

use axum::extract::State;
use serde::Deserialize;
use tandem_domain::CustomerId;
use tandem_projections::State as CustomerState;
use utoipa::IntoParams;

use crate::app::App;
use crate::body::{CustomerPath, Query};
use crate::customer_body::CustomerBody;
use crate::problem::{Common, OfCustomer, OfQuery, Problem};
use crate::reply::Versioned;

/// Longest wait for a version.
const PATIENCE: Duration = Duration::from_secs(5);

/// How fresh the customer must be.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Fresh {
    /// Waits until the customer is at this version or a later one, 5 seconds at most.
    #[serde(default)]
    #[param(required = false)]
    pub(crate) min_version: u64,
}

/// Show a customer
///
/// With `min_version`, as the `ETag` of a write told it, the answer holds that write.
#[utoipa::path(
    get, path = "/customers/{id}", tag = "customers", operation_id = "get_customer",
    params(("id" = Uuid, Path, description = "The customer"), Fresh),
    responses(
        (status = 200, description = "The customer", body = CustomerBody, headers(
            ("ETag" = String, description = "Its version, quoted"),
        )),
        Common, OfQuery, OfCustomer,
    )
)]
#[tracing::instrument(name = "customers.get", skip_all, fields(customer.id = %id))]
pub(crate) async fn get(
    State(app): State<App>,
    CustomerPath(id): CustomerPath,
    Query(Fresh { min_version }): Query<Fresh>,
) -> Result<Versioned, Problem> {
    run(&app, id, min_version).await
}

pub(crate) async fn run(app: &App, id: CustomerId, min_version: u64) -> Result<Versioned, Problem> {
    let row = app.customers.get(id, min_version, PATIENCE).await?.ok_or_else(Problem::no_customer)?;
    match row.state {
        CustomerState::Active => Ok(Versioned(CustomerBody::from(row))),
        CustomerState::Deleted => Err(Problem::deleted()),
    }
}
