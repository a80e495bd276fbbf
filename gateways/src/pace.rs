//! The pace of an account's calls: it belongs to the account, and the processes that live share it.
//!
//! Each may always have an even part. What others leave of theirs goes to those whose calls wait for a turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use sqlx::PgPool;
use tandem_domain::GatewayName;
use tandem_eventlog::{Feed, Wake};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use crate::{Gateway, error_chain};

/// The pace of an account's calls, as one process keeps it.
pub trait Pace: Send + Sync {
    /// What was taken of the account's pace since this was asked last, which was that long ago.
    fn taken(&self, within: Duration) -> Taken;

    /// Keeps to that part of the account's pace from now on.
    fn have(&self, part: f64);
}

/// What a process took of an account's pace.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taken {
    /// 1 is all of it.
    pub part: f64,
    /// Calls waited for their turn.
    pub late: bool,
}

/// From one telling of the others to the next. Whose calls begin to wait, tells at once.
const INTERVAL: Duration = Duration::from_millis(500);

/// Who tells nothing for so long is not there any more, in seconds.
const GONE: f64 = 2.0;

/// How long what a process took is held for what it takes: a pause of a moment gives its part to nobody.
const REMEMBERED: u32 = 4;

/// A smaller change of a part is none: each begins with nothing to be taken at once.
const CHANGE: f64 = 0.05;

/// The part of this process: none of the others has less, and those that are late share what the others do not take.
fn part(late: bool, others: &[Taken]) -> f64 {
    let even = 1.0 / (others.len() + 1) as f64;
    if !late {
        return even;
    }
    let (those_late, rest): (Vec<&Taken>, Vec<&Taken>) = others.iter().partition(|other| other.late);
    // A little is left for whoever begins, until that is known here.
    let kept: f64 = rest.iter().map(|other| other.part.clamp(even / 4.0, even)).sum();
    ((1.0 - kept) / (those_late.len() + 1) as f64).max(even)
}

/// Shares the paces of these gateways with the other processes on that database until told to stop.
pub async fn share_pace(
    pool: PgPool,
    nats: Client,
    feed: Feed,
    gateways: Vec<Arc<dyn Gateway>>,
    shutdown: CancellationToken,
) {
    let mut shares = Shares::of(gateways);
    if shares.ours.is_empty() {
        return;
    }
    let bell = Wake::new(nats, &format!("{}.pace", feed.stream));
    let mut rings = bell.listen().await;
    bell.ring();
    while !shutdown.is_cancelled() {
        match shares.tell(&pool).await {
            Ok(true) => bell.ring(),
            Ok(false) => {}
            // Nor can anything else be done now.
            Err(error) => debug!(error = %error_chain(&error), "the pace cannot be shared now"),
        }
        tokio::select! {
            () = rings.rung() => {}
            () = tokio::time::sleep(INTERVAL) => {}
            () = shutdown.cancelled() => {}
        }
    }
    if shares.leave(&pool).await.is_ok() {
        bell.ring();
    }
}

struct Shares {
    process: Uuid,
    ours: BTreeMap<GatewayName, Share>,
    measured: Instant,
}

struct Share {
    gateway: Arc<dyn Gateway>,
    taken: Taken,
    /// How many measurements ago it was late.
    in_time: u32,
    has: f64,
}

impl Shares {
    fn of(gateways: Vec<Arc<dyn Gateway>>) -> Self {
        let share = |gateway: Arc<dyn Gateway>| {
            let name = gateway.name().clone();
            gateway.pace()?;
            Some((name, Share { gateway, taken: Taken::default(), in_time: REMEMBERED, has: 1.0 }))
        };
        let ours = gateways.into_iter().filter_map(share).collect();
        Self { process: Uuid::new_v4(), ours, measured: Instant::now() }
    }

