//! The connections of clients: each bounded in time, all bounded in number, and some kept for those who ask about health.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::taken::Taken;

/// Connections beyond the others, for one request each. When they are all taken, the oldest of them gives way.
pub(crate) const FOR_HEALTH: usize = 32;

/// Longest time for one of those.
const HEALTH: Duration = Duration::from_secs(5);

/// Most bytes of a request before its body.
const HEAD: usize = 16 * 1024;

/// Until the next attempt, once no connection could be taken.
const AGAIN: Duration = Duration::from_secs(1);

/// What one client may take of the service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most connections at once.
    pub(crate) connections: usize,
    /// Longest wait of a connection for all of its next request's head.
    pub(crate) idle: Duration,
    /// Longest wait for a client to take any more of its answer.
    pub(crate) sending: Duration,
}

/// Serves until told to stop; then lets what is being answered end. All connections end with this future.
pub(crate) async fn serve(
    listener: TcpListener,
    whole: Router,
    health: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.idle).max_header_size(HEAD);
    let mut once = http.clone();
    once.keep_alive(false).header_read_timeout(limits.idle.min(HEALTH));
    // Made ready once: of each connection's own it would take a quarter of a megabyte.
    let (whole, health) = (whole.with_state::<()>(()), health.with_state::<()>(()));
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut open = JoinSet::new();
    let mut beyond: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream: TcpStream = tokio::select! {
            stream = accept(&listener) => stream,
            Some(_) = open.join_next() => continue,
            () = shutdown.cancelled() => break,
        };
        let stream = Taken::new(stream, limits.sending);
        if let Ok(place) = places.clone().try_acquire_owned() {
            let one = attend(http.clone(), stream, whole.clone(), shutdown.clone());
            open.spawn(async move {
                one.await;
                drop(place);
            });
            continue;
        }
        beyond.retain(|one| !one.is_finished());
        if beyond.len() >= FOR_HEALTH
            && let Some(oldest) = beyond.pop_front()
        {
            oldest.abort();
        }
        metrics::counter!("tandem_http_connections_beyond_limit_total").increment(1);
        let one = attend(once.clone(), stream, health.clone(), shutdown.clone());
        beyond.push_back(open.spawn(async move {
            // What does not end in time is cut off.
            let _ = tokio::time::timeout(HEALTH, one).await;
        }));
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it an event of a live feed may wait for the client's acknowledgement of the one before.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            // The client's doing.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
                ) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be taken now");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Answers what comes by one connection, until it ends.
async fn attend(http: http1::Builder, stream: Taken, service: Router, shutdown: CancellationToken) {
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
