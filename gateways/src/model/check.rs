//! What holds at rest, whatever happened. The same promises as of `tests/tests/tandem/convergence/check.rs`.

use chrono::TimeDelta;
use tandem_domain::{Customer, CustomerEvent, CustomerId, Field, Policy, Value};

use super::asked::as_said;
use super::history::BEGINS;
use super::play::Play;
use super::world::State;
use crate::link::{Link, LinkState};
use crate::{ChangeKind, Verdict};

/// Checks every promise; the error names the one that is broken.
pub(super) fn check(play: &mut Play) -> Result<(), String> {
    {
        let state = play.world.lock();
        for side in 0..state.sides.len() {
            one_copy_each(&state, side)?;
            equal(&state, side)?;
            nothing_waits(&state, side)?;
        }
        nothing_lost(&state)?;
        as_said(&state)?;
        latest_stands(&state)?;
    }
    silent(play)
}

/// A living object for each living customer, linked, and no other; of what is unlinked one side lives.
fn one_copy_each(state: &State, side: usize) -> Result<(), String> {
    let side = &state.sides[side];
    let apart: Vec<_> =
        side.links.iter().map(|row| &row.link).filter(|link| link.state == LinkState::Unlinked).collect();
    let here = state
        .customers
        .iter()
        .filter(|(_, stored)| matches!(stored.customer, Customer::Active { .. }))
        .filter(|(id, _)| apart.iter().all(|link| link.customer_id != **id))
        .count();
    let there: Vec<_> = side
        .remote
        .objects
        .iter()
        .filter(|(_, held)| !held.gone)
        .map(|(id, _)| id)
        .filter(|id| apart.iter().all(|link| link.remote_id.as_ref() != Some(id)))
        .collect();
    let linked: Vec<_> = side
        .links
        .iter()
        .filter(|row| row.link.state == LinkState::Active)
        .filter_map(|row| row.link.remote_id.as_ref())
        .collect();
    let same = linked.len() == there.len() && there.iter().all(|id| linked.contains(id));
    if here == there.len() && same {
        return Ok(());
    }
    Err(format!("{here} live here, {there:?} there, linked are {linked:?}"))
}

/// Everything that was told is taken in, and every call has come to its end.
fn nothing_waits(state: &State, side: usize) -> Result<(), String> {
    let side = &state.sides[side];
    let told = side.inbox.iter().filter(|told| !told.ended).map(|told| &told.change.event_id).collect::<Vec<_>>();
    let open =
        side.intents.iter().filter(|kept| kept.outcome.is_none()).map(|kept| &kept.intent.key).collect::<Vec<_>>();
    if told.is_empty() && open.is_empty() { Ok(()) } else { Err(format!("at rest {told:?} and {open:?} wait")) }
}

/// Catalog, gateway and base hold the same, or a pair that the gateway made; what is dead on one side is dead on both.
fn equal(state: &State, side: usize) -> Result<(), String> {
    let side = &state.sides[side];
    for row in side.links.iter().filter(|row| row.link.remote_id.is_some()) {
        let link = &row.link;
        let Some(held) = link.remote_id.as_ref().and_then(|id| side.remote.objects.get(id)) else { continue };
        let stored = state.customers.get(&link.customer_id);
        let customer = stored.map_or(&Customer::Unborn, |stored| &stored.customer);
        match customer {
            _ if link.state == LinkState::Unlinked => {
                if matches!(customer, Customer::Active { .. }) != held.gone {
                    return Err(format!("unlinked: {customer:?}, gone there: {}", held.gone));
                }
            }
            Customer::Active { profile, .. } if !held.gone => {
                let base = link.base.as_ref().map(|base| &base.profile);
                let (name, told) = (profile.text(&Field::Name), held.profile.text(&Field::Name));
                let equal = if state.setting.normalises { folded(name) == folded(told) } else { name == told };
                if base != Some(&held.profile) || !equal {
                    return Err(format!("here {profile:?}, there {:?}, base {base:?}", held.profile));
                }
            }
            Customer::Deleted { .. } | Customer::Unborn if held.gone => {}
            _ => return Err(format!("dead on one side only: {customer:?}, gone there: {}", held.gone)),
        }
    }
    Ok(())
}

fn folded(name: Option<&str>) -> Option<String> {
    name.map(str::to_lowercase)
}

/// A value that the name had, and whether a person on this side wrote it.
#[derive(Clone, Debug)]
struct Written {
    value: Option<String>,
    by_hand: bool,
}

