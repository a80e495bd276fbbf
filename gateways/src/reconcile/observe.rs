//! Observe: what the inbox says that the remote holds, or, where that is unclear, the remote itself.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use tandem_domain::{Interval, Order, Overwritten, RemoteId, Side};
use tandem_eventlog::zoo::plays;

use super::edit_times::{changed_fields, edit_time};
use super::merge::{Observation, Sighted};
use super::settle::spellings_of;
use super::{Run, RunError};
use crate::inbox::Row;
use crate::intent::Intent;
use crate::ledger::Change;
use crate::link::{Base, LinkState};
use crate::{ChangeKind, Object, RemoteChange};

/// What there is to take in of what the inbox says; `None` if nothing waits.
pub(super) async fn observe(run: &mut Run<'_>, mut rows: Vec<Row>) -> Result<Option<Observation>, RunError> {
    let named = run.link.remote_id.clone().or_else(|| rows.first().map(|row| row.change.remote_id.clone()));
    let Some(remote_id) = named else { return Ok(None) };
    // Of several objects that carry our id only one is ours. The router finds the others again, and parks them.
    let strays: Vec<i64> = rows.extract_if(.., |row| row.change.remote_id != remote_id).map(|row| row.id).collect();
    if !strays.is_empty() {
        run.store([Change::HandBack(strays)]).await?;
    }
    let asked = run.link.look && run.link.state == LinkState::Active;
    if rows.is_empty() && !asked {
        return Ok(None);
    }
    let echoes = echoes_of(run, &rows).await?;

    let mut observation = match judge(run, &rows, &echoes) {
        Judgement::Known | Judgement::News(_) if asked => look(run, remote_id).await?,
        Judgement::Gone(change) => {
            let mut gone = Observation::new(remote_id, Sighted::Gone(Some(change.profile.clone())));
            gone.causation = Some(change.event_id.clone());
            gone
        }
        Judgement::Known => Observation::new(remote_id, Sighted::Nothing),
        Judgement::News(change) => taken(run, remote_id, change, echo(&echoes, change)),
        Judgement::Unclear(change) => {
            let mut looked = look(run, remote_id).await?;
            looked.causation = Some(change.event_id.clone());
            looked
        }
    };
    observation.rows = rows.iter().map(|row| row.id).collect();
    for row in &rows {
        // A call that was given up and arrived after all is nobody's news: the catalog has had its say since.
        if let Some(late) = echo(&echoes, &row.change).filter(|intent| !intent.executed) {
            observation.spellings.extend(spellings_of(late, &row.change.profile));
        }
        let Some(intent) = echo(&echoes, &row.change).filter(|intent| !intent.echo_checked) else { continue };
        observation.echoes.push(intent.key.clone());
        observation.overwritten.extend(overwritten(intent, &row.change));
    }
    Ok(Some(observation))
}

/// Asks the remote. Taken without comparing: nobody else can have seen anything later under our lease.
pub(super) async fn look(run: &mut Run<'_>, remote_id: RemoteId) -> Result<Observation, RunError> {
    let seen = run.call(run.gateway().retrieve(&remote_id)).await??;
    let sight = match seen.object {
        Object::Present { profile, .. } => Sighted::Present(profile, seen.interval),
        Object::Gone { .. } => Sighted::Gone(None),
    };
    Ok(Observation::new(remote_id, sight))
}

