//! The running local Stripe: its state behind one lock, and what goes on beside it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::http::HttpClients;
use crate::options::WebhookRetry;
use crate::state::State;
use crate::webhooks::{self, Sending};

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) account: String,
    /// The other accounts of this local Stripe, if it is the first.
    pub(crate) others: Vec<Arc<App>>,
    /// It is reached by the first account's keys, and its own name.
    pub(crate) connected: bool,
    pub(crate) secret_keys: Vec<String>,
    pub(crate) webhook_retry: WebhookRetry,
    pub(crate) webhook_timeout: Duration,
    pub(crate) http: HttpClients,
    pub(crate) stopping: CancellationToken,
    state: Mutex<State>,
    /// Counts the changes, for those who wait for one.
    version: watch::Sender<u64>,
}

impl App {
    pub(crate) fn new(
        options: crate::Options,
        state: State,
        others: Vec<Arc<App>>,
        http: HttpClients,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            others,
            connected: state.connected.is_some(),
            account: options.account,
            secret_keys: options.secret_keys,
            webhook_retry: options.webhook_retry,
            webhook_timeout: options.webhook_timeout,
            http,
            stopping,
            state: Mutex::new(state),
            version: watch::Sender::new(0),
        })
    }

    /// Does `work` alone, keeps what it changed, sends the webhooks that it caused, and wakes who waits.
    pub(crate) fn change<T>(self: &Arc<Self>, work: impl FnOnce(&mut State) -> T) -> T {
        let (result, outbox) = {
            let mut state = self.lock();
            let result = work(&mut state);
            state.commit();
            state.switches.in_flight += state.outbox.len();
            (result, std::mem::take(&mut state.outbox))
        };
        for sending in outbox {
            self.spawn(webhooks::send(self.clone(), sending, 0));
        }
        self.version.send_modify(|version| *version += 1);
        result
    }

    /// Looks without changing.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Sends again what has failed so many times.
    pub(crate) fn send_later(self: &Arc<Self>, sending: Sending, attempts_made: u32) {
        self.change(|state| state.switches.in_flight += 1);
        self.spawn(webhooks::send(self.clone(), sending, attempts_made));
    }

    /// The number of the last change, once it is past `after`, or the time is up.
    pub(crate) async fn changed_since(&self, after: u64, at_most: Duration) -> u64 {
        let mut version = self.version.subscribe();
        // Neither a timeout nor a closed channel changes the answer: the number as it is.
        let _ = tokio::time::timeout(at_most, version.wait_for(|version| *version > after)).await;
        *self.version.borrow()
    }

    /// Runs until done or until the local Stripe stops.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        tokio::spawn(async move { stopping.run_until_cancelled(work).await });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
