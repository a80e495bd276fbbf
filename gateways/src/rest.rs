//! Links at rest, as this process last left them: what a gateway tells of one can mostly be taken in at once.

use std::sync::Arc;

use quick_cache::sync::Cache;
use sqlx::{FromRow, Row};
use tandem_domain::{Interval, Order, RemoteId};
use tandem_eventlog::Relaxed;

use crate::RemoteChange;
use crate::link::{FREE, LEASED, Link, LinkState};
use crate::pause::Paused;

/// A link that is in step, and that nothing waits for: no call is open, and all that was told is taken in.
#[derive(Clone, Debug)]
pub(crate) struct AtRest {
    pub link: Link,
    /// Of all that its row says: under another it says something else.
    pub seal: i64,
}

impl AtRest {
    /// The link with that seal, if nothing but news can concern it.
    pub fn of(link: Link, seal: i64) -> Option<Self> {
        let kept = link.state == LinkState::Active && link.remote_id.is_some() && link.base.is_some();
        // What cannot be read leaves things waiting until it can.
        let asks = link.look || link.ambiguous || link.erased || link.asked.is_some() || link.refused.is_of_a_read();
        (kept && !asks && link.paused == Paused::default()).then_some(Self { link, seal })
    }

    /// Whether that change is surely later than what the link says of the object, and no call of ours: only such can be taken
    /// in at once.
    pub fn is_outdated_by(&self, change: &RemoteChange) -> bool {
        let base = self.link.base.as_ref();
        let order = base.map(|base| Interval::of_event(change.created).order(&base.interval));
        change.idempotency_key.is_none() && order == Some(Order::After)
    }
}

/// In a statement on links: the seal of a row, a hash of all its values.
pub(crate) const SEAL: &str = "hash_record_extended(links, 0)";

/// The links at rest of one gateway that this process remembers. Others may have changed them since: their seals tell.
#[derive(Clone)]
pub(crate) struct Resting(Arc<Cache<RemoteId, AtRest>>);

/// How many are remembered.
const REMEMBERED: usize = 4096;

impl Default for Resting {
    fn default() -> Self {
        Self(Arc::new(Cache::new(REMEMBERED)))
    }
}

impl Resting {
    /// The link of that object.
    pub fn of(&self, remote_id: &RemoteId) -> Option<AtRest> {
        self.0.get(remote_id)
    }

    /// From now on this is remembered of the object, or nothing.
    pub fn set(&self, remote_id: &RemoteId, rest: Option<AtRest>) {
        match rest {
            Some(rest) => self.0.insert(remote_id.clone(), rest),
            None => drop(self.0.remove(remote_id)),
        }
    }
}

/// Ends a run after which nothing differs but fields on which a person shall decide. The link stays due if it was marked due
/// meanwhile. Returns it if it rests.
pub(crate) async fn release(relaxed: &Relaxed, link: &Link, contested: usize) -> Result<Option<AtRest>, sqlx::Error> {
    let mut lent = relaxed.lend().await?;
    let released = sqlx::query(&format!(
        "UPDATE links SET done_seq = $3, due_since = clock_timestamp(), not_before = clock_timestamp(), attempts = 0,
                          last_error = NULL, synced_at = clock_timestamp(), contested = $4,
                          {FREE}
         WHERE id = $1 AND lease_token = $2 AND lease_step = $5
         RETURNING due_seq = done_seq AS rests, {SEAL} AS seal, {LEASED}"
    ))
    .bind(link.id)
    .bind(link.token)
    .bind(link.due_seq)
    .bind(i32::try_from(contested).unwrap_or(i32::MAX))
    .bind(link.step)
    .fetch_optional(&mut *lent)
    .await?;
    lent.give_back();
    match released {
        Some(row) if row.try_get("rests")? => Ok(AtRest::of(Link::from_row(&row)?, row.try_get("seal")?)),
        Some(_) | None => Ok(None),
    }
}
