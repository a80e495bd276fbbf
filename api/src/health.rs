//! `GET /healthz`, `GET /readyz` and `GET /metrics`

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::connection::State as Connection;
use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use tandem_eventlog::ProjectorStatus;
use tandem_projections::{FeedLag, lag};
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::app::App;
use crate::log::chain;
use crate::nats;
use crate::problem::{Admission, Problem};

/// Longest wait for the answer of PostgreSQL, and of NATS.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long those without a key are told the same.
const RECENT: Duration = Duration::from_secs(1);

/// The process lives.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
}

/// Whether the service does all of its work, part by part.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// Every part is.
    ready: bool,
    /// What the start waits for; null once the service has started.
    #[schema(required = false)]
    starting: Option<String>,
    /// The database.
    #[schema(required = false)]
    postgresql: PartBody,
    /// The message server.
    #[schema(required = false)]
    nats: PartBody,
    /// What numbers and publishes events.
    #[schema(required = false)]
    relay: RelayBody,
    /// What reads them.
    #[schema(required = false)]
    projectors: Vec<ProjectorBody>,
}

/// One part.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Part)]
pub(crate) struct PartBody {
    /// It does its work.
    ok: bool,
    /// What is wrong with it.
    problem: Option<String>,
}

/// The relay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Relay)]
pub(crate) struct RelayBody {
    /// It does its work, or another process's does.
    ok: bool,
    /// This process's is the one at work; otherwise it stands by.
    active: bool,
    /// Events that are committed and have no position yet.
    lag_events: i64,
    /// How long the oldest of them has waited.
    lag_seconds: f64,
    /// Messages that somebody has deleted from the stream, as far as this process's relay knows; PostgreSQL is read for them.
    missing_messages: u64,
    /// What is wrong with it.
    problem: Option<String>,
}

/// One projector.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Projector)]
pub(crate) struct ProjectorBody {
    /// Its name.
    name: String,
    /// It does its work.
    ok: bool,
    /// The last event that it applied.
    position: i64,
    /// Events that it has before it.
    lag_events: i64,
    /// How long the first of them has waited.
    lag_seconds: f64,
    /// Messages of the stream that this process has refused since it started: they are not proved to be Tandem's, and PostgreSQL
    /// was read instead.
    refused: u64,
    /// What is wrong with it.
    problem: Option<String>,
}

/// Say that the process lives
///
/// Needs no API key.
#[utoipa::path(
    get, path = "/healthz", tag = "service", operation_id = "health",
    security(()),
    responses((status = 200, description = "It lives", body = Health))
)]
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Say whether the service does all of its work
///
/// The status and `ready` are for everybody; the parts, and what is wrong with them, for those who may ask the other
/// routes, too.
#[utoipa::path(
    get, path = "/readyz", tag = "service", operation_id = "readiness",
    security((), ("key" = [])),
    responses(
        (status = 200, description = "It does", body = Readiness),
        (status = 503, description = "A part does not", body = Readiness),
    )
)]
pub(crate) async fn readyz(State(app): State<App>, request: Parts) -> Response {
    let (ready, mut response) = if app.keys.admit(&request.uri, &request.headers).is_ok() {
        let readiness = app.readiness().await;
        (readiness.ready, Json(readiness).into_response())
    } else {
        let ready = app.recently_ready().await;
        (ready, Json(json!({ "ready": ready })).into_response())
    };
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Show measurements
///
/// In Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "service", operation_id = "metrics",
    responses(
        (status = 200, description = "Measurements", body = String, content_type = "text/plain; version=0.0.4"),
        Admission,
    )
)]
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    // Of all processes; where the database does not answer, what this one saw last stays.
    if let Ok(Ok(lag)) = tokio::time::timeout(PATIENCE, lag(app.connections.pool())).await {
        measure(&lag);
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render()).into_response())
}

fn measure(lag: &FeedLag) {
    metrics::gauge!("tandem_postgresql_writable").set(if lag.writable { 1 } else { 0 });
    metrics::gauge!("tandem_feed_position").set(lag.head as f64);
    metrics::gauge!("tandem_relay_unnumbered_events").set(lag.unnumbered as f64);
    metrics::gauge!("tandem_relay_unnumbered_seconds").set(lag.unnumbered_seconds);
    for projector in &lag.projectors {
        let labels = [("projector", projector.name.clone())];
        metrics::gauge!("tandem_projector_lag_events", &labels).set(projector.events as f64);
        metrics::gauge!("tandem_projector_lag_seconds", &labels).set(projector.seconds);
    }
}

