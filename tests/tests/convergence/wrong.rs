//! What goes wrong.

use stripe_sim::{Fault, Order};
use tandem_tests::Tandem;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    /// The next write is done, and its reply lost.
    LoseReply,
    /// The next write does not arrive.
    LoseRequest,
    /// The next write is done, and answered 500.
    Fail500After,
    /// The next write is answered 500.
    Fail500Before,
    TooMany,
    InUse,
    /// The next write is done, and its reply comes only when all else is over.
    HangReply,
    /// The next read of an object is lost.
    LoseRead,
    HoldWebhooks,
    ReleaseInOrder,
    ReleaseReversed,
    DuplicateWebhooks,
    DropWebhooks,
    /// `kill -9`, and started again.
    KillTandem,
    /// Another `tandem serve` beside it.
    StartAnother,
    /// Every lease is over at once: whoever works on a link goes on as a zombie.
    ExpireLeases,
}

pub const WRONGS: [Wrong; 16] = [
    Wrong::LoseReply,
    Wrong::LoseRequest,
    Wrong::Fail500After,
    Wrong::Fail500Before,
    Wrong::TooMany,
    Wrong::InUse,
    Wrong::HangReply,
    Wrong::LoseRead,
    Wrong::HoldWebhooks,
    Wrong::ReleaseInOrder,
    Wrong::ReleaseReversed,
    Wrong::DuplicateWebhooks,
    Wrong::DropWebhooks,
    Wrong::KillTandem,
    Wrong::StartAnother,
    Wrong::ExpireLeases,
];

impl Wrong {
    pub async fn happen(self, tandem: &mut Tandem) {
        let writes = "/v1/customers/**";
        let fault = match self {
            Self::LoseReply => Fault::DropReply.on("POST", writes),
            Self::LoseRequest => Fault::DropRequest.on("POST", writes),
            Self::Fail500After => Fault::Fail500AfterWork.on("POST", writes),
            Self::Fail500Before => Fault::Fail500BeforeWork.on("POST", writes),
            Self::TooMany => {
                Fault::status(429).header("Stripe-Rate-Limited-Reason", "endpoint-rate").on("POST", writes)
            }
            Self::InUse => Fault::status(409).code("lock_timeout").on("POST", writes),
            Self::HangReply => Fault::HangReply.on("POST", writes),
            Self::LoseRead => Fault::DropReply.on("GET", "/v1/customers/*"),
            Self::HoldWebhooks => return tandem.stripe.hold().await.unwrap(),
            Self::ReleaseInOrder => {
                tandem.stripe.release(Order::Fifo).await.unwrap();
                return;
            }
            Self::ReleaseReversed => {
                tandem.stripe.release(Order::Reversed).await.unwrap();
                return;
            }
            Self::DuplicateWebhooks => return tandem.stripe.duplicate(3).await.unwrap(),
            Self::DropWebhooks => return tandem.stripe.drop_webhooks(2).await.unwrap(),
            Self::KillTandem => {
                tandem.kill();
                return tandem.start_again().await;
            }
            Self::StartAnother => return tandem.start_another(),
            Self::ExpireLeases => return expire_leases(tandem).await,
        };
        tandem.stripe.fault(fault).await.unwrap();
    }
}

/// One link after the other: all in one statement may wait for somebody who waits for it.
async fn expire_leases(tandem: &Tandem) {
    let leased = "SELECT id FROM links WHERE lease_token IS NOT NULL";
    let leased: Vec<i64> = sqlx::query_scalar(leased).fetch_all(&tandem.database).await.unwrap();
    for id in leased {
        let over = "UPDATE links SET lease_until = clock_timestamp() - interval '1 s' WHERE id = $1";
        sqlx::query(over).bind(id).execute(&tandem.database).await.unwrap();
    }
}
