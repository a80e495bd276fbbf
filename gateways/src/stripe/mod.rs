//! Stripe: an account whose customers are the catalog's.
//!
//! What we rely on, by the pages of <https://docs.stripe.com>:
//! - "Customers" in the API reference: create, update (`""` unsets), delete (final), retrieve (a deleted one says so), list.
//! - "Metadata": our id is kept in `metadata.tandem_id`, if there is room among the 50 keys.
//! - "Idempotent requests": the same key with the same body gets the first answer again, for 24 hours at least.
//! - "Events" and "Types of events": `created` in seconds, `previous_attributes`, `request.idempotency_key`, kept 30 days.
//! - "Webhooks": signed, at least once, in no order.
//! - "Retrieve account": the id of the account that a key is of.
//! - "Making API calls for connected accounts": the account in the header `Stripe-Account`; "Connect webhooks": in `account`.
//! - "Errors", "Advanced error handling", "Rate limits": what is worth another try, and how often.
//!
//! Requests, list types, the API's version and the check of signatures are async-stripe's; the transport under them
//! (`client`), the bodies of writes (`form`) and the reading of objects (`wire`) are ours, each for a reason it names.

mod account;
mod amiss;
mod client;
mod config;
mod form;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod lists;
mod offset;
#[cfg(test)]
mod outside;
mod pacing;
mod refusal;
mod surrogates;
mod translate;
mod webhook;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use miniserde::json;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use stripe_client_core::{IdempotencyKey, RequestBuilder, RequestStrategy, StripeMethod, StripeRequest};
use stripe_core::customer::{DeleteCustomer, ListCustomer, RetrieveCustomer};
use stripe_core::event::ListEvent;
use stripe_types::RangeQueryTs;
use tandem_domain::{CustomerId, EmailKey, GatewayName, InvalidField, Profile, RemoteId};
use tandem_eventlog::zoo::plays;
use tracing::warn;

use self::client::Client;
use self::pacing::Endpoint;
use self::webhook::Webhooks;
use crate::gateway::CANNOT_BE_KEPT;
use crate::link::Priority;
use crate::{
    Call, CallError, Changes, Clock, Gateway, Listed, Notice, Object, Pace, RemoteChange, Reply, Seen, WebhookError,
    Write,
};
#[cfg(test)]
pub(crate) use offset::Offset;

pub use account::Account;
pub use config::{ConfigError, StripeConfig};

/// Most objects that Stripe puts on a page.
const PAGE: i64 = 100;

/// One Stripe account.
#[derive(Debug)]
pub struct Stripe {
    client: Arc<Client>,
    webhooks: Arc<Webhooks>,
    /// How its calls wait for their turns.
    priority: Priority,
}

impl Stripe {
    /// Ready to call; nothing is sent yet. The clock is the one by which edits in the catalog are dated.
    ///
    /// # Errors
    /// The setting that won't do.
    pub fn new(config: StripeConfig, clock: Clock) -> Result<Self, ConfigError> {
        let checked = config.checked()?;
        let livemode = checked.livemode;
        let client = Client::new(&config.secret_key, checked, clock)?;
        let webhooks = Webhooks::new(config.webhook_secrets, config.account, livemode);
        Ok(Self { client: Arc::new(client), webhooks: Arc::new(webhooks), priority: Priority::Live })
    }

    /// Takes over the key and the webhook secrets of these settings: for the next call, and the next webhook. Everything
    /// else stays.
    ///
    /// # Errors
    /// The setting that won't do. A key of the other mode, live or test, is one of another set of customers. Nothing is
    /// taken over then.
    pub fn roll(&self, config: &StripeConfig) -> Result<(), ConfigError> {
        let checked = config.checked()?;
        if checked.livemode != self.webhooks.livemode {
            let reason = "is of another mode, live or test, than the key so far: that needs a restart";
            return Err(config::wrong("TANDEM_STRIPE__SECRET_KEY", reason).within(&config.section));
        }
        self.client.roll(&config.secret_key)?;
        self.webhooks.roll(config.webhook_secrets.clone());
        Ok(())
    }

