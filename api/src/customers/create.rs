//! `POST /customers`

use axum::extract::State;
use axum::response::Response;
use tandem_domain::{Create, CustomerCommand, CustomerId, Profile};
use tandem_eventlog::Context;
use uuid::Uuid;

use crate::app::App;
use crate::customer_body::CustomerBody;
use crate::customer_patch::NewCustomer;
use crate::execute::{Decision, Outcome};
use crate::precondition::IfMatch;
use crate::problem::{Common, OfBody, Problem};
use crate::reply::written;
use crate::write::{OnceHeader, Write};

/// Create a customer
///
/// Every gateway gets a copy within moments.
#[utoipa::path(
    post, path = "/customers", tag = "customers", operation_id = "create_customer",
    params(
        OnceHeader,
    ),
    request_body = NewCustomer,
    responses(
        (status = 201, description = "Created", body = CustomerBody, headers(
            ("ETag" = String, description = "Its version, quoted"),
            ("Location" = String, description = "Where it is"),
        )),
        Common, OfBody,
    )
)]
#[tracing::instrument(name = "customers.create", skip_all)]
pub(crate) async fn create(State(app): State<App>, write: Write<NewCustomer>) -> Result<Response, Problem> {
    let outcome = run(&app, write.body.parse()?, write.context).await?;
    written(&outcome, Some("/customers"))
}

/// A repeat finds the id of the first time by its key.
pub(crate) async fn run(app: &App, profile: Profile, context: Context) -> Result<Outcome, Problem> {
    let id = CustomerId(Uuid::now_v7());
    let command = CustomerCommand::Create(Create { profile, at: app.clock.now() });
    // Nobody else has this id: there is nothing to load.
    app.execute(id, Decision::Fixed(Box::new(command)), context.expecting(0), &IfMatch::Any).await
}
