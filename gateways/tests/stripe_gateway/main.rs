//! The Stripe gateway against a local Stripe, over HTTP.

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do")]

mod reads;
mod trouble;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use chrono::{DateTime, Utc};
use stripe_sim::{Control, Options, Settings, Sim};
use tandem_domain::{Address, CustomerId, Field, Patch, Profile, RemoteId, Value};
use tandem_gateways::stripe::{Stripe, StripeConfig};
use tandem_gateways::{Call, CallError, Gateway, Object, Reply, Write};

/// A local Stripe, and the gateway that calls it.
struct Local {
    sim: Sim,
    control: Control,
    stripe: Stripe,
    keys: AtomicU32,
}

async fn local() -> Result<Local> {
    local_with(Settings::default(), |_| {}).await
}

/// `change` sees settings that let any number of calls through.
async fn local_with(settings: Settings, change: impl FnOnce(&mut StripeConfig)) -> Result<Local> {
    let sim = Sim::start(Options { settings, ..Options::default() }).await?;
    let stripe = gateway(&sim, change)?;
    Ok(Local { control: sim.control(), stripe, sim, keys: AtomicU32::new(0) })
}

fn gateway(sim: &Sim, change: impl FnOnce(&mut StripeConfig)) -> Result<Stripe> {
    let mut config = StripeConfig::new("sk_test_1");
    config.api_base = sim.url();
    config.requests_per_second = Some(100_000);
    config.endpoint_requests_per_second = 100_000;
    change(&mut config);
    Ok(Stripe::new(config, Arc::new(machine_time))?)
}

#[expect(clippy::disallowed_methods, reason = "the local Stripe's clock is the machine's")]
fn machine_time() -> DateTime<Utc> {
    Utc::now()
}

impl Local {
    /// Sends a write under a new key.
    async fn send(&self, write: &Write) -> Result<Reply, CallError> {
        let key = format!("key-{}", self.keys.fetch_add(1, Ordering::Relaxed));
        self.send_as(&key, write).await
    }

    async fn send_as(&self, key: &str, write: &Write) -> Result<Reply, CallError> {
        let body = self.stripe.freeze(write, &Profile::default());
        self.stripe.send(&Call { write, body: &body, key }).await
    }

    /// A customer that a person made in Stripe.
    async fn ada(&self) -> Result<RemoteId> {
        let ada = self.control.create(&[("name", "Ada"), ("email", "ada@old.example")]).await?;
        Ok(RemoteId::from(ada.id))
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn metadata(key: &str) -> Field {
    Field::Metadata(key.to_owned())
}

fn customer_id(n: u8) -> CustomerId {
    format!("0192d3a4-0000-7000-8000-0000000000{n:02}").parse().unwrap()
}

fn profile() -> Profile {
    let address = Address {
        line1: Some("1 Main St".to_owned()),
        city: Some("London".to_owned()),
        country: Some("GB".to_owned()),
        ..Address::default()
    };
    Profile::default()
        .with(Field::Name, text("Ada & Co"))
        .with(Field::Email, text("ada@old.example"))
        .with(Field::Phone, text("+44 20"))
        .with(Field::Address, Value::Address(address))
        .with(metadata("plan"), text("pro"))
        .with(metadata("seats"), text("3"))
}

fn create() -> Write {
    Write::Create { customer: customer_id(1), profile: profile() }
}

fn update(remote_id: &RemoteId, field: Field, value: Option<Value>) -> Write {
    Write::Update { remote_id: remote_id.clone(), patch: Patch::default().with(field, value) }
}

fn rename(remote_id: &RemoteId, name: &str) -> Write {
    update(remote_id, Field::Name, Some(text(name)))
}

fn delete(remote_id: &RemoteId) -> Write {
    Write::Delete { remote_id: remote_id.clone() }
}

fn present(object: &Object) -> (&RemoteId, &Profile, Option<CustomerId>) {
    match object {
        Object::Present { remote_id, profile, customer, .. } => (remote_id, profile, *customer),
        Object::Gone { .. } => panic!("it is gone"),
    }
}
