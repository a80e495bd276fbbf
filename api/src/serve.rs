//! The service: everything that one process runs, from its start to its end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tandem_domain::upcasters;
use tandem_eventlog::{Connections, Relay, Store, Wake, forget_keys};
use tandem_gateways::stripe::{self, Stripe};
use tandem_gateways::{Configured, Deletes, Gateways};
use tandem_projections::Customers;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::app::App;
use crate::auth::ApiKeys;
use crate::body::Bodies;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::connections::{self, Limits};
use crate::health::LastSeen;
use crate::keys::Keys;
use crate::log::chain;
use crate::start::{StartError, start};
use crate::{apart, connect, files, routes};

/// Longest wait for the tasks to end, once they are told to.
const ENDING: Duration = Duration::from_secs(10);

/// Longest wait for what is said last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// From one folding of measurements to the next.
const UPKEEP: Duration = Duration::from_secs(5);

/// From one forgetting of old keys to the next.
const FORGETTING: Duration = Duration::from_secs(3600);

/// Why the service ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting is wrong.
    #[error("the settings are wrong")]
    Config(#[from] ConfigError),
    /// A setting of Stripe's is wrong.
    #[error("the settings are wrong")]
    Stripe(#[from] stripe::ConfigError),
    /// A person has to mend something first.
    #[error("Tandem cannot start")]
    Start(#[from] StartError),
    /// The API cannot be served.
    #[error("the API cannot be served")]
    Http(#[from] std::io::Error),
    /// A defect: whoever watches over the process starts it anew.
    #[error("a task that must always run ended by a defect")]
    Task(#[from] JoinError),
}

/// Serves the API at that listener and does everything else that Tandem does, until told to stop; then lets what is
/// under way end, for a bounded time.
///
/// The API answers at once; until PostgreSQL and NATS are there and migrated, with 503, and `/readyz` says why.
///
/// # Errors
/// [`ServeError`]: nothing that could pass by itself.
pub async fn serve(
    config: Config,
    clock: Clock,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let (_never, reloads) = mpsc::channel(1);
    serve_reloading(config, clock, listener, shutdown, reloads).await
}

/// The same, and takes over the gateways' keys and webhook secrets of settings that were read again.
///
/// # Errors
/// As of [`serve`].
pub(crate) async fn serve_reloading(
    config: Config,
    clock: Clock,
    listener: TcpListener,
    shutdown: CancellationToken,
    reloads: mpsc::Receiver<Config>,
) -> Result<(), ServeError> {
    config.check()?;
    if let Some(variant) = tandem_eventlog::zoo::played() {
        tracing::warn!(variant, "this process plays a wrong variant, for a test: it is not to be trusted");
    }
    let address = listener.local_addr()?;
    config.check_bind(address)?;
    let (starting, waiting) = watch::channel(Some("PostgreSQL".to_owned()));
    let stripes = stripes(&config, &clock)?;
    tell_of_missing_secrets(&config);
    let (app, relay) = wire(&config, &stripes, clock, waiting, shutdown.clone()).await?;
    let limits = Limits {
        connections: files::connections(&config, files::raise()),
        idle: Duration::from_millis(config.http.idle_timeout_ms),
        sending: Duration::from_millis(config.http.send_timeout_ms),
    };
    tracing::info!(%address, "serving the API at http://{address}");
    let (whole, health) = (routes::service(app.clone()), routes::health_alone(app.clone()));
    let http = connections::serve(listener, whole, health, limits, shutdown.clone());
    let mut http = AbortOnDropHandle::new(tokio::spawn(http));

    // What works on after the last request, so that a command that was answered is on its way.
    let work = CancellationToken::new();
    let _no_work_without_us = work.clone().drop_guard();
    let mut tasks = JoinSet::new();
    tasks.spawn(fold(app.metrics.clone(), work.clone()));
    let keys = Keys { config: config.clone(), stripes: stripes.clone(), gateways: app.gateways.clone() };
    tasks.spawn(keys.roll_with(reloads, work.clone()));
    let beginning = async {
        start(&config, app.connections.pool(), &app.nats, &app.feed, &starting).await?;
        tracing::info!(stream = %app.feed.stream, "started");
        begin(&app, relay, &work, &mut tasks);
        tasks.spawn(forget(app.connections.clone(), config.database.keys_kept_hours, work.clone()));
        apart::check(&config, &stripes).await?;
        let (gateways, reconciling) = (app.gateways.clone(), work.clone());
        tasks.spawn(async move { gateways.run(reconciling).await });
        Ok::<_, ServeError>(())
    };
    tokio::select! {
        begun = beginning => begun?,
        () = shutdown.cancelled() => {}
    }

    let (mut ended, mut broken) = (None, None);
    tokio::select! {
        served = &mut http => ended = Some(served),
        // What lacks one of its tasks looks well from outside, and is not.
        error = panicked(&mut tasks) => {
            tracing::error!(error = %chain(&error), "a task ended by a defect");
            broken = Some(error);
            shutdown.cancel();
        }
        () = shutdown.cancelled() => {}
    }
    if ended.is_none() {
        tracing::info!("stopping: open requests may end");
        let drain = Duration::from_millis(config.http.drain_timeout_ms);
        match tokio::time::timeout(drain, &mut http).await {
            Ok(served) => ended = Some(served),
            Err(_) => tracing::warn!("some requests did not end in time"),
        }
    }
    work.cancel();
    let unanswered = app.store.apart().count();
    if unanswered > 0 {
        tracing::info!(
            tasks = unanswered,
            "waiting for commands and webhooks that were accepted and have no caller any more"
        );
    }
    // Together: both are done soon, and neither needs what the other waits for.
    let ending =
        async { tokio::join!(app.store.apart().ended(), async { while tasks.join_next().await.is_some() {} }) };
    if tokio::time::timeout(ENDING, ending).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    // What was rung or published last goes out.
    match tokio::time::timeout(LAST_WORDS, app.nats.flush()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = %chain(&error), "NATS did not take what was said last: others look by themselves")
        }
        Err(_) => tracing::warn!("NATS did not take what was said last in time: others look by themselves"),
    }
    if tokio::time::timeout(LAST_WORDS, app.connections.close()).await.is_err() {
        tracing::warn!("some connections to PostgreSQL were still in use");
    }
    tracing::info!("stopped");
    match (broken, ended) {
        (Some(error), _) | (None, Some(Err(error))) => Err(error.into()),
        (None, Some(Ok(())) | None) => Ok(()),
    }
}

/// Ends when a task has panicked.
async fn panicked(tasks: &mut JoinSet<()>) -> JoinError {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            return error;
        }
    }
    std::future::pending().await
}