    /// Tells the others what this process takes, and takes what they leave. True if they should know at once.
    async fn tell(&mut self, pool: &PgPool) -> Result<bool, sqlx::Error> {
        let within = self.measured.elapsed();
        let mut begins = false;
        if within >= INTERVAL / 2 {
            self.measured = Instant::now();
            for share in self.ours.values_mut() {
                begins |= share.measure(within);
            }
        }
        let names: Vec<&str> = self.ours.keys().map(GatewayName::as_str).collect();
        let (parts, late): (Vec<f64>, Vec<bool>) =
            self.ours.values().map(|share| (share.taken.part, share.taken.late)).unzip();
        let others: Vec<(String, f64, bool)> = sqlx::query_as(
            "WITH told AS (
                 INSERT INTO paces (gateway, process, part, late, seen_at)
                 SELECT gateway, $1, part, late, clock_timestamp()
                 FROM unnest($2::text[], $3::float8[], $4::bool[]) AS ours (gateway, part, late)
                 ON CONFLICT (gateway, process) DO UPDATE
                     SET part = excluded.part, late = excluded.late, seen_at = excluded.seen_at),
             forgotten AS (DELETE FROM paces WHERE process <> $1 AND seen_at < statement_timestamp() - interval '1 minute')
             SELECT gateway, part, late FROM paces
             WHERE gateway = ANY($2) AND process <> $1 AND seen_at > statement_timestamp() - make_interval(secs => $5)",
        )
        .bind(self.process)
        .bind(&names)
        .bind(&parts)
        .bind(&late)
        .bind(GONE)
        .fetch_all(pool)
        .await?;
        for (name, share) in &mut self.ours {
            let others = others.iter().filter(|(gateway, ..)| gateway == name.as_str());
            let others: Vec<Taken> = others.map(|(_, part, late)| Taken { part: *part, late: *late }).collect();
            share.have(part(share.taken.late, &others));
        }
        Ok(begins)
    }

    async fn leave(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM paces WHERE process = $1").bind(self.process).execute(pool).await?;
        Ok(())
    }
}

impl Share {
    /// True if calls begin to wait.
    fn measure(&mut self, within: Duration) -> bool {
        let Some(pace) = self.gateway.pace() else { return false };
        let now = pace.taken(within);
        self.in_time = if now.late { 0 } else { self.in_time.saturating_add(1) };
        let was_late = self.taken.late;
        let part = now.part.max(self.taken.part * 0.7);
        self.taken = Taken { part, late: self.in_time < REMEMBERED };
        !was_late && now.late
    }

    fn have(&mut self, part: f64) {
        let Some(pace) = self.gateway.pace() else { return };
        if (part - self.has).abs() > CHANGE * self.has {
            pace.have(part);
            self.has = part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Taken = Taken { part: 0.3, late: true };
    const IDLE: Taken = Taken { part: 0.0, late: false };

    #[test]
    fn who_is_alone_has_all() {
        assert_eq!(part(false, &[]), 1.0);
        assert_eq!(part(true, &[]), 1.0);
    }

    #[test]
    fn those_that_are_late_have_even_parts() {
        assert_eq!(part(true, &[LATE, LATE]), 1.0 / 3.0);
    }

    #[test]
    fn what_others_leave_goes_to_who_is_late() {
        let all_but_a_little = part(true, &[IDLE, IDLE]);
        assert!((0.8..0.9).contains(&all_but_a_little), "{all_but_a_little}");
        let two = part(true, &[LATE, IDLE]);
        assert!((0.4..0.5).contains(&two), "{two}");
    }

    #[test]
    fn what_others_take_is_theirs() {
        let busy = Taken { part: 0.25, late: false };
        assert_eq!(part(true, &[busy]), 0.75);
        // Of more than its part nobody is robbed.
        assert_eq!(part(true, &[Taken { part: 0.9, late: false }]), 0.5);
    }

    #[test]
    fn all_parts_are_no_more_than_all() {
        for (late, idle) in [(1, 0), (2, 0), (1, 1), (2, 3), (5, 1)] {
            let others = |late: usize, idle: usize| [vec![LATE; late], vec![IDLE; idle]].concat();
            let sum = late as f64 * part(true, &others(late - 1, idle));
            // Those that idle take nothing.
            assert!(sum <= 1.0 + f64::EPSILON * 4.0, "{late} late, {idle} idle: {sum}");
        }
    }
}
