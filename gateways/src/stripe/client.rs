//! One call to Stripe: its turn, the HTTP, and what the reply's headers say.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::future::Future;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, TimeDelta, Utc};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use reqwest::{Request, Url};
use secrecy::{ExposeSecret, SecretString};
use stripe_client_core::{
    CustomizedStripeRequest, RequestBuilder, StripeClient, StripeClientErr, StripeMethod, VERSION,
};
use tandem_domain::{GatewayName, Interval};
use tracing::Instrument;

use super::config::{Checked, ConfigError, wrong};
use super::offset::Offset;
use super::pacing::{Endpoint, NoTurn, Pacing};
use super::refusal::{Refusal, header};
use super::surrogates;
use crate::link::Priority;
use crate::{CallError, Clock, error_chain};

/// Most bytes of a reply. A page of a hundred events of the largest customers has two million.
const LARGEST_REPLY: usize = 32 * 1024 * 1024;

/// Calls one account. Connections are kept open and shared.
pub(super) struct Client {
    http: reqwest::Client,
    /// The key, which may be rolled while calls are made.
    bearer: RwLock<HeaderValue>,
    base: Url,
    timeout: Duration,
    pacing: Pacing,
    offset: Offset,
    gateway: GatewayName,
    clock: Clock,
}

impl Client {
    pub fn new(key: &SecretString, checked: Checked, clock: Clock) -> Result<Self, ConfigError> {
        // An error says that the process has a provider already; it serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder();
        if checked.base.scheme() == "http" {
            // A local Stripe is reached directly, also from a machine without certificate authorities.
            http = http.tls_certs_only([]).no_proxy();
        }
        let http = http
            .default_headers(headers(checked.account.as_deref())?)
            .user_agent(concat!("tandem/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(checked.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            // Repeating is the reconciler's to decide.
            .retry(reqwest::retry::never())
            .build()
            .map_err(ConfigError::Http)?;
        Ok(Self {
            http,
            bearer: RwLock::new(bearer(key)?),
            base: checked.base,
            timeout: checked.timeout,
            pacing: Pacing::new(checked.per_second, checked.endpoint_per_second),
            offset: Offset::default(),
            gateway: checked.name,
            clock,
        })
    }

    /// One call, to be made by async-stripe's `send`.
    pub fn call(&self, priority: Priority, endpoint: Endpoint) -> Exchange<'_> {
        Exchange { client: self, priority, endpoint, receipt: OnceLock::new() }
    }

    /// Makes every call from now on with this key; those under way end with theirs.
    pub fn roll(&self, key: &SecretString) -> Result<(), ConfigError> {
        *self.bearer.write().unwrap_or_else(PoisonError::into_inner) = bearer(key)?;
        Ok(())
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn pacing(&self) -> &Pacing {
        &self.pacing
    }

    /// Where Stripe's API is.
    pub fn base(&self) -> &Url {
        &self.base
    }

    pub fn gateway(&self) -> &GatewayName {
        &self.gateway
    }

    /// How far Stripe's clock is ahead of ours.
    pub fn least_clock_offset(&self) -> TimeDelta {
        self.offset.least()
    }

    pub fn clock_offset(&self) -> TimeDelta {
        self.offset.now()
    }

    fn request(&self, asked: RequestBuilder, key: Option<&str>) -> Result<Request, CallError> {
        let RequestBuilder { query, body, path, method } = asked;
        let mut url = self.base.join(&format!("v1{path}")).map_err(|_| unsendable("its path is none"))?;
        url.set_query(query.as_deref().filter(|query| !query.is_empty()));
        let method = match method {
            StripeMethod::Get => Method::GET,
            StripeMethod::Post => Method::POST,
            StripeMethod::Delete => Method::DELETE,
        };
        let mut request = Request::new(method, url);
        let bearer = self.bearer.read().unwrap_or_else(PoisonError::into_inner).clone();
        request.headers_mut().insert(AUTHORIZATION, bearer);
        if let Some(body) = body {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            *request.body_mut() = Some(body.into());
        }
        if let Some(key) = key {
            let key = HeaderValue::from_str(key).map_err(|_| unsendable("its idempotency key is none"))?;
            request.headers_mut().insert("idempotency-key", key);
        }
        Ok(request)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("gateway", &self.gateway)
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// One call on its way. async-stripe's requests send themselves through it; it keeps what they drop, the headers.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    client: &'a Client,
    priority: Priority,
    endpoint: Endpoint,
    receipt: OnceLock<Receipt>,
}

/// What Stripe's reply says beside its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receipt {
    /// When it was carried out, in Stripe's time.
    pub interval: Interval,
    /// It is the saved reply of an earlier call with the same key.
    pub replayed: bool,
}

impl Exchange<'_> {
    /// Of the reply that was received.
    pub fn receipt(&self) -> Result<Receipt, CallError> {
        self.receipt.get().copied().ok_or_else(|| unavailable("Stripe did not reply", None))
    }

    async fn perform(&self, asked: CustomizedStripeRequest) -> Result<Bytes, CallError> {
        let (asked, overrides) = asked.into_pieces();
        let key = overrides.request_strategy.and_then(|strategy| strategy.get_key());
        let mut request = self.client.request(asked, key.as_ref().map(|key| key.as_str()))?;
        let deadline = Instant::now() + self.client.timeout;
        let turn = self.client.pacing.turn(self.priority, self.endpoint, deadline.into()).await;
        turn.map_err(|NoTurn { retry_after }| {
            unavailable("Stripe's rate limit left no turn within the timeout", retry_after)
        })?;
        *request.timeout_mut() = Some(deadline.saturating_duration_since(Instant::now()));
        self.exchange(request).await
    }

    async fn exchange(&self, request: Request) -> Result<Bytes, CallError> {
        let (sent, began) = ((self.client.clock)(), Instant::now());
        let asked = request.try_clone();
        let mut response = self.client.http.execute(request).await.map_err(broken)?;
        let (received, elapsed) = ((self.client.clock)(), began.elapsed());
        let (status, headers) = (response.status(), response.headers().clone());
        let span = tracing::Span::current();
        span.record("http.status", status.as_u16());
        span.record("stripe.request_id", header(&headers, "request-id"));
        let mut body = BytesMut::new();
        while let Some(more) = response.chunk().await.map_err(broken)? {
            if body.len() + more.len() > LARGEST_REPLY {
                return Err(unavailable("Stripe's reply has no end", None));
            }
            body.extend_from_slice(&more);
        }
        let body = body.freeze();
        self.record_time(elapsed);
        self.keep_receipt(&headers, sent, received, elapsed);
        if status.is_success() {
            self.client.pacing.went_well();
            return Ok(match surrogates::mended(&body) {
                Cow::Borrowed(_) => body,
                Cow::Owned(mended) => mended.into(),
            });
        }
        let refusal = Refusal::read(status, &headers, &body);
        if let Some(retry_after) = refusal.too_fast() {
            self.client.pacing.slow_down(retry_after);
        }
        let refusal = match asked {
            Some(asked) => refusal.of(&values(&asked)),
            None => refusal,
        };
        Err(refusal.into_error(self.endpoint.is_write()))
    }

    fn keep_receipt(&self, headers: &HeaderMap, sent: DateTime<Utc>, received: DateTime<Utc>, elapsed: Duration) {
        let date = header(headers, "date").and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        let date = match date.map(|date| date.to_utc()) {
            Some(date) => {
                self.client.offset.note(sent, received, date);
                date
            }
            // Something on the way has dropped it: as RFC 9110 6.6.1 has it, the time of receipt stands for it.
            None => received + self.client.offset.now(),
        };
        let replayed = header(headers, "idempotent-replayed") == Some("true");
        // Longer than any timeout, so only an absurd one doesn't fit.
        let elapsed = TimeDelta::from_std(elapsed).unwrap_or(TimeDelta::days(1));
        let _ = self.receipt.set(Receipt { interval: Interval::of_call(date, elapsed), replayed });
    }

    fn record_time(&self, elapsed: Duration) {
        let gateway = self.client.gateway.as_str().to_owned();
        metrics::histogram!("tandem_gateway_call_seconds", "gateway" => gateway, "call" => self.endpoint.name())
            .record(elapsed);
    }

    fn count(&self, outcome: &'static str) {
        let gateway = self.client.gateway.as_str().to_owned();
        metrics::counter!(
            "tandem_gateway_calls_total",
            "gateway" => gateway, "call" => self.endpoint.name(), "outcome" => outcome
        )
        .increment(1);
    }
}

impl StripeClient for Exchange<'_> {
    type Err = CallError;

