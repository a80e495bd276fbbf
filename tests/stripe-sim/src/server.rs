//! A local Stripe that runs: binding, accepting, stopping.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tandem_loopback::is_local;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

use crate::app::App;
use crate::call::{self, HangUp};
use crate::control::Control;
use crate::control_api;
use crate::http::HttpClients;
use crate::options::Options;
use crate::state::State;

/// A running local Stripe. Dropping it stops it.
#[derive(Debug)]
pub struct Sim {
    address: SocketAddr,
    running: JoinHandle<()>,
    stop: DropGuard,
}

impl Sim {
    /// Binds, takes up the state file if one is given, and serves until stopped or dropped.
    ///
    /// # Errors
    /// The port is taken, or the state file can't be read or written.
    pub async fn start(options: Options) -> Result<Self, io::Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
        let address = listener.local_addr()?;
        let stopping = CancellationToken::new();
        let mut others = Vec::new();
        for account in &options.accounts {
            let connected = account.secret_key.is_none().then(|| account.id.clone());
            others.push(open(options.of(account), connected, Vec::new(), &stopping)?);
        }
        let mut accounts = Router::new();
        for other in &others {
            let control = Router::new().nest("/_sim", control_api::router()).with_state(other.clone());
            accounts = accounts.nest(&format!("/accounts/{}", other.account), control);
        }
        let app = open(options, None, others, &stopping)?;
        let router = Router::new()
            .route("/", get(control_api::page))
            .nest("/_sim", control_api::router())
            .fallback(call::answer)
            .with_state(app)
            .merge(accounts)
            .layer(from_fn(of_this_machine));
        let stop = stopping.clone().drop_guard();
        let running = tokio::spawn(async move {
            stopping.run_until_cancelled(accept(listener, router)).await;
        });
        Ok(Self { address, running, stop })
    }

    /// Its address, such as `http://127.0.0.1:12111`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A client of its control API.
    pub fn control(&self) -> Control {
        Control::new(self.url())
    }

    /// A client of another account's control API.
    pub fn control_of(&self, account: &str) -> Control {
        Control::new(format!("{}/accounts/{account}", self.url()))
    }

    /// Closes every connection, gives the port back and returns.
    pub async fn stop(self) {
        drop(self.stop);
        // The task ends by itself now; it can't be worse than ended.
        let _ = self.running.await;
    }
}

/// No page of another site edits here, nor reads, whatever name points to this machine.
async fn of_this_machine(request: Request, next: Next) -> Response {
    if is_local(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let message = "The local Stripe is for this machine alone: Host must be a loopback address or localhost, and so must \
                   Origin, if it is there.";
    let error = json!({ "error": { "type": "invalid_request_error", "message": message } });
    (StatusCode::FORBIDDEN, Json(error)).into_response()
}

/// One account: its state, taken up where it ended, with its webhooks on their way.
fn open(
    options: Options,
    connected: Option<String>,
    others: Vec<Arc<App>>,
    stopping: &CancellationToken,
) -> Result<Arc<App>, io::Error> {
    let mut state = match &options.state {
        Some(path) => State::open(path, options.settings.clone())?,
        None => State::new(options.settings.clone()),
    };
    state.connected = connected;
    for (url, secret) in &options.webhooks {
        state.give_endpoint(url.clone(), secret.clone());
    }
    let http = HttpClients::new().map_err(io::Error::other)?;
    let app = App::new(options, state, others, http, stopping.clone());
    app.change(State::resume_deliveries);
    Ok(app)
}

/// One task a connection; all end when this is dropped.
async fn accept(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(serve(stream, router.clone()))),
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, router: Router) {
    // Without it small answers wait for the client's acknowledgement; it is not worth refusing the connection.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let router = router.clone();
        async move {
            let response = router.oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
            match response.extensions().get::<HangUp>() {
                Some(HangUp) => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
                None => Ok(response),
            }
        }
    });
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The whole of a running local Stripe, as handlers see it.
pub(crate) type Shared = axum::extract::State<Arc<App>>;
