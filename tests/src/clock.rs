//! Time passes, for Tandem and for Stripe alike. PostgreSQL's stands: it times leases and pauses, by its own clock alone.

use std::path::PathBuf;
use std::time::Duration;

use stripe_sim::Order;
use tandem_local::Scratch;

use crate::Tandem;

impl Tandem {
    /// So much time passes at once. What is on its way meanwhile arrives that much later.
    pub async fn pass(&self, time: Duration) {
        let file = file(&self.scratch);
        let before = std::fs::read_to_string(&file).ok().and_then(|text| text.parse::<u64>().ok());
        let ahead = before.unwrap_or_default() + time.as_secs();
        let next = file.with_extension("next");
        std::fs::write(&next, ahead.to_string()).expect("a file");
        // At once: who reads it reads all of it.
        std::fs::rename(next, file).expect("a file");
        for gateway in self.gateways() {
            self.stripe_of(gateway).advance(time).await.expect("the local Stripe");
        }
    }

    /// Changes something at the first Stripe, which tells of it a minute later. Told at once, it may be of a second that Stripe's clock
    /// has not begun for all that its replies have said, and on a busy machine they come late: then the object is asked for.
    pub async fn told_a_minute_later<T>(&self, change: impl Future<Output = T>) -> T {
        self.stripe.hold().await.expect("the local Stripe");
        let changed = change.await;
        self.pass(Duration::from_secs(60)).await;
        self.stripe.release(Order::Fifo).await.expect("the local Stripe");
        changed
    }
}

/// Says how far the clocks of `tandem serve` and of its other commands are ahead.
pub(crate) fn file(scratch: &Scratch) -> PathBuf {
    scratch.path().join("clock-ahead")
}
