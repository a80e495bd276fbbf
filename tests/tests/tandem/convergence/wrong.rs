//! What goes wrong.

use std::time::{Duration, SystemTime};

use stripe_sim::{Fault, Order};
use tandem_local::test::Own;
use tandem_local::{Nats, Postgres};
use tandem_tests::{Tandem, Wire};

use super::play::{World, account_of};

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
    /// A day and an hour pass: Stripe forgets its keys.
    PassADay,
    /// Connections are cut, and none can be made for so many milliseconds.
    Cut(Wire, u64),
    /// `kill -9`, and started again.
    KillPostgres,
    KillNats,
}

/// What may go wrong in every history.
pub const ALWAYS: [Wrong; 17] = [
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
    Wrong::PassADay,
];

/// What may go wrong where connections can be cut.
pub const CUTS: [Wrong; 6] = [
    Wrong::Cut(Wire::Database, 0),
    Wrong::Cut(Wire::Database, 400),
    Wrong::Cut(Wire::Nats, 0),
    Wrong::Cut(Wire::Nats, 400),
    Wrong::Cut(Wire::Stripe, 0),
    Wrong::Cut(Wire::Stripe, 400),
];

/// What may go wrong with servers of its own.
pub const KILLS: [Wrong; 6] =
    [Wrong::KillPostgres, Wrong::KillPostgres, Wrong::KillPostgres, Wrong::KillNats, Wrong::KillNats, Wrong::KillNats];

/// An hour more than Stripe remembers keys.
const DAY: Duration = Duration::from_secs(25 * 3600);

impl Wrong {
    /// It goes wrong with that account.
    pub async fn happen(self, world: &mut World, account: usize) {
        let World { tandem, servers, passed, .. } = world;
        let stripe = account_of(tandem, account);
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
            Self::HoldWebhooks => return stripe.hold().await.unwrap(),
            Self::ReleaseInOrder => return drop(stripe.release(Order::Fifo).await.unwrap()),
            Self::ReleaseReversed => return drop(stripe.release(Order::Reversed).await.unwrap()),
            Self::DuplicateWebhooks => return stripe.duplicate(3).await.unwrap(),
            Self::DropWebhooks => return stripe.drop_webhooks(2).await.unwrap(),
            Self::KillTandem => {
                tandem.kill();
                return tandem.start_again().await;
            }
            Self::StartAnother => return tandem.start_another(),
            Self::ExpireLeases => return expire_leases(tandem).await,
            Self::PassADay => {
                passed.push(machine_time());
                return tandem.pass(DAY).await;
            }
            Self::Cut(wire, ms) => {
                return tandem.wires.iter().for_each(|wires| wires.cut_for(wire, Duration::from_millis(ms)));
            }
            Self::KillPostgres | Self::KillNats => return servers.iter_mut().for_each(|servers| servers.kill(self)),
        };
        stripe.fault(fault).await.unwrap();
    }
}

/// PostgreSQL and nats-server of one history.
pub struct Servers {
    pub postgres: Own<Postgres>,
    pub nats: Own<Nats>,
}

impl Servers {
    fn kill(&mut self, which: Wrong) {
        // They wait until the server answers again.
        tokio::task::block_in_place(|| {
            if matches!(which, Wrong::KillNats) {
                self.nats.kill();
                self.nats.restart().unwrap();
            } else {
                self.postgres.kill();
                self.postgres.restart().unwrap();
            }
        });
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

#[expect(clippy::disallowed_methods, reason = "the local Stripe tells by it, too, when a call was received")]
fn machine_time() -> SystemTime {
    SystemTime::now()
}
