//! Every path of the API on one screen.

use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::problem::Problem;
use crate::{auth, conflicts, customer, customers, events, gateways, health, openapi, parked, request, webhooks};

/// The routes, and the document that describes them.
pub(crate) fn routes(app: &App) -> (OpenApiRouter<App>, OpenApi) {
    let catalog = OpenApiRouter::new()
        .routes(routes!(customers::list::list, customers::create::create))
        .routes(routes!(customers::get::get, customers::update::update, customers::delete::delete))
        .routes(routes!(customers::links::links))
        .routes(routes!(customers::history::history))
        .routes(routes!(customer::get))
        .routes(routes!(customer::create, customer::update, customer::delete))
        .routes(routes!(events::events))
        .routes(routes!(conflicts::list))
        .routes(routes!(conflicts::resolve))
        .routes(routes!(gateways::list))
        .routes(routes!(gateways::pause))
        .routes(routes!(gateways::resume))
        .routes(routes!(parked::list))
        .routes(routes!(parked::retry))
        .routes(routes!(parked::dismiss))
        .routes(routes!(parked::link))
        .routes(routes!(parked::delete))
        .routes(routes!(parked::keep))
        .layer(from_fn_with_state(app.clone(), request::started));

    let service = OpenApiRouter::new().routes(routes!(health::metrics)).routes(routes!(openapi::show));

    // Webhooks are signed, and come through tunnels; whether the process lives, and is ready, is no secret.
    let open = OpenApiRouter::new()
        .routes(routes!(webhooks::take))
        .layer(from_fn_with_state(app.clone(), request::started))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz));

    let guarded = catalog.merge(service).layer(from_fn_with_state(app.clone(), auth::guard));
    let all = OpenApiRouter::with_openapi(openapi::frame()).merge(guarded).merge(open);
    let document = all.get_openapi().clone();
    (all, document)
}

/// The whole service as one router.
pub(crate) fn service(app: App) -> Router {
    let (routes, document) = routes(&app);
    let (routes, _) = routes.split_for_parts();
    routes
        .fallback(async || Problem::not_found("there is no such path; /openapi.json has them all"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(Extension(openapi::Rendered::of(&document)))
        .layer(CatchPanicLayer::custom(|panic| panicked(&panic)))
        .layer(from_fn(request::observe))
        .with_state(app)
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> axum::response::Response {
    let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = message.unwrap_or("unknown"), "a request panicked");
    Problem::defect().into_response()
}