/// Every value that a person wrote is there still, or was replaced by somebody who could see it, or is in a conflict.
fn nothing_lost(state: &State) -> Result<(), String> {
    for (id, stored) in &state.customers {
        let mut sides = vec![written_here(stored.events.iter().map(|(event, origin)| (event, origin.is_none())))];
        for side in &state.sides {
            let link = side.links.iter().find(|row| row.link.customer_id == *id);
            let remote_id = link.and_then(|row| row.link.remote_id.as_ref());
            sides.push(written_there(side.remote.changes.iter().filter(|change| Some(&change.remote_id) == remote_id)));
        }
        let contested: Vec<Option<String>> = stored
            .events
            .iter()
            .filter_map(|(event, _)| match event {
                CustomerEvent::ConflictResolved(contest) => Some([&contest.catalog, &contest.remote]),
                _ => None,
            })
            .flatten()
            .map(|side| text(side.value.as_ref()))
            .collect();
        for (nth, mine) in sides.iter().enumerate() {
            // Whoever edits a side has seen what is on it.
            let written_over = mine.windows(2).filter_map(|pair| match pair {
                [lost, next] if !next.by_hand && lost.value != next.value => Some(lost),
                _ => None,
            });
            // A customer who lives on was not deleted by somebody who had seen what was on the object.
            let left_behind = mine.last().filter(|_| nth > 0 && is_left_behind(state, nth - 1, *id));
            for lost in written_over.chain(left_behind).filter(|lost| lost.by_hand) {
                let others = || sides.iter().enumerate().filter(|(other, _)| *other != nth);
                let crossed = others().any(|(_, other)| other.iter().any(|written| written.value == lost.value));
                if !crossed && !contested.contains(&lost.value) {
                    return Err(format!("{lost:?} of {nth} is lost: {sides:?}, in conflicts {contested:?}"));
                }
            }
        }
    }
    Ok(())
}

/// The object is gone, and the customer was kept.
fn is_left_behind(state: &State, side: usize, customer: CustomerId) -> bool {
    let side = &state.sides[side];
    let unlinked = |link: &&Link| link.customer_id == customer && link.state == LinkState::Unlinked;
    let link = side.links.iter().map(|row| &row.link).find(unlinked);
    let remote_id = link.and_then(|link| link.remote_id.as_ref());
    remote_id.and_then(|id| side.remote.objects.get(id)).is_some_and(|held| held.gone)
}

fn text(value: Option<&Value>) -> Option<String> {
    folded(value.and_then(Value::as_text))
}

fn written_here<'a>(events: impl Iterator<Item = (&'a CustomerEvent, bool)>) -> Vec<Written> {
    events
        .filter_map(|(event, by_hand)| match event {
            CustomerEvent::Created { profile, .. } => Some(Written { value: text(profile.get(&Field::Name)), by_hand }),
            CustomerEvent::Updated { changes, .. } => {
                let after = changes.get(&Field::Name)?.after.as_ref();
                Some(Written { value: text(after), by_hand })
            }
            _ => None,
        })
        .collect()
}

fn written_there<'a>(changes: impl Iterator<Item = &'a crate::RemoteChange>) -> Vec<Written> {
    changes
        .filter(|change| change.kind != ChangeKind::Deleted)
        .map(|change| Written {
            value: text(change.profile.get(&Field::Name)),
            by_hand: change.idempotency_key.is_none(),
        })
        .collect()
}

/// How far apart two edits are surely in order, whatever the clocks say before they are compared.
const APART: TimeDelta = TimeDelta::seconds(12);

/// By `latest` an edit that is surely the last stands, in whatever order it became known. Not one that returns to an older
/// value: if nobody looked in between, the gateway holds what it held, and the merge sees no edit there.
fn latest_stands(state: &State) -> Result<(), String> {
    let [older @ .., (at, last)] = state.written.as_slice() else { return Ok(()) };
    // Of what is unlinked each side keeps its own.
    let kept = state.setting.asks == Some(Verdict::Keep);
    let surely = older.last().is_none_or(|(before, _)| *at - *before >= APART);
    let again = last == BEGINS || older.iter().any(|(_, value)| value == last);
    // When an edit of a time to come was made is not known: it counts as made when it was told.
    if state.setting.policy != Policy::Latest || !surely || again || kept || state.setting.test_clock {
        return Ok(());
    }
    for stored in state.customers.values() {
        if let Customer::Active { profile, .. } = &stored.customer
            && text(profile.get(&Field::Name)) != Some(last.to_lowercase())
        {
            return Err(format!("{last} was written last, and {profile:?} stands"));
        }
    }
    Ok(())
}

/// Looking at every link again changes nothing, here or there. Where two gateways spell in their own ways, the first look may
/// find the spelling of a value that came from there, and take it over: once for an edit.
pub(super) fn silent(play: &mut Play) -> Result<(), String> {
    if play.world.lock().setting.gateways > 1 {
        look_again(play)?;
    }
    let before = counted(&play.world.lock());
    look_again(play)?;
    let after = counted(&play.world.lock());
    if before == after { Ok(()) } else { Err(format!("no rest: calls and events {before:?}, then {after:?}")) }
}

fn look_again(play: &mut Play) -> Result<(), String> {
    for row in play.world.lock().sides.iter_mut().flat_map(|side| &mut side.links) {
        row.link.due_seq += 1;
        row.link.look = row.link.remote_id.is_some();
    }
    play.rest()
}

/// The calls that change something, and the events.
fn counted(state: &State) -> (usize, usize) {
    (state.writes(), state.customers.values().map(|stored| stored.events.len()).sum())
}
