//! Waiting for a call's turn, so that Stripe's rate limits are kept.
//!
//! "Rate limits" (docs.stripe.com/rate-limits): a number of calls a second for the account, and one for each endpoint.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::link::{IN_BULK, Priority};
use crate::pace::{Pace, Taken};

/// The endpoints that we call. Stripe counts each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    CreateCustomer,
    UpdateCustomer,
    DeleteCustomer,
    RetrieveCustomer,
    ListCustomers,
    ListEvents,
    RetrieveAccount,
}

impl Endpoint {
    const ALL: [Self; 7] = [
        Self::CreateCustomer,
        Self::UpdateCustomer,
        Self::DeleteCustomer,
        Self::RetrieveCustomer,
        Self::ListCustomers,
        Self::ListEvents,
        Self::RetrieveAccount,
    ];

    /// Its name in metrics and traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateCustomer => "customers.create",
            Self::UpdateCustomer => "customers.update",
            Self::DeleteCustomer => "customers.delete",
            Self::RetrieveCustomer => "customers.retrieve",
            Self::ListCustomers => "customers.list",
            Self::ListEvents => "events.list",
            Self::RetrieveAccount => "account.retrieve",
        }
    }

    /// It changes something.
    pub fn is_write(self) -> bool {
        matches!(self, Self::CreateCustomer | Self::UpdateCustomer | Self::DeleteCustomer)
    }
}

/// The turns of one account's calls: those of this process, which has a part of the account's pace.
#[derive(Debug)]
pub(super) struct Pacing {
    per_second: f64,
    /// Turns that were given, and how many of them had to be waited for longer than [`SOON`], since somebody asked.
    given: AtomicU64,
    late: AtomicU64,
    all: Buckets,
    /// Which a call that nobody waits for takes its turn of before: they are smaller.
    in_bulk: Buckets,
    pause: Mutex<Pause>,
}

/// A turn that did not come in time. Nothing was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoTurn {
    /// When it is worth another try, if that is known.
    pub retry_after: Option<Duration>,
}

impl Pacing {
    pub fn new(per_second: NonZeroU32, endpoint_per_second: NonZeroU32) -> Self {
        let (per_second, endpoint_per_second) = (f64::from(per_second.get()), f64::from(endpoint_per_second.get()));
        Self {
            per_second,
            given: AtomicU64::new(0),
            late: AtomicU64::new(0),
            all: Buckets::new(per_second, endpoint_per_second),
            in_bulk: Buckets::new(per_second * IN_BULK, endpoint_per_second * IN_BULK),
            pause: Mutex::default(),
        }
    }

    /// Returns when it is this call's turn: first come, first served, among those of its priority.
    pub async fn turn(&self, priority: Priority, endpoint: Endpoint, deadline: Instant) -> Result<(), NoTurn> {
        if let Some(until) = self.pause().until.filter(|until| *until > deadline) {
            return Err(NoTurn { retry_after: Some(until.saturating_duration_since(Instant::now())) });
        }
        let asked = Instant::now();
        let turn = timeout_at(deadline, self.wait(priority, endpoint)).await.map_err(|_| NoTurn { retry_after: None });
        self.given.fetch_add(u64::from(turn.is_ok()), Ordering::Relaxed);
        self.late.fetch_add(u64::from(asked.elapsed() > SOON), Ordering::Relaxed);
        turn
    }

    /// Stripe said that we are too fast.
    pub fn slow_down(&self, retry_after: Option<Duration>) {
        let jitter = rand::random_range(0.75..1.25);
        self.pause().slow_down(Instant::now(), retry_after, jitter);
    }

    /// Stripe took a call.
    pub fn went_well(&self) {
        self.pause().went_well(Instant::now());
    }

    async fn wait(&self, priority: Priority, endpoint: Endpoint) {
        if priority == Priority::Bulk {
            self.in_bulk.of(endpoint).take().await;
            self.in_bulk.account.take().await;
        }
        self.all.of(endpoint).take().await;
        let account = self.all.account.line.lock().await;
        loop {
            let until = self.pause().until;
            match until {
                Some(until) if until > Instant::now() => sleep_until(until).await,
                Some(_) | None => break,
            }
        }
        self.all.account.ready().await;
        drop(account);
    }

    fn pause(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace for Pacing {
    fn taken(&self, within: Duration) -> Taken {
        let given = self.given.swap(0, Ordering::Relaxed) as f64;
        Taken { part: given / (self.per_second * within.as_secs_f64()), late: self.late.swap(0, Ordering::Relaxed) > 0 }
    }

    fn have(&self, part: f64) {
        self.all.have(part);
        self.in_bulk.have(part);
    }
}

/// A turn that takes longer shows that more of them would be used.
const SOON: Duration = Duration::from_millis(100);

/// Those of an account, and of each of its endpoints.
#[derive(Debug)]
struct Buckets {
    account: Bucket,
    endpoints: [Bucket; Endpoint::ALL.len()],
}

impl Buckets {
    fn new(per_second: f64, endpoint_per_second: f64) -> Self {
        let endpoints = Endpoint::ALL.map(|_| Bucket::new(endpoint_per_second));
        Self { account: Bucket::new(per_second), endpoints }
    }

    fn of(&self, endpoint: Endpoint) -> &Bucket {
        // One for each, in their order.
        &self.endpoints[endpoint as usize]
    }

    fn have(&self, part: f64) {
        for bucket in self.endpoints.iter().chain([&self.account]) {
            bucket.have(part);
        }
    }
}

/// No more than so many within any second: a tenth of them at once, the rest as they come.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    limiter: RwLock<Arc<DefaultDirectRateLimiter>>,
    /// Those who wait stand in line; a limiter alone wakes them all and lets one through.
    line: tokio::sync::Mutex<()>,
}

impl Bucket {
    fn new(per_second: f64) -> Self {
        Self { per_second, limiter: RwLock::new(Arc::new(limiter(per_second).0)), line: Default::default() }
    }