/// Puts the parts together; nothing runs yet, and nothing is connected.
async fn wire(
    config: &Config,
    stripes: &[Arc<Stripe>],
    clock: Clock,
    starting: watch::Receiver<Option<String>>,
    shutdown: CancellationToken,
) -> Result<(App, Relay), ServeError> {
    let connections = connect::connections(config)?;
    let nats = connect::nats(config).await?;
    let feed = config.feed();
    let wake = Wake::new(nats.clone(), &feed.stream);
    let relay = Relay::new(connections.pool().clone(), nats.clone(), feed.clone(), wake.clone());
    let store = Store::new(&connections, wake, upcasters);
    let gateways = Gateways::new(
        connections.clone(),
        nats.clone(),
        store.clone(),
        feed.clone(),
        gateways(config, stripes)?,
        config.gateways.clone(),
        clock.for_gateways(),
    );
    let app = App {
        customers: Customers::new(connections.clone()),
        connections,
        nats,
        nats_config: Arc::new(config.nats.clone()),
        feed,
        store,
        gateways,
        relay: relay.status(),
        clock,
        keys: ApiKeys::new(&config.api_keys),
        metrics: recorder(),
        starting,
        seen: LastSeen::default(),
        ready_lag_seconds: config.http.ready_lag_seconds,
        bodies: Bodies::new(Duration::from_millis(config.http.body_timeout_ms)),
        shutdown,
    };
    Ok((app, relay))
}

/// Sets everything to work that is not asked for, but for the gateways.
fn begin(app: &App, relay: Relay, work: &CancellationToken, tasks: &mut JoinSet<()>) {
    tasks.spawn(relay.run(work.clone()));
    let App { customers, nats, feed, .. } = app.clone();
    let projecting = work.clone();
    tasks.spawn(async move {
        // It says itself why it stopped, and /readyz repeats it.
        let _ = customers.run(nats, feed, projecting).await;
    });
}