    async fn post(&self, endpoint: Endpoint, path: String, call: &Call<'_>) -> Result<Reply, CallError> {
        let key = IdempotencyKey::new(call.key).map_err(|error| CallError::Rejected {
            field: None,
            code: None,
            reason: error.to_string(),
        })?;
        let asked = RequestBuilder { query: None, body: Some(call.body.to_owned()), path, method: StripeMethod::Post };
        let exchange = self.client.call(self.priority, endpoint);
        let strategy = RequestStrategy::Idempotent(key);
        let customer: json::Object = asked.customize().request_strategy(strategy).send(&exchange).await?;
        let receipt = exchange.receipt()?;
        // It was carried out. What a look says then is said once, and of the object.
        let object = read(&customer)?
            .map_err(|unfit| CallError::Failed { reason: format!("what Stripe replied cannot be kept: {unfit}") })?;
        let seen = Seen { object, interval: receipt.interval };
        Ok(Reply { seen, replayed: receipt.replayed })
    }

    /// Stripe ignores idempotency keys here: deleting twice deletes once.
    async fn delete(&self, remote_id: &RemoteId) -> Result<Reply, CallError> {
        let exchange = self.client.call(self.priority, Endpoint::DeleteCustomer);
        DeleteCustomer::new(segment(remote_id)?).send(&exchange).await?;
        let receipt = exchange.receipt()?;
        let object = Object::Gone { remote_id: remote_id.clone() };
        Ok(Reply { seen: Seen { object, interval: receipt.interval }, replayed: receipt.replayed })
    }
}

#[async_trait]
impl Gateway for Stripe {
    fn name(&self) -> &GatewayName {
        self.client.gateway()
    }

    fn in_bulk(&self) -> Arc<dyn Gateway> {
        let (client, webhooks) = (Arc::clone(&self.client), Arc::clone(&self.webhooks));
        Arc::new(Self { client, webhooks, priority: Priority::Bulk })
    }

    fn pace(&self) -> Option<&dyn Pace> {
        Some(self.client.pacing())
    }

    fn call_timeout(&self) -> Duration {
        self.client.timeout()
    }

    fn freeze(&self, write: &Write, held: &Profile) -> String {
        form::of(write, held)
    }

    async fn send(&self, call: &Call<'_>) -> Result<Reply, CallError> {
        match call.write {
            Write::Create { .. } => self.post(Endpoint::CreateCustomer, "/customers".to_owned(), call).await,
            Write::Update { remote_id, .. } | Write::Claim { remote_id, .. } => {
                let path = format!("/customers/{}", segment(remote_id)?);
                self.post(Endpoint::UpdateCustomer, path, call).await
            }
            Write::Delete { remote_id } => self.delete(remote_id).await,
        }
    }

    async fn retrieve(&self, remote_id: &RemoteId) -> Result<Seen, CallError> {
        let exchange = self.client.call(self.priority, Endpoint::RetrieveCustomer);
        let asked = RetrieveCustomer::new(segment(remote_id)?).build().customize::<json::Object>();
        let customer = asked.send(&exchange).await.map_err(of_read)?;
        let object = read(&customer).map_err(of_read)?.map_err(cannot_be_kept)?;
        Ok(Seen { object, interval: exchange.receipt()?.interval })
    }

    async fn changes(
        &self,
        since: DateTime<Utc>,
        of: Option<&RemoteId>,
        after: Option<&str>,
    ) -> Result<Changes, CallError> {
        let types = translate::FOLLOWED.map(|(name, _)| name.to_owned());
        let mut asked = ListEvent::new().types(types).created(RangeQueryTs::gte(since.timestamp())).limit(PAGE);
        if let Some(after) = after {
            asked = asked.starting_after(after);
        }
        let page = self.events(&asked).await?;
        let of_it = |event: &wire::Event| of.is_none_or(|id| wire::id(&event.data.object) == Some(id.as_str()));
        let changes = page.data.into_iter().filter(of_it).filter_map(kept).collect();
        Ok(Changes { changes, next: page.next })
    }

    async fn created_for(&self, customer: CustomerId, since: DateTime<Utc>) -> Result<Vec<Seen>, CallError> {
        if plays("search-instead-of-list") {
            return self.search_for(customer).await;
        }
        let asked = ListCustomer::new().created(RangeQueryTs::gte(since.timestamp())).limit(PAGE);
        let ours = |listed: &wire::Customer| {
            let ours = translate::tandem_id(listed) == Some(customer);
            if ours { translate::object(listed).map(|_| true).map_err(cannot_be_kept) } else { Ok(false) }
        };
        self.all_customers(asked, ours).await
    }

