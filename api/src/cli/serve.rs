//! `tandem serve`

use std::path::PathBuf;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Ended, Failure, Told};
use crate::clock::Clock;
use crate::config::Config;
use crate::log::chain;
use crate::serve::serve_reloading;

pub(super) async fn run(config: Config, file: Option<PathBuf>) -> Result<Ended, Failure> {
    let bind = config.http.bind;
    let listener = TcpListener::bind(bind)
        .await
        .map_err(|error| Told(format!("TANDEM_HTTP__BIND={bind} cannot be taken: {error}")))?;
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (reload, reloads) = mpsc::channel(1);
    tokio::spawn(read_when_hung_up(file, signal(SignalKind::hangup())?, reload));
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
        served = serve_reloading(config, Clock::system(), listener, shutdown, reloads) => served?,
        () = impatient => tracing::warn!("told to stop a second time: ending at once"),
    }
    Ok(Ended::Well)
}

/// Reads the settings at each SIGHUP. Wrong ones change nothing.
async fn read_when_hung_up(file: Option<PathBuf>, mut hangup: Signal, reload: mpsc::Sender<Config>) {
    while hangup.recv().await.is_some() {
        match Config::load(file.clone()) {
            Ok(config) => {
                if reload.send(config).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!(error = %chain(&error), "the settings are wrong: those so far stay"),
        }
    }
}
