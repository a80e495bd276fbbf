//! `PATCH /customers/{id}`

use axum::extract::State;
use axum::response::Response;
use tandem_domain::{CustomerCommand, CustomerId, Profile, Update};

use crate::app::App;
use crate::body::CustomerPath;
use crate::customer_body::CustomerBody;
use crate::customer_patch::CustomerPatch;
use crate::execute::{Decision, Outcome};
use crate::problem::{Common, OfBody, OfCustomer, OfPrecondition, Problem};
use crate::reply::written;
use crate::write::{IfMatchHeader, OnceHeader, Write};

/// Change a customer
///
/// A JSON merge patch (RFC 7396): null or an empty text unsets a field, fields that are not there stay. Rules are applied
/// to what changes alone: what Stripe holds under rules of its own may stay. Every linked gateway follows
/// within moments. Setting what is already so changes nothing.
#[utoipa::path(
    patch, path = "/customers/{id}", tag = "customers", operation_id = "update_customer",
    params(
        ("id" = Uuid, Path, description = "The customer"),
        IfMatchHeader,
        OnceHeader,
    ),
    request_body(content((CustomerPatch = "application/merge-patch+json"), (CustomerPatch = "application/json"))),
    responses(
        (status = 200, description = "The customer as it is now", body = CustomerBody, headers(
            ("ETag" = String, description = "Its version, quoted"),
        )),
        Common, OfBody, OfCustomer, OfPrecondition,
    )
)]
#[tracing::instrument(name = "customers.update", skip_all, fields(customer.id = %id))]
pub(crate) async fn update(
    State(app): State<App>,
    CustomerPath(id): CustomerPath,
    write: Write<CustomerPatch>,
) -> Result<Response, Problem> {
    let outcome = run(&app, id, write).await?;
    written(&outcome, None)
}

pub(crate) async fn run(
    app: &App,
    id: CustomerId,
    Write { body, context, if_match }: Write<CustomerPatch>,
) -> Result<Outcome, Problem> {
    let at = app.clock.now();
    let decision = if body.is_relative() {
        Decision::Relative(Box::new(move |current| {
            CustomerCommand::Update(Update { patch: body.against(current), at })
        }))
    } else {
        Decision::Fixed(Box::new(CustomerCommand::Update(Update { patch: body.against(&Profile::default()), at })))
    };
    app.execute(id, decision, context, &if_match).await
}
