//! The relay: gives every committed event its position, then publishes it.

mod number;
mod publish;
mod wrong;

use crate::answer::answer;
use crate::backoff::Backoff;
use crate::database::last_position;
use crate::feed::Feed;
use crate::log::chain;
use crate::stream::StreamError;
use crate::stream::missing::{self, Seen};
use crate::wake::Wake;
use crate::zoo::plays;
use async_nats::Client;
use metrics::gauge;
use number::Fresh;
use sqlx::{Connection, PgConnection, PgPool};
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Names the relay's advisory lock in the database: one relay works, the others stand by.
const LOCK: i64 = 0x7461_6e64_656d; // "tandem"

/// How often a standby asks whether it is its turn.
const STANDBY: Duration = Duration::from_millis(250);

/// How long PostgreSQL hears nothing from a relay before it ends its session, and the lock with it: a host that vanished
/// says nothing, and the system would wait for two hours. A relay asks several times a second.
const SILENCE: &str = "5s";

/// The relay of one database and one stream. Many may run; one of them is active.
#[derive(Debug)]
pub struct Relay {
    pool: PgPool,
    nats: Client,
    feed: Feed,
    wake: Wake,
    status: watch::Sender<RelayStatus>,
    /// What was numbered last, for the publisher.
    fresh: Mutex<Option<Fresh>>,
    /// What the stream lacked when it was looked at last.
    seen: Mutex<Seen>,
}

/// What a relay is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayStatus {
    /// Whether it is the one at work; otherwise it stands by.
    pub active: bool,
    /// The last position given to an event.
    pub numbered: u64,
    /// The last position known to be in the stream.
    pub published: u64,
    /// How many messages somebody has deleted from the stream, as far as known; of the active one.
    pub missing: u64,
    /// Why it publishes nothing until a person has chosen: see [`StreamError`]. It looks again every few seconds, and
    /// goes on by itself once that is mended.
    pub stopped: Option<String>,
    /// What fails now, and is tried again.
    pub failing: Option<String>,
}

impl Relay {
    /// A relay that is woken by that bell.
    pub fn new(pool: PgPool, nats: Client, feed: Feed, wake: Wake) -> Self {
        Self {
            pool,
            nats,
            feed,
            wake,
            status: watch::Sender::default(),
            fresh: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// Follows what the relay is doing.
    pub fn status(&self) -> watch::Receiver<RelayStatus> {
        self.status.subscribe()
    }

    /// Stands by, works when it is its turn, and returns when told to. Trouble is logged once, waited out, and never
    /// ends it.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut backoff = Backoff::default();
        while !shutdown.is_cancelled() {
            let turn = async {
                let Err(error) = self.turn(&mut backoff).await;
                self.failed(&StreamError::Database(error));
                self.active(false);
                backoff.wait().await;
            };
            tokio::select! {
                () = turn => {}
                () = shutdown.cancelled() => {}
            }
        }
        // The session is dropped by now, and its lock with it: the next relay takes over at once.
        self.active(false);
    }

    /// One session: waits for the lock, then works until the session breaks.
    async fn turn(&self, backoff: &mut Backoff) -> Result<Infallible, sqlx::Error> {
        // A session of our own: the lock lives and dies with it, and so does the right to number.
        let options = (*self.pool.connect_options()).clone().options([("idle_session_timeout", SILENCE)]);
        let mut session = answer(PgConnection::connect_with(&options)).await?;
        while !answer(lock(&mut session)).await? && !plays("two-relays-at-once") {
            self.recovered();
            tokio::time::sleep(STANDBY).await;
        }
        let numbered = answer(last_position(&mut session)).await?;
        backoff.reset();
        self.status.send_modify(|status| status.numbered = numbered);
        self.active(true);
        tracing::info!(stream = %self.feed.stream, position = numbered, "this relay is active");
        // Numbering needs no NATS: while it is away, readers go on by PostgreSQL.
        tokio::select! {
            failed = number::run(self, &mut session) => failed,
            never = publish::run(self) => match never {},
        }
    }

    fn hand_over(&self, fresh: Option<Fresh>) {
        *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// What was numbered last, once; none if it was not handed over.
    fn fresh(&self) -> Option<Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Notices what somebody has deleted from the stream, which has so many messages no more. Readers go by PostgreSQL for it.
    async fn look_for_missing(&self, gone: u64) {
        let last = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let look = async {
            let seen = missing::missing(&self.pool, &self.nats, &self.feed, gone, last).await?;
            Ok::<_, StreamError>(missing::correct(&self.pool, seen).await?)
        };
        let missing = match look.await {
            Ok(seen) => {
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
                seen.missing
            }
            // It is looked at again soon.
            Err(error) => return tracing::debug!(error = %chain(&error), "nobody knows what the stream lacks"),
        };
        gauge!("tandem_stream_missing_messages").set(missing as f64);
        if missing > last.missing {
            tracing::error!(
                stream = %self.feed.stream, missing,
                "{missing} messages were deleted from the stream, and nobody was erased: PostgreSQL has them. \
                 `tandem stream check` names them, `tandem stream rebuild` makes the stream anew"
            );
        }
        self.status.send_if_modified(|status| std::mem::replace(&mut status.missing, missing) != missing);
    }

    fn active(&self, active: bool) {
        self.status.send_modify(|status| status.active = active);
        gauge!("tandem_relay_active").set(if active { 1 } else { 0 });
    }

    fn failed(&self, error: &StreamError) {
        let line = chain(error);
        let waits = error.is_transient();
        let mut news = false;
        self.status.send_modify(|status| {
            let place = if waits { &mut status.failing } else { &mut status.stopped };
            news = place.is_none();
            *place = Some(line.clone());
        });
        if !waits {
            gauge!("tandem_relay_stopped").set(1);
        }
        match (news, waits) {
            (true, true) => {
                tracing::warn!(stream = %self.feed.stream, error = %line, "the relay is failing, and tries again")
            }
            (true, false) => {
                tracing::error!(stream = %self.feed.stream, error = %line, "the relay stopped: a person has to choose")
            }
            (false, _) => {}
        }
    }

    fn recovered(&self) {
        let mut news = false;
        self.status.send_if_modified(|status| {
            news = status.failing.take().is_some() | status.stopped.take().is_some();
            news
        });
        gauge!("tandem_relay_stopped").set(0);
        if news {
            tracing::info!(stream = %self.feed.stream, "the relay is well again");
        }
    }
}

/// Whether it is this session's turn.
async fn lock(session: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(LOCK).fetch_one(session).await
}
