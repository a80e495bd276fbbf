//! HTTP clients, made so that a machine without certificate authorities can still speak to itself.

use std::sync::OnceLock;
use std::time::Duration;

/// What webhooks are sent with.
#[derive(Debug)]
pub(crate) struct HttpClients {
    plain: reqwest::Client,
    /// Made when the first `https` endpoint needs it: loading the machine's authorities is slow, and fails without any.
    tls: OnceLock<Option<reqwest::Client>>,
}

impl HttpClients {
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        install_crypto();
        Ok(Self { plain: for_webhooks().tls_certs_only([]).build()?, tls: OnceLock::new() })
    }

    pub(crate) fn for_url(&self, url: &str) -> &reqwest::Client {
        if !url.starts_with("https:") {
            return &self.plain;
        }
        let tls = self.tls.get_or_init(|| {
            let built = for_webhooks().build();
            built.inspect_err(|error| tracing::error!(%error, "no https endpoint can be reached")).ok()
        });
        tls.as_ref().unwrap_or(&self.plain)
    }
}

fn for_webhooks() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent("Stripe/1.0 (+https://stripe.com/docs/webhooks)")
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(256)
}

/// For a local Stripe on this machine, over plain HTTP.
pub(crate) fn local() -> Result<reqwest::Client, reqwest::Error> {
    install_crypto();
    reqwest::Client::builder().no_proxy().tcp_nodelay(true).tls_certs_only([]).build()
}

/// TLS for HTTP clients, once a process; somebody else's choice stands.
fn install_crypto() {
    // An error means that one is installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
