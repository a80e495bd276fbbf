//! Every path of the API on one screen.

use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::get;
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
    let routes = routes
        .fallback(async || Problem::not_found("there is no such path; /openapi.json has them all"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(Extension(openapi::Rendered::of(&document)));
    observed(routes.with_state(app))
}

/// What is left of it for those who come when there are as many connections as there may be.
pub(crate) fn health_alone(app: App) -> Router {
    let routes = Router::new().route("/healthz", get(health::healthz)).route("/readyz", get(health::readyz));
    observed(routes.fallback(async || Problem::full()).with_state(app))
}

/// With what is around every request, whatever comes of it.
fn observed(routes: Router) -> Router {
    routes.layer(CatchPanicLayer::custom(|panic| panicked(&panic))).layer(from_fn(request::observe))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> axum::response::Response {
    let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = message.unwrap_or("unknown"), "a request panicked");
    Problem::defect().into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_as_any_request_is() {
        let routes = observed(Router::new().route("/", get(async || -> &'static str { panic!("a defect") })));
        let answer = routes.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert!(answer.headers().contains_key("x-request-id"));
    }
}
