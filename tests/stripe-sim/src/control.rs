//! A typed client of the control API, for tests and for other processes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::calls::Call;
use crate::clock::ClockChange;
use crate::faults::{FaultId, FaultStatus, Rule};
use crate::http;
use crate::options::Settings;
use crate::view::{Customer, Event};
use crate::webhooks::{Delivery, Order, Webhooks};

/// How long a wait lasts before it is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything a test does to a local Stripe from outside, over HTTP, so that it may run in any process.
#[derive(Debug, Clone)]
pub struct Control {
    url: String,
    http: reqwest::Client,
}

/// Why a control had no effect.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The local Stripe did not answer, or not as one.
    #[error("the local Stripe did not answer")]
    Unreachable(#[from] reqwest::Error),
    /// It answered, and would not.
    #[error("the local Stripe refused with {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its reason.
        message: String,
        /// Stripe's error code, such as `email_invalid`.
        code: Option<String>,
    },
    /// What was waited for did not come.
    #[error("waited {} s for {what}", PATIENCE.as_secs())]
    TimedOut {
        /// What it was.
        what: String,
    },
}

type Result<T> = std::result::Result<T, ControlError>;

impl Control {
    /// Of the local Stripe at this URL, such as `http://127.0.0.1:12111`.
    pub fn new(url: impl Into<String>) -> Self {
        // No certificates are loaded and no proxy is asked for: nothing is left that could fail.
        let http = http::local().expect("a client for plain HTTP");
        Self { url: url.into().trim_end_matches('/').to_owned(), http }
    }

    /// Where the local Stripe is.
    pub fn url(&self) -> &str {
        &self.url
    }

    // Customers, edited by hand: no request, no idempotency key.

    /// Creates a customer as the Dashboard would: `&[("name", "Ada"), ("metadata[tier]", "gold")]`.
    pub async fn create(&self, fields: &[(&str, &str)]) -> Result<Customer> {
        self.send(Method::POST, "/customers", Some(by_name(fields))).await
    }

    /// Edits a customer as the Dashboard would; `""` unsets.
    pub async fn edit(&self, id: &str, fields: &[(&str, &str)]) -> Result<Customer> {
        self.send(Method::POST, &format!("/customers/{id}"), Some(by_name(fields))).await
    }

    /// Deletes a customer as the Dashboard would, and tells how it last was.
    pub async fn delete(&self, id: &str) -> Result<Customer> {
        self.send(Method::DELETE, &format!("/customers/{id}"), None::<()>).await
    }

    /// The customer; of a deleted one, how it last was.
    pub async fn get(&self, id: &str) -> Result<Customer> {
        self.send(Method::GET, &format!("/customers/{id}"), None::<()>).await
    }

    /// All customers, newest first, the deleted ones among them.
    pub async fn customers(&self) -> Result<Vec<Customer>> {
        self.send(Method::GET, &format!("/customers?limit={}", u32::MAX), None::<()>).await
    }

    /// The customer, once `fits` says so.
    pub async fn customer_when(&self, id: &str, fits: impl Fn(&Customer) -> bool) -> Result<Customer> {
        self.wait_for(&format!("customer {id} to fit"), async |stripe| Ok(Some(stripe.get(id).await?).filter(&fits)))
            .await
    }

    /// The first customer, newest first, of which `fits` says so, once there is one.
    pub async fn any_customer_when(&self, fits: impl Fn(&Customer) -> bool) -> Result<Customer> {
        self.wait_for("a customer that fits", async |stripe| Ok(stripe.customers().await?.into_iter().find(&fits)))
            .await
    }

    // What happened.

    /// All events, oldest first.
    pub async fn events(&self) -> Result<Vec<Event>> {
        self.send(Method::GET, &format!("/events?limit={}", u32::MAX), None::<()>).await
    }

    /// The events of one customer, oldest first.
    pub async fn events_of(&self, customer: &str) -> Result<Vec<Event>> {
        Ok(self.events().await?.into_iter().filter(|event| event.customer == customer).collect())
    }

    /// The calls made to `/v1`, oldest first.
    pub async fn calls(&self) -> Result<Vec<Call>> {
        self.send(Method::GET, &format!("/calls?limit={}", u32::MAX), None::<()>).await
    }

    /// The calls after this one, by [`Call::number`], oldest first.
    pub async fn calls_after(&self, number: u64) -> Result<Vec<Call>> {
        self.send(Method::GET, &format!("/calls?limit={}&after={number}", u32::MAX), None::<()>).await
    }

    /// Forgets the calls made so far.
    pub async fn clear_calls(&self) -> Result<()> {
        self.send(Method::DELETE, "/calls", None::<()>).await
    }

    /// The calls of which `fits` says so, once there are `at_least` so many.
    pub async fn calls_when(&self, at_least: usize, fits: impl Fn(&Call) -> bool) -> Result<Vec<Call>> {
        self.wait_for(&format!("{at_least} calls that fit"), async |stripe| {
            let calls: Vec<Call> = stripe.calls().await?.into_iter().filter(&fits).collect();
            Ok((calls.len() >= at_least).then_some(calls))
        })
        .await
    }

    // Faults.

    /// Arms a fault: `fault(Fault::DropReply.on("POST", "/v1/customers/*"))`.
    pub async fn fault(&self, rule: Rule) -> Result<FaultId> {
        let armed: Value = self.send(Method::POST, "/faults", Some(rule)).await?;
        Ok(armed["id"].as_u64().unwrap_or_default())
    }

    /// What is armed, the used up among it.
    pub async fn faults(&self) -> Result<Vec<FaultStatus>> {
        self.send(Method::GET, "/faults", None::<()>).await
    }

