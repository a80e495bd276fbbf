//! `tandem serve`

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Ended, Failure, Told};
use crate::clock::Clock;
use crate::config::Config;
use crate::serve::serve;

pub(super) async fn run(config: Config) -> Result<Ended, Failure> {
    let bind = config.http.bind;
    let listener = TcpListener::bind(bind)
        .await
        .map_err(|error| Told(format!("TANDEM_HTTP__BIND={bind} cannot be taken: {error}")))?;
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = shutdown.clone();
    let impatient = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        served = serve(config, Clock::system(), listener, shutdown) => served?,
        () = impatient => tracing::warn!("told to stop a second time: ending at once"),
    }
    Ok(Ended::Well)
}