/// Whether the service was ready, and when that was seen.
#[derive(Clone, Default)]
pub(crate) struct LastSeen(Arc<Mutex<Option<(Instant, bool)>>>);

impl App {
    /// Measured once at a time, and once in a while: or anybody could keep the database busy.
    async fn recently_ready(&self) -> bool {
        let mut seen = self.seen.0.lock().await;
        match *seen {
            Some((at, ready)) if at.elapsed() < RECENT => ready,
            _ => {
                let ready = self.readiness().await.ready;
                *seen = Some((Instant::now(), ready));
                ready
            }
        }
    }

    async fn readiness(&self) -> Readiness {
        let starting = self.starting.borrow().clone();
        let measured = tokio::time::timeout(PATIENCE, lag(self.connections.pool()));
        let (measured, without_nats) = tokio::join!(measured, self.without_nats());
        let measured = match measured {
            Ok(Ok(lag)) => Ok(lag),
            // Before the first migration there are no tables.
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("it does not answer in time".to_owned()),
        };
        let nats = PartBody { ok: without_nats.is_none(), problem: without_nats };
        let (postgresql, lag) = match measured {
            Ok(lag) => {
                let problem = (!lag.writable).then(|| "it takes no writes: a standby, or set read-only".to_owned());
                (PartBody { ok: lag.writable, problem }, lag)
            }
            Err(problem) => {
                let nothing =
                    FeedLag { writable: false, head: 0, unnumbered: 0, unnumbered_seconds: 0.0, projectors: vec![] };
                (PartBody { ok: false, problem: Some(problem) }, nothing)
            }
        };
        let relay = self.relay_body(&lag);
        let projectors: Vec<ProjectorBody> =
            self.projectors().into_iter().map(|(name, status)| self.projector_body(name, &status, &lag)).collect();
        let ready = starting.is_none()
            && postgresql.ok
            && nats.ok
            && relay.ok
            && projectors.iter().all(|projector| projector.ok);
        Readiness { ready, starting, postgresql, nats, relay, projectors }
    }

    /// Why there is no connection to NATS: asked of a new one, since the client that connects again and again tells nobody.
    async fn without_nats(&self) -> Option<String> {
        if self.nats.connection_state() == Connection::Connected {
            return None;
        }
        let asked = async {
            let (servers, options) = nats::options(&self.nats_config).map_err(|error| chain(&error))?;
            nats::probe(&servers, options).await.map_err(|refused| chain(&refused))
        };
        let refused = tokio::time::timeout(PATIENCE, asked).await.ok().and_then(Result::err);
        Some(refused.unwrap_or_else(|| "there is no connection".to_owned()))
    }

    fn relay_body(&self, lag: &FeedLag) -> RelayBody {
        let status = self.relay.borrow();
        let late = lag.unnumbered_seconds > self.ready_lag_seconds;
        let problem = status
            .stopped
            .clone()
            .or_else(|| status.failing.clone())
            .or_else(|| late.then(|| "events wait for their positions for too long".to_owned()));
        RelayBody {
            ok: problem.is_none(),
            active: status.active,
            lag_events: lag.unnumbered,
            lag_seconds: lag.unnumbered_seconds,
            missing_messages: status.missing,
            problem,
        }
    }

    fn projector_body(&self, name: String, status: &ProjectorStatus, lag: &FeedLag) -> ProjectorBody {
        let lag = lag.projectors.iter().find(|lag| lag.name == name);
        let late = lag.is_some_and(|lag| lag.seconds > self.ready_lag_seconds);
        let problem = status
            .stopped
            .clone()
            .or_else(|| status.failing.clone())
            .or_else(|| late.then(|| "it is too far behind".to_owned()))
            .or_else(|| lag.is_none().then(|| "it has not begun".to_owned()));
        ProjectorBody {
            name,
            ok: problem.is_none(),
            position: lag.map_or(0, |lag| lag.position),
            lag_events: lag.map_or(0, |lag| lag.events),
            lag_seconds: lag.map_or(0.0, |lag| lag.seconds),
            refused: status.refused,
            problem,
        }
    }

    /// What this process runs, by the names of the checkpoints. Another's (a gateway that is switched off here) are its
    /// own.
    fn projectors(&self) -> Vec<(String, ProjectorStatus)> {
        let customers = ("customers".to_owned(), self.customers.status().borrow().clone());
        let gateways = self.gateways.projectors().into_iter();
        let gateways = gateways.map(|(name, status)| (format!("gateway.{name}"), status.borrow().clone()));
        std::iter::once(customers).chain(gateways).collect()
    }
}
