//! Webhooks that are signed with a secret of ours, and tell of another account or mode: taken, counted, and ignored.
//!
//! Refused, the gateway would send each again for days, and then switch the endpoint off, with our own events.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tandem_domain::GatewayName;
use tracing::warn;

/// Whose events came to an endpoint that is not for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Foreign {
    /// A connected account, and ours is not connected, or is another one.
    AnotherAccount,
    /// The platform, and our account is connected to it.
    Platform,
    /// Live mode, and our key is of test mode.
    LiveMode,
    /// Test mode, and our key is of live mode.
    TestMode,
}

impl Foreign {
    /// Its name, as it is stored and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnotherAccount => "another_account",
            Self::Platform => "platform",
            Self::LiveMode => "live_mode",
            Self::TestMode => "test_mode",
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AnotherAccount => "another account",
            Self::Platform => "the platform's own account, and ours is connected to it",
            Self::LiveMode => "live mode, and our key is of test mode",
            Self::TestMode => "test mode, and our key is of live mode",
        })
    }
}

/// From one warning about a gateway's foreign webhooks to the next.
const QUIET: TimeDelta = TimeDelta::hours(1);

/// What this process has counted and not yet stored. A busy foreign account may not cost a statement an event.
#[derive(Debug, Default)]
pub(crate) struct Foreigners {
    counted: Mutex<BTreeMap<(GatewayName, Foreign), Count>>,
    warned: Mutex<BTreeMap<GatewayName, DateTime<Utc>>>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    events: i64,
    last_at: DateTime<Utc>,
}

impl Foreigners {
    /// Counts one, and warns of the first in an hour.
    pub fn count(&self, gateway: &GatewayName, whose: Foreign, now: DateTime<Utc>) {
        self.add(gateway.clone(), whose, Count { events: 1, last_at: now });
        if self.is_to_be_warned_of(gateway, now) {
            warn!(
                %gateway, whose = whose.as_str(),
                "ignored a signed webhook of {whose}: is the endpoint in the Dashboard the right one? More of them are counted, and told of in an hour"
            );
        }
    }

    fn is_to_be_warned_of(&self, gateway: &GatewayName, now: DateTime<Utc>) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let due = warned.get(gateway).is_none_or(|last| now - *last >= QUIET || now < *last);
        if due {
            warned.insert(gateway.clone(), now);
        }
        due
    }

    fn add(&self, gateway: GatewayName, whose: Foreign, more: Count) {
        let mut counted = self.counted();
        let count = counted.entry((gateway, whose)).or_insert(Count { events: 0, last_at: more.last_at });
        count.events += more.events;
        count.last_at = count.last_at.max(more.last_at);
    }

    fn counted(&self) -> MutexGuard<'_, BTreeMap<(GatewayName, Foreign), Count>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was counted since the last call to what all processes have stored. What cannot be stored is kept for the next.
    pub async fn store(&self, relaxed: &PgPool) -> Result<(), sqlx::Error> {
        let counted = mem::take(&mut *self.counted());
        if counted.is_empty() {
            return Ok(());
        }
        let stored = store(relaxed, &counted).await;
        if stored.is_err() {
            for ((gateway, whose), count) in counted {
                self.add(gateway, whose, count);
            }
        }
        stored
    }
}

async fn store(relaxed: &PgPool, counted: &BTreeMap<(GatewayName, Foreign), Count>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO foreign_webhooks (gateway, whose, events, last_at)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[]) AS counted (gateway, whose, events, at)
         ORDER BY gateway, whose
         ON CONFLICT (gateway, whose) DO UPDATE SET events = foreign_webhooks.events + excluded.events,
             last_at = greatest(foreign_webhooks.last_at, excluded.last_at)",
    )
    .bind(counted.keys().map(|(gateway, _)| gateway.as_str()).collect::<Vec<_>>())
    .bind(counted.keys().map(|(_, whose)| whose.as_str()).collect::<Vec<_>>())
    .bind(counted.values().map(|count| count.events).collect::<Vec<_>>())
    .bind(counted.values().map(|count| count.last_at).collect::<Vec<_>>())
    .execute(relaxed)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_an_hour_is_warned_of_for_each_gateway() {
        let (foreign, now) = (Foreigners::default(), DateTime::UNIX_EPOCH);
        let (eu, us): (GatewayName, GatewayName) = ("eu".parse().unwrap(), "us".parse().unwrap());
        let after = |minutes| now + TimeDelta::minutes(minutes);
        let warned = [(&eu, 0), (&eu, 1), (&us, 2), (&eu, 59), (&eu, 60), (&us, 61)]
            .map(|(gateway, minutes)| foreign.is_to_be_warned_of(gateway, after(minutes)));
        assert_eq!(warned, [true, false, true, false, true, false]);
    }

    #[tokio::test]
    async fn what_several_processes_count_adds_up() {
        let pool = crate::fixtures::tables().await.unwrap();
        let (one, another): (Foreigners, Foreigners) = Default::default();
        let eu: GatewayName = "eu".parse().unwrap();
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        one.count(&eu, Foreign::LiveMode, at(3));
        one.count(&eu, Foreign::LiveMode, at(2));
        another.count(&eu, Foreign::AnotherAccount, at(1));
        another.count(&eu, Foreign::LiveMode, at(1));
        for process in [&one, &another, &one] {
            process.store(&pool).await.unwrap();
        }
        let status = crate::status(&pool, &["eu", "us"]).await.unwrap();
        assert_eq!((status[0].foreign, status[0].foreign_at), (4, Some(at(3))));
        assert_eq!(status[0].foreign_whose, ["another_account", "live_mode"]);
        assert_eq!((status[1].foreign, status[1].foreign_at), (0, None));
    }
}
