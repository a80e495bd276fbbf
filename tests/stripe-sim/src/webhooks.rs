//! Webhooks on their way: signed, sent at once and side by side, and again until the endpoint answers 2xx.

use std::collections::VecDeque;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::app::App;
use crate::clock::machine_ms;
use crate::events::StoredEvent;

/// How many deliveries are remembered.
const KEPT: usize = 50_000;

/// The `Stripe-Signature` header for `body`, as sent at `timestamp` (seconds since 1970).
pub fn sign(secret: &str, timestamp: i64, body: &[u8]) -> String {
    format!("t={timestamp},v1={}", hex::encode(mac(secret, timestamp, body)))
}

fn mac(secret: &str, timestamp: i64, body: &[u8]) -> Vec<u8> {
    // An HMAC takes a key of any length, so this can't fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return Vec::new() };
    mac.update(format!("{timestamp}.").as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

/// One attempt to deliver one event to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The event's id.
    pub event: String,
    /// The endpoint's id.
    pub endpoint: String,
    /// Where it was sent.
    pub url: String,
    /// Counts the attempts, from 1.
    pub attempt: u32,
    /// What the endpoint answered; `None` if nothing.
    pub status: Option<u16>,
    /// Why it did not answer.
    pub error: Option<String>,
}

impl Delivery {
    /// Whether the endpoint took it.
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// In which order held webhooks go out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As the changes were made; nothing is held any more.
    Fifo,
    /// The last change first; nothing is held any more.
    Reversed,
    /// Just these events, in this order, an id as often as it is given; the others, and new ones, stay held.
    Given(Vec<String>),
}

/// How the webhooks stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhooks {
    /// Whether new events are held.
    pub holding: bool,
    /// The ids of held events, in the order of their changes.
    pub held: Vec<String>,
    /// How many are being sent, or wait to be sent again.
    pub in_flight: usize,
    /// The last attempts, oldest first.
    pub deliveries: Vec<Delivery>,
}

/// An event for an endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Sending {
    pub(crate) event: Arc<StoredEvent>,
    endpoint: String,
}

impl Sending {
    pub(crate) fn new(event: &Arc<StoredEvent>, endpoint: &str) -> Self {
        Self { event: event.clone(), endpoint: endpoint.to_owned() }
    }
}

/// What a test has asked for.
#[derive(Debug, Default)]
pub(crate) struct Switches {
    holding: bool,
    held: Vec<String>,
    pub(crate) drop_next: u32,
    pub(crate) duplicate_next: u32,
    pub(crate) in_flight: usize,
    log: VecDeque<Delivery>,
}

/// What becomes of a new event.
pub(crate) enum Fate {
    /// Sent now, so many times.
    Sent(u32),
    Held,
    /// Never sent.
    Dropped,
}

impl Switches {
    pub(crate) fn fate(&mut self, event: &str) -> Fate {
        if self.drop_next > 0 {
            self.drop_next -= 1;
            return Fate::Dropped;
        }
        let times = if self.duplicate_next > 0 { 2 } else { 1 };
        self.duplicate_next = self.duplicate_next.saturating_sub(1);
        if !self.holding {
            return Fate::Sent(times);
        }
        self.held.extend((0..times).map(|_| event.to_owned()));
        Fate::Held
    }

    pub(crate) fn hold(&mut self) {
        self.holding = true;
    }

    /// Takes out what is to be sent now, in order.
    pub(crate) fn release(&mut self, order: Order) -> Vec<String> {
        match order {
            Order::Given(ids) => {
                self.held.retain(|held| !ids.contains(held));
                ids
            }
            Order::Fifo | Order::Reversed => {
                self.holding = false;
                let mut ids = std::mem::take(&mut self.held);
                if order == Order::Reversed {
                    ids.reverse();
                }
                ids
            }
        }
    }

    /// With the last `limit` attempts.
    pub(crate) fn status(&self, limit: usize) -> Webhooks {
        Webhooks {
            holding: self.holding,
            held: self.held.clone(),
            in_flight: self.in_flight,
            deliveries: self.log.iter().skip(self.log.len().saturating_sub(limit)).cloned().collect(),
        }
    }

    fn log(&mut self, delivery: Delivery) {
        if self.log.len() == KEPT {
            self.log.pop_front();
        }
        self.log.push_back(delivery);
    }
}

/// Sends until it is taken, the endpoint is gone, or the attempts are used up.
pub(crate) async fn send(app: Arc<App>, sending: Sending, attempts_made: u32) {
    let mut made = attempts_made;
    loop {
        if made > 0 {
            let Some(pause) = app.webhook_retry.pause_after(made) else { break };
            tokio::time::sleep(pause).await;
        }
        made += 1;
        match attempt(&app, &sending, made).await {
            Some(delivery) if !delivery.succeeded() => {}
            _ => break,
        }
    }
    app.change(|state| state.switches.in_flight = state.switches.in_flight.saturating_sub(1));
}

/// Sends these events, to each endpoint that wants them, one after the other; what fails is sent again aside.
pub(crate) async fn send_in_order(app: &Arc<App>, events: Vec<String>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for id in events {
        let sendings: Vec<Sending> = app.read(|state| {
            let Some(event) = state.events.get(&id) else { return Vec::new() };
            state.endpoints.wanting(&event.kind).iter().map(|endpoint| Sending::new(event, endpoint)).collect()
        });
        for sending in sendings {
            let Some(delivery) = attempt(app, &sending, 1).await else { continue };
            if !delivery.succeeded() {
                app.send_later(sending, 1);
            }
            deliveries.push(delivery);
        }
    }
    deliveries
}

/// `None` if the endpoint is gone or disabled.
async fn attempt(app: &Arc<App>, sending: &Sending, number: u32) -> Option<Delivery> {
    let Sending { event, endpoint: endpoint_id } = sending;
    let found = app.read(|state| {
        let endpoint = state.endpoints.get(endpoint_id).filter(|endpoint| endpoint.enabled)?;
        Some((endpoint.clone(), state.events.pending.get(&event.id).map_or(0, |pending| pending.len())))
    });
    let Some((endpoint, pending)) = found else {
        app.change(|state| state.delivered(&event.id, endpoint_id));
        return None;
    };
    let body = serde_json::to_vec_pretty(&event.to_value(pending)).unwrap_or_default();
    let _slot = endpoint.slots.acquire().await.ok()?;
    let now_ms = app.read(|state| if state.settings.sign_by_clock { state.clock.now_ms() } else { machine_ms() });
    let signature = sign(&endpoint.secret, now_ms.div_euclid(1000), &body);
    let answer = app
        .http
        .for_url(&endpoint.url)
        .post(&endpoint.url)
        .timeout(app.webhook_timeout)
        .header("content-type", "application/json; charset=utf-8")
        .header("stripe-signature", signature)
        .body(body)
        .send()
        .await;
    let (status, error) = match answer {
        Ok(answer) => {
            let status = answer.status().as_u16();
            // Read to its end, so that the connection serves the next one.
            drop(answer.bytes().await);
            (Some(status), None)
        }
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let Sending { event, endpoint: endpoint_id } = sending.clone();
    let delivery =
        Delivery { event: event.id.clone(), endpoint: endpoint_id, url: endpoint.url, attempt: number, status, error };
    app.change(|state| {
        if delivery.succeeded() {
            state.delivered(&delivery.event, &delivery.endpoint);
        }
        state.switches.log(delivery.clone());
    });
    Some(delivery)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_an_hmac_over_time_and_body() {
        assert_eq!(
            sign("whsec_test", 1_700_000_000, b"{}"),
            "t=1700000000,v1=35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91"
        );
    }
}