    async fn list(&self, since: Option<DateTime<Utc>>, after: Option<&RemoteId>) -> Result<Listed, CallError> {
        let mut asked = ListCustomer::new().limit(PAGE);
        if let Some(since) = since {
            asked = asked.created(RangeQueryTs::gte(since.timestamp()));
        }
        if let Some(after) = after {
            asked = asked.starting_after(after.as_str());
        }
        let page = self.customers(&asked).await?;
        let seen = page.data.iter().filter_map(|listed| page.seen(listed)).collect();
        Ok(Listed { seen, next: page.next.map(RemoteId::from) })
    }

    /// The list compares case ("List all customers"): asked for as it is written, and as it is compared.
    async fn with_email(&self, email: &str) -> Result<Vec<Seen>, CallError> {
        let key = EmailKey::of(email);
        let written = |email: &str| ListCustomer::new().email(email).limit(PAGE);
        let mut found = self.all_customers(written(email), |_| Ok(true)).await?;
        if key.spelling() != email {
            found.extend(self.all_customers(written(key.spelling()), |_| Ok(true)).await?);
        }
        Ok(found)
    }

    fn may_be_genuine(&self, headers: &HeaderMap, now: DateTime<Utc>) -> Result<(), WebhookError> {
        self.webhooks.may_be_genuine(headers, now)
    }

    fn verify(&self, headers: &HeaderMap, body: &[u8], now: DateTime<Utc>) -> Result<Notice, WebhookError> {
        self.webhooks.verify(headers, body, now)
    }

    fn least_clock_offset(&self) -> TimeDelta {
        self.client.least_clock_offset()
    }

    fn clock_offset(&self) -> TimeDelta {
        self.client.clock_offset()
    }
}

/// The customer of a reply of status 200: the work is done, whatever can be read of it. The inner error is of what cannot be kept.
fn read(customer: &json::Object) -> Result<Result<Object, InvalidField>, CallError> {
    let customer = wire::Customer::read(customer);
    customer
        .map(|customer| translate::object(&customer))
        .ok_or_else(|| CallError::Failed { reason: "Stripe's reply names no customer".to_owned() })
}

/// What is there is too much for us: reading it again cannot help.
fn cannot_be_kept(unfit: InvalidField) -> CallError {
    CallError::Rejected {
        reason: format!("what Stripe holds cannot be kept: {unfit}"),
        field: Some(unfit.field),
        code: Some(CANNOT_BE_KEPT.to_owned()),
    }
}

/// A listed event, unless it cannot be kept.
fn kept(event: wire::Event) -> Option<RemoteChange> {
    let id: String = event.id.chars().take(64).collect();
    let change = translate::change(event);
    if change.is_none() {
        warn!(
            stripe.event_id = id,
            "an event that Stripe lists cannot be kept: its id, its time or its object's id is none"
        );
    }
    change
}

/// The id as one segment of a path. Ids of older accounts may be any text; an empty one would name all customers.
fn segment(remote_id: &RemoteId) -> Result<String, CallError> {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');
    match remote_id.as_str() {
        "" | "." | ".." => Err(CallError::Missing),
        id => Ok(utf8_percent_encode(id, KEPT).to_string()),
    }
}

/// A read that failed may be made again.
fn of_read(error: CallError) -> CallError {
    match error {
        CallError::Failed { reason } => CallError::Unavailable { reason, retry_after: None },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_key_of_the_other_mode_is_of_other_customers_and_is_not_taken_over() {
        let stripe = Stripe::new(StripeConfig::new("sk_test_1"), Arc::new(|| DateTime::UNIX_EPOCH)).unwrap();
        assert!(stripe.roll(&StripeConfig::new("rk_test_2")).is_ok());
        let mut live = StripeConfig::new("sk_live_1");
        "gateways.eu".clone_into(&mut live.section);
        let refused = stripe.roll(&live).unwrap_err().to_string();
        assert!(refused.starts_with("TANDEM_GATEWAYS__EU__SECRET_KEY is of another mode"), "{refused}");
    }

    #[test]
    fn an_id_stays_within_its_segment_of_the_path() {
        let path = |id: &str| segment(&RemoteId::from(id.to_owned()));
        assert_eq!(path("cus_QXg1o8vcGmoR32").unwrap(), "cus_QXg1o8vcGmoR32");
        assert_eq!(path("a/../b?c#d").unwrap(), "a%2F%2E%2E%2Fb%3Fc%23d");
        for none in ["", ".", ".."] {
            assert!(matches!(path(none), Err(CallError::Missing)), "{none:?}");
        }
    }
}