/// The accounts of Stripe.
pub(crate) fn stripes(config: &Config, clock: &Clock) -> Result<Vec<Arc<Stripe>>, ServeError> {
    config.stripes().map(|stripe| Ok(Arc::new(Stripe::new(stripe.clone(), clock.for_gateways())?))).collect()
}

/// The gateways that are switched on: the one list that a new kind is added to.
pub(crate) fn gateways(config: &Config, stripes: &[Arc<Stripe>]) -> Result<Vec<Configured>, ServeError> {
    let mut gateways = vec![];
    for (stripe, gateway) in config.stripes().zip(stripes) {
        gateways.push(Configured {
            policies: stripe.policies(),
            deletes: Deletes { inbound: stripe.deletes_inbound, outbound: stripe.deletes_outbound },
            filter: stripe.filter.clone(),
            matching: stripe.matching,
            guard: stripe.guard(),
            sweep_interval: Duration::from_millis(stripe.sweep_interval_ms),
            sweep_overlap: Duration::from_secs(stripe.sweep_overlap_s),
            verify_interval: (stripe.verify_interval_s > 0).then(|| Duration::from_secs(stripe.verify_interval_s)),
            verify_grace: Duration::from_millis(stripe.verify_grace_ms),
            gateway: Arc::<Stripe>::clone(gateway),
        });
    }
    if gateways.is_empty() {
        tracing::warn!(
            "no gateway is on: neither STRIPE_SECRET_KEY, TANDEM_STRIPE__SECRET_KEY nor [gateways.…] is set"
        );
    }
    for one in &gateways {
        config
            .gateways
            .check(one.gateway.call_timeout())
            .map_err(|reason| ConfigError::Setting { setting: "TANDEM_GATEWAYS__LEASE_MS".to_owned(), reason })?;
    }
    Ok(gateways)
}

fn tell_of_missing_secrets(config: &Config) {
    for stripe in config.stripes().filter(|stripe| stripe.webhook_secrets.is_empty()) {
        let (name, interval) = (&stripe.name, Duration::from_millis(stripe.sweep_interval_ms).as_secs_f64());
        tracing::warn!(
            gateway = name,
            "the gateway {name} has no webhook secrets: every webhook is refused, and changes there arrive by the sweep, once in \
             {interval} s"
        );
    }
}

/// Forgets idempotency keys that are too old.
async fn forget(connections: Connections, keys_kept_hours: u32, shutdown: CancellationToken) {
    let age = Duration::from_secs(3600) * keys_kept_hours;
    let mut duty = connections.duties().stand_by("forget keys");
    while !shutdown.is_cancelled() {
        let forgetting =
            async { if duty.is_ours().await? { forget_keys(connections.pool(), age).await } else { Ok(0) } };
        match forgetting.await {
            Ok(0) => {}
            Ok(keys) => tracing::debug!(keys, "forgot old idempotency keys"),
            Err::<_, sqlx::Error>(error) => {
                tracing::debug!(error = %chain(&error), "old idempotency keys cannot be forgotten now")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(FORGETTING) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Folds measurements together, or those that nobody scrapes would pile up.
async fn fold(measurements: PrometheusHandle, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        measurements.run_upkeep();
        tokio::select! {
            () = tokio::time::sleep(UPKEEP) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// The measurements of the process: there is one recorder, whoever serves.
fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    // A bulk backlog, or a gateway that was away.
    const TO_AN_HOUR: &[f64] = &[
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
    ];
    RECORDER
        .get_or_init(|| {
            let builder = PrometheusBuilder::new();
            // It refuses an empty list only.
            let builder = builder
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
                .and_then(|builder| {
                    builder.set_buckets_for_metric(Matcher::Full("tandem_sync_seconds".to_owned()), TO_AN_HOUR)
                })
                .unwrap_or_else(|_| PrometheusBuilder::new());
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            // Whoever set one before us keeps it; ours then shows nothing.
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("another recorder of measurements is set: /metrics stays empty");
            }
            handle
        })
        .clone()
}
