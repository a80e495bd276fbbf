//! Waking whoever waits for work, here and in other processes.

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

/// How long subscribing may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bell: ringing it wakes every listener in this process at once, and those of other processes through NATS.
///
/// A ring may be lost (NATS is away, a process starts up). Listeners look by themselves now and then; the bell only
/// makes them look sooner.
#[derive(Debug, Clone)]
pub struct Wake {
    subject: String,
    nats: Client,
    rings: watch::Sender<u64>,
    /// Tells our own rings from those of others.
    name: Uuid,
}

impl Wake {
    /// The bell of a topic: the relay's is its stream's name. Its core NATS subject is `tandem.<topic>.wake`.
    ///
    /// Must be called inside a Tokio runtime. Clones ring the same bell; make one per topic and process, since a
    /// second one is reached through NATS only.
    pub fn new(nats: Client, topic: &str) -> Self {
        let subject = format!("tandem.{topic}.wake");
        let (rings, mut heard) = watch::channel(0_u64);
        let name = Uuid::new_v4();
        let sender = nats.clone();
        let target = subject.clone();
        // Ends when the last clone of the bell is gone. Rings that come while one is being sent are one ring.
        tokio::spawn(async move {
            while heard.changed().await.is_ok() {
                if let Err(error) = sender.publish(target.clone(), Bytes::copy_from_slice(name.as_bytes())).await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a ring was not sent");
                }
            }
        });
        Self { subject, nats, rings, name }
    }

    /// Wakes the listeners. Never waits, never fails.
    pub fn ring(&self) {
        self.rings.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// Hears every ring from now on.
    pub async fn listen(&self) -> WakeListener {
        let here = self.rings.subscribe();
        // While NATS is away this may not end; those who listen must not wait for it.
        let elsewhere = match timeout(PATIENCE, self.nats.subscribe(self.subject.clone())).await {
            Ok(Ok(subscriber)) => Some(subscriber),
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(subject = %self.subject, "rings of other processes are not heard");
                None
            }
        };
        WakeListener { here, elsewhere, name: self.name }
    }
}

/// Hears the rings of a [`Wake`].
#[derive(Debug)]
pub struct WakeListener {
    here: watch::Receiver<u64>,
    elsewhere: Option<Subscriber>,
    name: Uuid,
}

impl WakeListener {
    /// Returns at the next ring, or at once if the bell rang since the last call. Several rings may count as one.
    ///
    /// Cancel safe.
    pub async fn rung(&mut self) {
        let here = async {
            // When the bell is gone from this process, only others can ring.
            if self.here.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            true
        };
        let elsewhere = async {
            let Some(subscriber) = &mut self.elsewhere else { return std::future::pending().await };
            loop {
                match subscriber.next().await {
                    // Ours, which was heard here already.
                    Some(ring) if *ring.payload == *self.name.as_bytes() => {}
                    ring => return ring.is_some(),
                }
            }
        };
        let open = tokio::select! {
            open = here => open,
            open = elsewhere => open,
        };
        if !open {
            self.elsewhere = None;
        }
    }
}
