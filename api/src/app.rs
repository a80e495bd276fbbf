//! What the routes work with.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tandem_domain::Customer;
use tandem_eventlog::{Connections, Feed, RelayStatus, Store};
use tandem_gateways::Gateways;
use tandem_projections::Customers;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::auth::ApiKeys;
use crate::body::Bodies;
use crate::clock::Clock;
use crate::config::NatsConfig;
use crate::health::LastSeen;

/// The state of the service, shared by its routes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) connections: Connections,
    pub(crate) nats: async_nats::Client,
    /// How it connects: tells why it does not.
    pub(crate) nats_config: Arc<NatsConfig>,
    pub(crate) feed: Feed,
    pub(crate) store: Store<Customer>,
    pub(crate) customers: Customers,
    pub(crate) gateways: Gateways,
    pub(crate) relay: watch::Receiver<RelayStatus>,
    pub(crate) clock: Clock,
    pub(crate) keys: ApiKeys,
    pub(crate) metrics: PrometheusHandle,
    /// What the start waits for; `None` once the service has started.
    pub(crate) starting: watch::Receiver<Option<String>>,
    /// What `/readyz` told last to those who may not ask more.
    pub(crate) seen: LastSeen,
    /// Lag that `/readyz` still calls ready, in seconds.
    pub(crate) ready_lag_seconds: f64,
    /// How requests' bodies are read.
    pub(crate) bodies: Bodies,
    /// Long answers end when this does.
    pub(crate) shutdown: CancellationToken,
}