enum Judgement<'a> {
    /// Deleted: final, whatever its time.
    Gone(&'a RemoteChange),
    /// Nothing that our last sight of it does not include.
    Known,
    /// One change that is surely later than our last sight: its object is what the remote holds.
    News(&'a RemoteChange),
    /// It cannot be known without asking.
    Unclear(&'a RemoteChange),
}

fn judge<'a>(run: &Run<'_>, rows: &'a [Row], echoes: &BTreeMap<String, Intent>) -> Judgement<'a> {
    let deletion = rows.iter().rev().find(|row| row.change.kind == ChangeKind::Deleted);
    match (run.link.state, deletion) {
        (LinkState::Active | LinkState::Deleted, Some(row)) => return Judgement::Gone(&row.change),
        (LinkState::Active, None) => {}
        (LinkState::Deleted, None) | (LinkState::Unlinked, _) => return Judgement::Known,
    }
    let mut news: Option<&RemoteChange> = None;
    if plays("every-snapshot-as-it-comes") {
        return rows.last().map_or(Judgement::Known, |row| Judgement::News(&row.change));
    }
    for Row { change, .. } in rows {
        // Our own call, whose reply told us.
        if echo(echoes, change).is_some_and(|intent| intent.executed || plays("every-event-with-our-key-dropped")) {
            continue;
        }
        let order = match &run.link.base {
            Some(base) if plays("time-as-a-point") => as_points(change, base, true),
            Some(base) if plays("order-by-created") => as_points(change, base, false),
            Some(base) if plays("previous-attributes-order") => by_previous(change, base),
            Some(base) => Interval::of_event(change.created).order(&base.interval),
            // Our own create whose reply was lost: the object says so, but not what became of it since.
            None if change.customer == Some(run.link.customer_id) => Order::Overlapping,
            None => Order::After,
        };
        match order {
            Order::Before => {}
            Order::After if news.is_none() || POINTWISE.into_iter().any(plays) => {
                news = Some(change);
            }
            Order::After | Order::Overlapping => return Judgement::Unclear(change),
        }
    }
    news.map_or(Judgement::Known, Judgement::News)
}

/// For the zoo: variants that never need to ask the remote.
const POINTWISE: [&str; 3] = ["time-as-a-point", "order-by-created", "previous-attributes-order"];

/// For the zoo: an observation's time taken as a point. Of two within a second the last to come stays, or the first.
fn as_points(change: &RemoteChange, base: &Base, or_equal: bool) -> Order {
    let seen = base.interval.from() + TimeDelta::seconds(1);
    if change.created > seen || or_equal && change.created == seen { Order::After } else { Order::Before }
}

/// For the zoo: an event is new if what it replaced is what was last seen.
fn by_previous(change: &RemoteChange, base: &Base) -> Order {
    let follows = change.previous.iter().all(|(field, value)| base.profile.get(field) == value.as_ref());
    if follows { Order::After } else { Order::Before }
}

/// The object inside an event, with the time of the edit that the event tells of.
fn taken(run: &Run<'_>, remote_id: RemoteId, change: &RemoteChange, ours: Option<&Intent>) -> Observation {
    let interval = Interval::of_event(change.created);
    let mut observation = Observation::new(remote_id, Sighted::Present(change.profile.clone(), interval));
    let there = edit_time(change) - run.gateway().clock_offset();
    // A late send of ours tells what a person chose here, when they chose it.
    let edit = |field| ours.and_then(|intent| intent.edited_at(field)).unwrap_or(there);
    observation.edited_at = changed_fields(change).into_iter().map(|field| (field.clone(), edit(field))).collect();
    observation.causation = Some(change.event_id.clone());
    observation
}

/// Our intents that the rows are echoes of, by key.
async fn echoes_of(run: &Run<'_>, rows: &[Row]) -> Result<BTreeMap<String, Intent>, RunError> {
    let keys: Vec<&str> = rows.iter().filter_map(|row| row.change.idempotency_key.as_deref()).collect();
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let intents = run.with.ledger.intents(&run.link, &keys).await?;
    Ok(intents.into_iter().map(|intent| (intent.key.clone(), intent)).collect())
}

fn echo<'a>(echoes: &'a BTreeMap<String, Intent>, change: &RemoteChange) -> Option<&'a Intent> {
    change.idempotency_key.as_ref().and_then(|key| echoes.get(key))
}

/// The edits that our call wrote over although nobody here had seen them: what stood there is not what we believed.
pub(super) fn overwritten(intent: &Intent, change: &RemoteChange) -> Vec<Overwritten> {
    let mut unseen = vec![];
    if plays("unchecked-echoes") {
        return unseen;
    }
    for (field, sent) in intent.sent() {
        let (Some(previous), Some(against)) = (change.previous.get(&field), intent.against.get(&field)) else {
            continue;
        };
        if previous != against {
            unseen.push(Overwritten {
                sent,
                held: change.profile.get(&field).cloned(),
                sent_edited_at: intent.edited_at(&field),
                previous: Side { value: previous.clone(), edited_at: None },
                field,
            });
        }
    }
    unseen
}