    fn execute(&self, asked: CustomizedStripeRequest) -> impl Future<Output = Result<Bytes, CallError>> + Send {
        let span = tracing::debug_span!(
            "stripe.call",
            gateway = %self.client.gateway,
            call = self.endpoint.name(),
            http.status = tracing::field::Empty,
            stripe.request_id = tracing::field::Empty,
        );
        async move {
            let result = self.perform(asked).await;
            self.count(match &result {
                Ok(_) => "ok",
                Err(CallError::Unavailable { .. }) => "unavailable",
                Err(CallError::Failed { .. }) => "failed",
                Err(CallError::Rejected { .. }) => "rejected",
                Err(CallError::Missing) => "missing",
                Err(CallError::Unauthorised { .. }) => "unauthorised",
            });
            tracing::debug!("Stripe call {} {}", self.endpoint.name(), if result.is_ok() { "done" } else { "failed" });
            result
        }
        .instrument(span)
    }
}

impl StripeClientErr for CallError {
    /// Of a reply of status 200: the work is done.
    fn deserialize_err(msg: impl Display) -> Self {
        Self::Failed { reason: format!("Stripe's reply cannot be read: {msg}") }
    }
}

/// The values that a call sends.
fn values(asked: &Request) -> Vec<String> {
    let body = asked.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
    let sent = asked.url().query_pairs().chain(url::form_urlencoded::parse(body));
    sent.map(|(_, value)| value.into_owned()).collect()
}

