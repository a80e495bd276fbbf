//! `GET /events`: the feed, so far or live.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use tandem_eventlog::{Recorded, follow, last_position, read_after};
use utoipa::IntoParams;

use crate::app::App;
use crate::body::Query;
use crate::event_body::EventBody;
use crate::log::chain;
use crate::problem::{Common, OfQuery, Problem};

/// How many events are read at once.
const PAGE: u32 = 500;

/// How often a silent live feed shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// From where.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Since {
    /// Only events after this position; without it, all.
    #[param(required = false)]
    after: Option<u64>,
}

/// Read the feed
///
/// Every event of every customer, in order and without gaps. As newline-delimited JSON it ends where the feed ends now;
/// what is cut short does not end, its connection breaks off. Asked for as `text/event-stream` it goes on live, each event
/// with its position as its id: `Last-Event-ID` goes on after it, and wins over `after`.
#[utoipa::path(
    get, path = "/events", tag = "feed", operation_id = "read_feed",
    params(
        Since,
        ("Accept" = Option<String>, Header, description = "`text/event-stream` for a live feed"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Of a live feed: the last position seen"),
    ),
    responses(
        (status = 200, description = "Events: one JSON object a line, or one a server-sent event", content(
            (EventBody = "application/x-ndjson"), (EventBody = "text/event-stream"),
        )),
        Common, OfQuery,
    )
)]
#[tracing::instrument(name = "events", skip_all)]
pub(crate) async fn events(
    State(app): State<App>,
    headers: HeaderMap,
    Query(Since { after }): Query<Since>,
) -> Result<Response, Problem> {
    let position = |name, position: u64| {
        if i64::try_from(position).is_ok() { Ok(position) } else { Err(Problem::invalid(name, "is too large")) }
    };
    let after = position("after", after.unwrap_or_default())?;
    if !wants_live(&headers) {
        let head = last_position(app.connections.pool()).await?;
        return Ok(so_far(app, after, head));
    }
    let after = match headers.get("last-event-id") {
        None => after,
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.trim().parse().ok());
            position("Last-Event-ID", id.ok_or_else(|| Problem::invalid("Last-Event-ID", "must be a position"))?)?
        }
    };
    // Told at once, rather than as a stream that ends.
    last_position(app.connections.pool()).await?;
    Ok(live(app, after).into_response())
}

fn wants_live(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accept.flat_map(|value| value.split(',')).any(|media| {
        media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}

/// The feed up to `head`, page by page as the client reads it. It ends there, or breaks off: whoever keeps what comes
/// must be able to tell a part from the whole.
fn so_far(app: App, after: u64, head: u64) -> Response {
    let pages = stream::try_unfold(after, move |after| {
        let app = app.clone();
        async move {
            if after >= head {
                return Ok(None);
            }
            let mut events = read_after(app.connections.pool(), after, PAGE).await.map_err(|error| broken(&error))?;
            events.retain(|event| event.position <= head);
            let last = events.last().map(|event| event.position).ok_or(Broken)?;
            let lines = events.iter().map(line).collect::<Result<String, _>>()?;
            Ok(Some((Bytes::from(lines), last)))
        }
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream::<_>(pages.map(|page: Result<_, Broken>| page)),
    )
        .into_response()
}

fn line(event: &Recorded) -> Result<String, Broken> {
    let mut line = json(event)?;
    line.push('\n');
    Ok(line)
}

fn json(event: &Recorded) -> Result<String, Broken> {
    let body = EventBody::of(event).map_err(|error| broken(&error))?;
    serde_json::to_string(&body).map_err(|error| broken(&error))
}

/// The answer has begun: all that is left is to break it off. The client asks again after what it has seen.
#[derive(Debug, thiserror::Error)]
#[error("the feed broke off")]
struct Broken;

fn broken(error: &(dyn std::error::Error + 'static)) -> Broken {
    tracing::warn!(error = %chain(error), "a feed broke off");
    Broken
}

fn live(app: App, after: u64) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let shutdown = app.shutdown.clone();
    let events = follow(app.connections.pool().clone(), app.nats, app.feed, after)
        .map(|recorded| {
            let recorded = recorded.map_err(|error| broken(&error))?;
            let event = Event::default().id(recorded.position.to_string()).event(&recorded.event_type);
            Ok::<_, Broken>(event.data(json(&recorded)?))
        })
        // An event that cannot be shown ends the stream: going on would skip it.
        .take_while(|event| std::future::ready(event.is_ok()))
        .filter_map(|event| std::future::ready(event.ok().map(Ok)))
        .take_until(async move { shutdown.cancelled().await });
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}
