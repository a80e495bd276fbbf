//! `/customer`: the same customers under the paths that Tandem began with; the same handlers are behind.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use tandem_domain::CustomerId;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::{CustomerPath, Query};
use crate::customer_body::CustomerBody;
use crate::customer_patch::{CustomerPatch, NewCustomer};
use crate::customers::get::Fresh;
use crate::customers::{create, delete, get, update};
use crate::problem::{Common, FieldError, OfBody, OfCustomer, OfPrecondition, OfQuery, Problem, ProblemBody};
use crate::reply::{Versioned, gone, written};
use crate::write::{IfMatchHeader, JsonBody, OnceHeader, Write};

/// A new customer: both must be there, and not empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedCustomer {
    /// Full name or business name.
    name: String,
    /// Email address.
    email: String,
}

/// A change: what is null or not there stays, an empty text unsets.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Renamed {
    /// The customer.
    #[schema(format = Uuid)]
    id: String,
    /// Full name or business name.
    name: Option<String>,
    /// Email address.
    email: Option<String>,
}

/// Which customer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// The customer.
    #[schema(format = Uuid)]
    id: String,
}

impl JsonBody for NamedCustomer {}
impl JsonBody for Renamed {}
impl JsonBody for Which {}

/// Show a customer
#[utoipa::path(
    get, path = "/customer/{id}", tag = "customer", operation_id = "get_customer_1",
    params(("id" = Uuid, Path, description = "The customer"), Fresh),
    responses((status = 200, description = "The customer", body = CustomerBody), Common, OfQuery, OfCustomer)
)]
#[tracing::instrument(name = "customer.get", skip_all, fields(customer.id = %id))]
pub(crate) async fn get(
    State(app): State<App>,
    CustomerPath(id): CustomerPath,
    Query(Fresh { min_version }): Query<Fresh>,
) -> Result<Versioned, Problem> {
    get::run(&app, id, min_version).await
}

/// Create a customer with a name and an email
#[utoipa::path(
    post, path = "/customer", tag = "customer", operation_id = "create_customer_1",
    params(
        OnceHeader,
    ),
    request_body = NamedCustomer,
    responses((status = 201, description = "Created", body = CustomerBody), Common, OfBody)
)]
#[tracing::instrument(name = "customer.create", skip_all)]
pub(crate) async fn create(State(app): State<App>, write: Write<NamedCustomer>) -> Result<Response, Problem> {
    let NamedCustomer { name, email } = write.body;
    let missing: Vec<FieldError> = [("name", &name), ("email", &email)]
        .into_iter()
        .filter(|(_, text)| text.is_empty())
        .map(|(field, _)| FieldError { field: field.to_owned(), message: "must not be empty".to_owned() })
        .collect();
    if !missing.is_empty() {
        return Err(Problem::all_invalid(missing));
    }
    let profile = NewCustomer::of_name_and_email(name, email).parse()?;
    written(&create::run(&app, profile, write.context).await?, Some("/customer"))
}

/// Change a customer's name, email, or both
#[utoipa::path(
    put, path = "/customer", tag = "customer", operation_id = "update_customer_1",
    params(
        IfMatchHeader,
        OnceHeader,
    ),
    request_body = Renamed,
    responses(
        (status = 200, description = "The customer as it is now", body = CustomerBody),
        Common, OfBody, OfCustomer, OfPrecondition,
    )
)]
#[tracing::instrument(name = "customer.update", skip_all)]
pub(crate) async fn update(State(app): State<App>, write: Write<Renamed>) -> Result<Response, Problem> {
    let Write { body: Renamed { id, name, email }, context, if_match } = write;
    let body = CustomerPatch::of_name_and_email(name.map(Some), email.map(Some));
    written(&update::run(&app, parse(&id)?, Write { body, context, if_match }).await?, None)
}

/// Delete a customer, for ever
#[utoipa::path(
    delete, path = "/customer", tag = "customer", operation_id = "delete_customer_1",
    params(
        IfMatchHeader,
        OnceHeader,
    ),
    request_body = Which,
    responses(
        (status = 204, description = "It is deleted"),
        (status = 404, description = "There never was such a customer", body = ProblemBody, content_type = "application/problem+json"),
        Common, OfBody, OfPrecondition,
    )
)]
#[tracing::instrument(name = "customer.delete", skip_all)]
pub(crate) async fn delete(State(app): State<App>, write: Write<Which>) -> Result<Response, Problem> {
    let id = parse(&write.body.id)?;
    Ok(gone(&delete::run(&app, id, write.context, &write.if_match).await?))
}

fn parse(id: &str) -> Result<CustomerId, Problem> {
    id.parse().map_err(|_| Problem::invalid("id", "must be a UUID"))
}
