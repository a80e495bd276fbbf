//! A deletion that is not carried to the other side before a person has said so.

use chrono::{DateTime, Utc};
use tandem_domain::{Customer, Interval};
use tandem_eventlog::Loaded;
use tracing::info;

use super::merge::Observation;
use super::{Run, RunError};
use crate::deletions::{Asked, Verdict};
use crate::inbox::Row;
use crate::ledger::{Change, NotCommitted, Sighting, Step};
use crate::parked::Refused;
use crate::{Direction, OnDelete};

impl Run<'_> {
    /// What a deletion means on the other side. Of what a person was asked about only they decide, whatever the settings
    /// say by now.
    pub(super) fn on_delete(&self, direction: Direction) -> OnDelete {
        match self.link.asked.filter(|asked| asked.direction == direction) {
            Some(Asked { verdict: None, .. }) => OnDelete::Ask,
            Some(Asked { verdict: Some(Verdict::Delete), .. }) => OnDelete::Delete,
            Some(Asked { verdict: Some(Verdict::Keep), .. }) => OnDelete::Unlink,
            None => match direction {
                Direction::Inbound => self.with.deletes.inbound,
                Direction::Outbound => self.with.deletes.outbound,
            },
        }
    }

    /// A person is asked about a deletion there: nothing goes to what is deleted.
    pub(super) fn waits_for_a_person(&self) -> bool {
        self.link.asked.is_some_and(|asked| asked.direction == Direction::Inbound && asked.is_open())
    }
}

/// Whether a person must first say what a deletion there means here. What the inbox says meanwhile is held. Where the customer
/// is deleted here, too, there is nothing to say: all that was held is told then.
pub(super) async fn waits(
    run: &mut Run<'_>,
    told: &mut Vec<Row>,
    customer: &mut Loaded<Customer>,
) -> Result<bool, RunError> {
    if !run.waits_for_a_person() {
        return Ok(false);
    }
    if matches!(customer.aggregate, Customer::Deleted { .. }) {
        run.store([Change::Withdraw]).await?;
        run.link.asked = None;
        (*told, *customer) = run.with.ledger.look_again(&run.link).await?;
        return Ok(false);
    }
    if !told.is_empty() {
        run.store([Change::Hold(told.iter().map(|row| row.id).collect())]).await?;
    }
    Ok(true)
}

/// Asks what a deletion there means here. Of what was seen only the end of our own call is taken in; the rest is held, and seen
/// again once it is decided.
pub(super) async fn ask_here(run: &mut Run<'_>, observation: &Observation) -> Result<(), NotCommitted> {
    let now = run.now();
    let seen = Sighting {
        remote_id: observation.remote_id.clone(),
        state: run.link.state,
        spellings: run.link.spellings.clone(),
        // Of our create we know what it held; when that was so nobody asks any more.
        base: observation.base.clone().map(|created| (created, Some(Interval::of_event(now)))),
        looked: false,
        told_by: vec![],
    };
    let closes = observation.closes.iter().map(|(key, outcome)| Change::Close(key.clone(), *outcome));
    let deleted_at = observation.gone_at.unwrap_or(now);
    let asks = Change::AskOfDeletion { direction: Direction::Inbound, deleted_at };
    let changes = [asks, Change::Hold(observation.rows.clone())].into_iter().chain(closes).collect();
    // Should the database lose this in a crash, the deletion is told, or met, once more.
    run.commit(Step { sighting: Some(seen), changes, relaxed: true, ..Step::default() }).await?;
    run.link.remote_id = Some(observation.remote_id.clone());
    asked(run, Direction::Inbound);
    Ok(())
}

/// Asks what our deletion means there, once.
pub(super) async fn ask_there(run: &mut Run<'_>, deleted_at: DateTime<Utc>) -> Result<(), RunError> {
    if run.link.asked.is_none() {
        let asks = Change::AskOfDeletion { direction: Direction::Outbound, deleted_at };
        // Nothing is pushed any more: what was rejected leaves nothing for a person to do.
        run.store([Change::Supersede(Refused::default()), asks]).await?;
        run.link.refused = Refused::default();
        asked(run, Direction::Outbound);
    }
    Ok(())
}

fn asked(run: &mut Run<'_>, direction: Direction) {
    run.link.asked = Some(Asked { direction, verdict: None });
    info!(
        customer.id = %run.link.customer_id, gateway = %run.name(), %direction,
        "parked a deletion: a person must say whether it is carried out"
    );
}