/// The key as it is sent.
fn bearer(key: &SecretString) -> Result<HeaderValue, ConfigError> {
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
        .map_err(|_| wrong("TANDEM_STRIPE__SECRET_KEY", "must be a secret or restricted key"))?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

/// What goes with every call. "Making API calls for connected accounts" (docs.stripe.com/connect/authentication): the
/// platform's key, and the account in a header.
fn headers(account: Option<&str>) -> Result<HeaderMap, ConfigError> {
    let mut headers = HeaderMap::new();
    if let Ok(version) = HeaderValue::from_str(VERSION.as_str()) {
        headers.insert("stripe-version", version);
    }
    if let Some(account) = account {
        let account = HeaderValue::from_str(account)
            .map_err(|_| wrong("TANDEM_STRIPE__ACCOUNT", "must be an account's id: acct_…"))?;
        headers.insert("stripe-account", account);
    }
    Ok(headers)
}

fn unavailable(reason: impl Into<String>, retry_after: Option<Duration>) -> CallError {
    CallError::Unavailable { reason: reason.into(), retry_after }
}

fn unsendable(why: &str) -> CallError {
    CallError::Rejected { field: None, code: None, reason: format!("the call cannot be sent: {why}") }
}

/// No reply, or half of one. The URL stays out; whatever else the error says is of the connection.
fn broken(error: reqwest::Error) -> CallError {
    if error.is_timeout() {
        return unavailable("Stripe did not reply in time", None);
    }
    unavailable(error_chain(&error.without_url()), None)
}
