//! Push: what the remote must be told, stored as an intent.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tandem_domain::{Customer, Field, Profile};
use tandem_eventlog::zoo::plays;
use tandem_eventlog::{Loaded, crash};

use super::{Run, RunError, deletions, twins};
use crate::intent::Intent;
use crate::ledger::{Change, Step};
use crate::link::LinkState;
use crate::parked::Refused;
use crate::{Direction, OnDelete, Write};

/// Stores the next call as the link's open intent, and returns it. `None` when nothing differs.
///
/// Local against base decides, for every gateway alike. Where a change came from never does: a value that came from
/// here and was changed back elsewhere must be told again.
pub(super) async fn push(run: &mut Run<'_>, loaded: &Loaded<Customer>) -> Result<Option<Intent>, RunError> {
    if run.waits_for_a_person() {
        return Ok(None);
    }
    if let Customer::Deleted { deleted_at, .. } = &loaded.aggregate {
        let there = run.link.state == LinkState::Active && run.link.remote_id.is_some();
        if run.link.state == LinkState::Unlinked {
            run.store([Change::NothingToPush]).await?;
        }
        match run.on_delete(Direction::Outbound) {
            OnDelete::Unlink => {
                twins::no_longer_ambiguous(run).await?;
                return let_go(run).await;
            }
            OnDelete::Ask if there => {
                twins::no_longer_ambiguous(run).await?;
                deletions::ask_there(run, *deleted_at).await?;
                return Ok(None);
            }
            OnDelete::Ask | OnDelete::Delete => {}
        }
    }
    if plays("origin-suppresses-a-push") && loaded.version > 0 && came_from_there(run, &loaded.id).await? {
        return Ok(None);
    }
    let (write, mut refused) = match claim(run, &loaded.aggregate) {
        Some(claim) => (Some(claim), run.link.refused.clone()),
        None => run.link.refused.sift(next_write(run, &loaded.aggregate)),
    };
    if !run.link.relabel || run.link.state != LinkState::Active {
        refused.forget_claim();
    }
    match &write {
        Some(Write::Create { profile, .. }) if !twins::may_be_created(run, profile).await? => return Ok(None),
        // Nobody is to be created any more.
        None if loaded.version > 0 => twins::no_longer_ambiguous(run).await?,
        Some(_) | None => {}
    }
    if write.is_none() && refused == run.link.refused {
        return Ok(None);
    }
    if write.is_some() {
        run.link.may(Direction::Outbound)?;
    }
    let deletes = matches!(write, Some(Write::Delete { .. })).then_some(Direction::Outbound);
    let intent = write.map(|write| intend(run, &loaded.aggregate, loaded.version, write));

    let supersedes = (refused != run.link.refused).then(|| Change::Supersede(refused.clone()));
    let opens = intent.clone().map(|intent| Change::Open(Box::new(intent)));
    let changes = supersedes.into_iter().chain(opens).collect();
    run.commit(Step { changes, deletes, ..Step::default() }).await?;
    run.link.refused = refused;
    if intent.is_some() {
        crash::at("intent-stored");
    }
    Ok(intent)
}

/// For the zoo: the last event is this gateway's own.
async fn came_from_there(run: &Run<'_>, id: &str) -> Result<bool, RunError> {
    Ok(run.with.ledger.last_origin(id).await?.as_deref() == Some(run.name().as_str()))
}

/// The object there stays as it is. Its link stays, too, and blocks an import.
async fn let_go(run: &mut Run<'_>) -> Result<Option<Intent>, RunError> {
    if run.link.state == LinkState::Active {
        run.store([Change::Become(LinkState::Unlinked), Change::Supersede(Refused::default())]).await?;
        run.link.state = LinkState::Unlinked;
    }
    Ok(None)
}

fn intend(run: &Run<'_>, customer: &Customer, version: u64, write: Write) -> Intent {
    let base = run.known();
    let body = run.gateway().freeze(&write, &base);
    let mut intent = Intent::new(write, body, &base, BTreeMap::new(), run.now());
    if plays("key-per-version") {
        intent.key = format!("tandem-{}-{version}", run.link.customer_id);
    }
    intent.edited_at = edit_times(customer, &intent);
    intent
}

/// Before anything else the object is told whose it is, if it carries the id of another customer, which is dead.
fn claim(run: &Run<'_>, customer: &Customer) -> Option<Write> {
    let may = run.link.relabel && run.link.state == LinkState::Active && !run.link.refused.is_of_a_claim();
    let remote_id = run.link.remote_id.clone().filter(|_| may && matches!(customer, Customer::Active { .. }))?;
    Some(Write::Claim { remote_id, customer: run.link.customer_id })
}

fn next_write(run: &Run<'_>, customer: &Customer) -> Option<Write> {
    if run.link.state != LinkState::Active {
        return None;
    }
    match (customer, &run.link.remote_id) {
        (Customer::Unborn, _) | (Customer::Deleted { .. }, None) => None,
        // Here alone: who is there already is kept in step, whatever becomes of the field.
        (Customer::Active { profile, .. }, None) if run.with.filter.as_ref().is_some_and(|it| !it.admits(profile)) => {
            None
        }
        (Customer::Active { profile, .. }, None) => {
            Some(Write::Create { customer: run.link.customer_id, profile: profile.clone() })
        }
        (Customer::Active { .. }, Some(remote_id)) => {
            let nothing = Profile::default();
            let base = run.link.base.as_ref().map_or(&nothing, |base| &base.profile);
            let patch = customer.differences_from(run.name(), base, &run.link.spellings);
            (!patch.is_empty()).then(|| Write::Update { remote_id: remote_id.clone(), patch })
        }
        (Customer::Deleted { .. }, Some(remote_id)) => Some(Write::Delete { remote_id: remote_id.clone() }),
    }
}

fn edit_times(customer: &Customer, intent: &Intent) -> BTreeMap<Field, DateTime<Utc>> {
    intent
        .sent()
        .into_keys()
        .filter_map(|field| customer.stamp(&field).map(|stamp| (field.clone(), stamp.edited_at)))
        .collect()
}