    /// Returns once so many calls have come to the point where the fault bites: for those that hang, before or after
    /// the work, they hang now.
    pub async fn fault_reached(&self, id: FaultId, times: u32) -> Result<()> {
        self.wait_for(&format!("fault {id} to be reached {times} times"), async |stripe| {
            let faults = stripe.faults().await?;
            Ok(faults.iter().any(|fault| fault.id == id && fault.reached >= times).then_some(()))
        })
        .await
    }

    /// Lets go the calls that hang by this fault, now and later.
    pub async fn release_fault(&self, id: FaultId) -> Result<()> {
        self.send(Method::POST, &format!("/faults/{id}/release"), None::<()>).await
    }

    /// Disarms every fault and lets go every call that hangs.
    pub async fn clear_faults(&self) -> Result<()> {
        self.send(Method::DELETE, "/faults", None::<()>).await
    }

    // Webhooks.

    /// Registers an endpoint that gets every event from now on; its id.
    pub async fn add_webhook(&self, url: &str, secret: &str) -> Result<String> {
        let added: Value =
            self.send(Method::POST, "/webhooks/endpoints", Some(json!({ "url": url, "secret": secret }))).await?;
        Ok(added["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Keeps back the webhooks of changes from now on, until released.
    pub async fn hold(&self) -> Result<()> {
        self.send(Method::POST, "/webhooks/hold", None::<()>).await
    }

    /// Sends what was held, one after the other, and returns when each was tried once.
    pub async fn release(&self, order: Order) -> Result<Vec<Delivery>> {
        self.send(Method::POST, "/webhooks/release", Some(order)).await
    }

    /// Sends each of the next `next` events twice, side by side.
    pub async fn duplicate(&self, next: u32) -> Result<()> {
        self.send(Method::POST, "/webhooks/duplicate", Some(json!({ "next": next }))).await
    }

    /// Never sends the webhooks of the next `next` events; `GET /v1/events` has them.
    pub async fn drop_webhooks(&self, next: u32) -> Result<()> {
        self.send(Method::POST, "/webhooks/drop", Some(json!({ "next": next }))).await
    }

    /// Sends an event again to all endpoints, and returns when each was tried once.
    pub async fn deliver(&self, event: &str) -> Result<Vec<Delivery>> {
        self.send(Method::POST, &format!("/events/{event}/deliver"), None::<()>).await
    }

    /// How the webhooks stand.
    pub async fn webhooks(&self) -> Result<Webhooks> {
        self.send(Method::GET, &format!("/webhooks?limit={}", u32::MAX), None::<()>).await
    }

    /// Returns once none is being sent or waits to be sent again; held and dropped ones don't count.
    pub async fn webhooks_idle(&self) -> Result<()> {
        self.wait_for("the webhooks to be delivered", async |stripe| {
            let webhooks: Webhooks = stripe.send(Method::GET, "/webhooks?limit=0", None::<()>).await?;
            Ok((webhooks.in_flight == 0).then_some(()))
        })
        .await
    }

    // The clock and the settings.

    /// Moves the clock.
    pub async fn clock(&self, change: ClockChange) -> Result<()> {
        let _: Value = self.send(Method::POST, "/clock", Some(change)).await?;
        Ok(())
    }

    /// Moves the clock forward.
    pub async fn advance(&self, by: Duration) -> Result<()> {
        self.clock(ClockChange::AdvanceMs(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))).await
    }

    /// The clock's time, in milliseconds since 1970.
    pub async fn now_ms(&self) -> Result<i64> {
        let clock: Value = self.send(Method::GET, "/clock", None::<()>).await?;
        Ok(clock["now_ms"].as_i64().unwrap_or_default())
    }

    /// How it behaves now.
    pub async fn settings(&self) -> Result<Settings> {
        self.send(Method::GET, "/settings", None::<()>).await
    }

    /// Changes how it behaves.
    pub async fn set(&self, settings: &Settings) -> Result<()> {
        self.send(Method::PUT, "/settings", Some(settings)).await
    }

    /// What `check` finds, asked again after every change in the local Stripe; `what` is named when it never comes.
    pub async fn wait_for<T>(&self, what: &str, mut check: impl AsyncFnMut(&Self) -> Result<Option<T>>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let version = self.version(0, Duration::ZERO).await?;
            if let Some(found) = check(self).await? {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ControlError::TimedOut { what: what.to_owned() });
            }
            self.version(version, left).await?;
        }
    }

    async fn version(&self, after: u64, wait: Duration) -> Result<u64> {
        let path = format!("/changes?after={after}&wait_ms={}", wait.as_millis());
        let answer: Value = self.send(Method::GET, &path, None::<()>).await?;
        Ok(answer["version"].as_u64().unwrap_or_default())
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<impl Serialize>) -> Result<T> {
        let mut request = self.http.request(method, format!("{}/_sim{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        if !status.is_success() {
            let body = answer.text().await?;
            let error = serde_json::from_str::<Value>(&body).unwrap_or_default();
            let said = |key: &str| error["error"][key].as_str().map(str::to_owned);
            let (message, code) = (said("message").unwrap_or(body), said("code"));
            return Err(ControlError::Refused { status: status.as_u16(), message, code });
        }
        if status == reqwest::StatusCode::NO_CONTENT {
            return serde_json::from_value(Value::Null).map_err(|error| ControlError::Refused {
                status: status.as_u16(),
                message: error.to_string(),
                code: None,
            });
        }
        Ok(answer.json().await?)
    }
}

fn by_name<'a>(fields: &[(&'a str, &'a str)]) -> BTreeMap<&'a str, &'a str> {
    fields.iter().copied().collect()
}
