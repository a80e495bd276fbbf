//! `DELETE /customers/{id}`

use axum::extract::State;
use axum::response::Response;
use tandem_domain::{CustomerCommand, CustomerId, Delete};
use tandem_eventlog::Context;

use crate::app::App;
use crate::body::CustomerPath;
use crate::execute::{Decision, Outcome};
use crate::precondition::IfMatch;
use crate::problem::{Common, OfBody, OfPrecondition, Problem, ProblemBody};
use crate::reply::gone;
use crate::write::{IfMatchHeader, NoBody, OnceHeader, Write};

/// Delete a customer, for ever
///
/// Its copies are deleted, too, unless a gateway is told otherwise. Deleting it again changes nothing.
#[utoipa::path(
    delete, path = "/customers/{id}", tag = "customers", operation_id = "delete_customer",
    params(
        ("id" = Uuid, Path, description = "The customer"),
        IfMatchHeader,
        OnceHeader,
    ),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 404, description = "There never was such a customer", body = ProblemBody, content_type = "application/problem+json"),
        Common, OfBody, OfPrecondition,
    )
)]
#[tracing::instrument(name = "customers.delete", skip_all, fields(customer.id = %id))]
pub(crate) async fn delete(
    State(app): State<App>,
    CustomerPath(id): CustomerPath,
    write: Write<NoBody>,
) -> Result<Response, Problem> {
    let outcome = run(&app, id, write.context, &write.if_match).await?;
    Ok(gone(&outcome))
}

pub(crate) async fn run(app: &App, id: CustomerId, context: Context, if_match: &IfMatch) -> Result<Outcome, Problem> {
    let command = CustomerCommand::Delete(Delete { at: app.clock.now() });
    app.execute(id, Decision::Fixed(Box::new(command)), context, if_match).await
}