    async fn take(&self) {
        let _first = self.line.lock().await;
        self.ready().await;
    }

    async fn ready(&self) {
        let limiter = Arc::clone(&self.limiter.read().unwrap_or_else(PoisonError::into_inner));
        limiter.until_ready().await;
    }

    /// Goes on with that part, and with nothing to be taken at once: what was taken before is not known.
    fn have(&self, part: f64) {
        let (limiter, burst) = limiter(self.per_second * part);
        let taken = limiter.check_n(burst);
        debug_assert!(matches!(taken, Ok(Ok(()))), "a new one has all of it");
        *self.limiter.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limiter);
    }
}

/// So many a second, which may be less than one, and how many of them at once.
fn limiter(per_second: f64) -> (DefaultDirectRateLimiter, NonZeroU32) {
    let burst = NonZeroU32::new((per_second / 10.0) as u32).unwrap_or(NonZeroU32::MIN);
    let refill = (per_second - f64::from(burst.get())).max(per_second / 2.0);
    let period = Duration::try_from_secs_f64(1.0 / refill).unwrap_or(Duration::MAX).max(Duration::from_nanos(1));
    let quota = Quota::with_period(period).unwrap_or(Quota::per_second(NonZeroU32::MIN));
    (RateLimiter::direct(quota.allow_burst(burst)), burst)
}

/// A time in which nothing is sent: twice as long after each refusal, half as long after each success.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    doublings: u32,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(250);
    const MOST_DOUBLINGS: u32 = 7;

    fn slow_down(&mut self, now: Instant, retry_after: Option<Duration>, jitter: f64) {
        let running = self.until.is_some_and(|until| until > now);
        // Calls that were under way when the pause began are refused too: they say nothing new.
        if running && retry_after.is_none() {
            return;
        }
        let pause = (Self::FIRST * 2_u32.pow(self.doublings)).mul_f64(jitter).max(retry_after.unwrap_or_default());
        if !running {
            self.doublings = (self.doublings + 1).min(Self::MOST_DOUBLINGS);
        }
        self.until = self.until.max(now.checked_add(pause));
    }

    fn went_well(&mut self, now: Instant) {
        if self.until.is_none_or(|until| until <= now) {
            self.doublings = self.doublings.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_double_while_refusals_go_on_and_shrink_with_success() {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        for expected in [250, 500, 1000] {
            pause.slow_down(now, None, 1.0);
            assert_eq!(pause.until, Some(now + expected * MS));
            now += expected * MS;
        }
        pause.went_well(now);
        pause.went_well(now);
        pause.slow_down(now, None, 1.0);
        assert_eq!(pause.until, Some(now + 500 * MS));
    }

    #[test]
    fn calls_refused_together_make_one_pause() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        for after in 0..10 {
            pause.slow_down(now + after * MS, None, 1.0);
        }
        assert_eq!(pause.until, Some(now + 250 * MS));
    }

    #[test]
    fn a_pause_is_never_shorter_than_stripe_asked_for() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        pause.slow_down(now, Some(7000 * MS), 1.0);
        assert_eq!(pause.until, Some(now + 7000 * MS));
        pause.slow_down(now + MS, Some(10 * MS), 1.0);
        assert_eq!(pause.until, Some(now + 7000 * MS));
    }

    #[tokio::test]
    async fn a_call_whose_pause_outlasts_its_time_is_not_kept_waiting() {
        let pacing = Pacing::new(NonZeroU32::MIN, NonZeroU32::MIN);
        pacing.slow_down(Some(Duration::from_secs(3600)));
        let no_turn = pacing
            .turn(Priority::Live, Endpoint::ListEvents, Instant::now() + Duration::from_secs(60))
            .await
            .unwrap_err();
        assert!(no_turn.retry_after.unwrap() > Duration::from_secs(3500));
    }

    /// Fails where all stand in one line.
    #[tokio::test]
    async fn whom_somebody_waits_for_is_not_behind_those_for_whom_nobody_does() {
        let twenty = NonZeroU32::MIN.saturating_add(19);
        let (pacing, began) = (Arc::new(Pacing::new(twenty, twenty)), Arc::new(AtomicUsize::new(0)));
        let soon = Instant::now() + Duration::from_secs(600);
        let mut others = JoinSet::new();
        for _ in 0..200 {
            let (pacing, began) = (Arc::clone(&pacing), Arc::clone(&began));
            others.spawn(async move {
                let turn = pacing.turn(Priority::Bulk, Endpoint::UpdateCustomer, soon).await;
                began.fetch_add(usize::from(turn.is_ok()), Ordering::Relaxed);
            });
        }
        others.join_next().await;

        for _ in 0..3 {
            assert_eq!(pacing.turn(Priority::Live, Endpoint::UpdateCustomer, soon).await, Ok(()));
        }

        let began = began.load(Ordering::Relaxed);
        assert!(began < 100, "after {began} of 200");
    }

    #[tokio::test]
    async fn each_endpoint_has_turns_of_its_own() {
        let pacing = Pacing::new(NonZeroU32::new(1000).unwrap(), NonZeroU32::MIN);
        let now = Instant::now();
        assert_eq!(pacing.turn(Priority::Live, Endpoint::ListEvents, now + Duration::from_secs(60)).await, Ok(()));
        assert_eq!(pacing.turn(Priority::Live, Endpoint::ListEvents, now).await, Err(NoTurn { retry_after: None }));
        assert_eq!(pacing.turn(Priority::Live, Endpoint::ListCustomers, now + Duration::from_secs(60)).await, Ok(()));
    }
}
