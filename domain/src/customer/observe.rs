//! Taking in what a gateway was seen to hold.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{Change, Changes, Contest, Customer, CustomerEvent, OpenContest, OpenSides, Side, Stamp, Winner};
use crate::merge::as_spelled;
use crate::{Field, GatewayName, Merged, Policies, Policy, Profile, RemoteId, Spelling, Spellings, Value, merge};

/// A gateway was seen to hold this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observe {
    /// Which gateway.
    pub gateway: GatewayName,
    /// Which of its objects.
    pub remote_id: RemoteId,
    /// What it was last seen to hold before. Of a customer that is new here: nothing.
    pub base: Profile,
    /// What it was seen to hold now.
    pub sight: Sight,
    /// What it is known to make of values that it was sent, by this call or by one before it. For these fields
    /// `held`, not `base`, is what it was last seen to hold.
    pub spellings: Spellings,
    /// Edits at the gateway that a call of ours overwrote before anybody here had seen them.
    pub overwritten: Vec<Overwritten>,
    /// Who wins a conflict.
    pub policies: Policies,
    /// Now, by our clock.
    pub at: DateTime<Utc>,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A living object.
    Present {
        /// Its fields.
        profile: Profile,
        /// When fields got their value there, by our clock; of most it is not known, nor needed.
        edited_at: BTreeMap<Field, DateTime<Utc>>,
        /// When fields got the values that they have, as far as was told. Edits that are not told of yet may have set the same
        /// value again, so on a conflict this is a guess.
        told_at: BTreeMap<Field, DateTime<Utc>>,
        /// When it was seen, by our clock: the edit time of a field that nothing better is known of.
        seen_at: DateTime<Utc>,
    },
    /// It is deleted, and that is final.
    Gone {
        /// Its last fields, where the gateway tells.
        last: Option<Profile>,
    },
}

/// An edit at the gateway that nobody here had seen when a call of ours wrote over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overwritten {
    /// The field.
    pub field: Field,
    /// What we wrote.
    pub sent: Option<Value>,
    /// What the gateway made of it.
    pub held: Option<Value>,
    /// When a person had chosen that.
    pub sent_edited_at: Option<DateTime<Utc>>,
    /// What stood there.
    pub previous: Side,
}

/// What an observation leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// The events.
    pub events: Vec<CustomerEvent>,
    /// The spellings that go on counting as equal.
    pub spellings: Spellings,
    /// Fields decided by an edit time that was only guessed. Whoever can look it up should, and observe again.
    pub guessed: BTreeSet<Field>,
}

impl Customer {
    /// What `observe` leads to here. Pure: the reconciler asks before it commits.
    pub fn take_in(&self, observe: &Observe) -> Intake {
        match (self, &observe.sight) {
            (Self::Unborn, Sight::Present { profile, .. }) => import(observe, profile),
            (Self::Unborn, Sight::Gone { .. }) => Intake::default(),
            (Self::Active { profile: local, .. }, Sight::Present { profile: remote, .. }) => {
                self.merge_all(observe, local, remote)
            }
            (Self::Active { profile: local, .. }, Sight::Gone { last }) => {
                let mut intake = Intake { events: self.bury(observe, Some(local), last.as_ref()), ..Intake::default() };
                intake.events.push(CustomerEvent::Deleted { at: observe.at });
                intake
            }
            // Its own values are blank: compared with them, all that is told late would be news.
            (Self::Deleted { erased: true, .. }, Sight::Present { .. }) => {
                let linked = self.remote_id(&observe.gateway).is_none().then(|| observe.linked());
                Intake { events: linked.into_iter().collect(), ..Intake::default() }
            }
            (Self::Deleted { erased: true, .. }, Sight::Gone { .. }) => Intake::default(),
            (Self::Deleted { .. }, Sight::Present { profile: remote, .. }) => {
                let linked = self.remote_id(&observe.gateway).is_none().then(|| observe.linked());
                let events = linked.into_iter().chain(self.bury(observe, None, Some(remote))).collect();
                Intake { events, ..Intake::default() }
            }
            (Self::Deleted { .. }, Sight::Gone { last }) => {
                Intake { events: self.bury(observe, None, last.as_ref()), ..Intake::default() }
            }
        }
    }

    fn merge_all(&self, observe: &Observe, local: &Profile, remote: &Profile) -> Intake {
        let mut intake = Intake::default();
        if self.remote_id(&observe.gateway).is_none() {
            intake.events.push(observe.linked());
        }
        let mut changes = Changes::new();
        let mut fields: BTreeSet<&Field> = local.fields_with(remote).chain(observe.base.fields_with(remote)).collect();
        fields.extend(observe.spellings.keys());
        for field in fields {
            match observe.spellings.get(field) {
                // A later version's: not ours to judge.
                Some(spelling) if !field.is_known() => {
                    intake.spellings.insert(field.clone(), spelling.clone());
                }
                _ => self.merge_field(observe, field, local.get(field), remote.get(field), &mut changes, &mut intake),
            }
        }
        for overwritten in &observe.overwritten {
            self.restore(observe, overwritten, local, remote, &mut changes, &mut intake);
        }
        intake.events.extend(self.after_edits(&changes, Some(&observe.gateway), observe.at));
        if !changes.is_empty() {
            intake.events.push(CustomerEvent::Updated { changes, at: observe.at });
        }
        intake
    }

    fn merge_field(
        &self,
        observe: &Observe,
        field: &Field,
        local: Option<&Value>,
        remote: Option<&Value>,
        changes: &mut Changes,
        intake: &mut Intake,
    ) {
        let base = observe.base(field);
        let spelled = as_spelled(field, local, &observe.spellings);
        let stamp = self.stamp(field);
        let merged = merge(base, spelled, remote);
        let open = self.contested(&observe.gateway).and_then(|open| open.get(field));
        if let Some(open) = open.filter(|open| !open.overwritten) {
            if merged != Merged::Same {
                intake.events.extend(observe.still_open(field, open, self.side(field), remote));
                return;
            }
            let winner = if local == open.catalog.value.as_ref() { Winner::Catalog } else { Winner::Gateway };
            intake.events.push(self.decided(&observe.gateway, field, open, winner, observe.at));
        }
        match merged {
            Merged::Same if local == remote => {}
            // The remote spells our value its own way. Taken over once for each edit of a person: with two remotes that
            // spell differently it would never rest.
            Merged::Same => match stamp {
                Some(Stamp { edited_at, adopted: false }) => {
                    let (before, after) = (local.cloned(), remote.cloned());
                    changes.insert(field.clone(), Change { before, after, edited_at: *edited_at, adopted: true });
                }
                Some(Stamp { adopted: true, .. }) | None => {
                    let kept = Spelling { sent: local.cloned(), held: remote.cloned() };
                    intake.spellings.insert(field.clone(), kept);
                }
            },
            Merged::KeepLocal => {}
            Merged::TakeRemote => {
                let (edited_at, _) = observe.edited_at(field);
                changes.insert(field.clone(), Change::edit(local.cloned(), remote.cloned(), edited_at));
            }
            Merged::Conflict => {
                let ours = self.side(field);
                let (edited_at, known) = observe.edited_at(field);
                let theirs = Side { value: remote.cloned(), edited_at: Some(edited_at) };
                let policy = observe.policies.of(field);
                // A person who decides wants to see when, too.
                if matches!(policy, Policy::Latest | Policy::Ask) && !known {
                    intake.guessed.insert(field.clone());
                }
                if policy == Policy::Ask {
                    // One waits at a time; what had been written over stays so.
                    let older =
                        open.map(|open| self.decided(&observe.gateway, field, open, Winner::Catalog, observe.at));
                    intake.events.extend(older);
                    intake.events.push(observe.open(field, ours, theirs, false));
                    return;
                }
                let winner = winner(policy, &ours, &theirs);
                if winner == Winner::Gateway {
                    changes.insert(field.clone(), Change::edit(local.cloned(), remote.cloned(), edited_at));
                }
                intake.events.push(observe.contest(field, ours, theirs, winner));
            }
        }
    }

    /// Decides between what a call of ours wrote and the unseen edit that it wrote over. Theirs is taken back only if
    /// nobody has touched the field there since, nor here, but for an edit that is older and loses against the latest.
    fn restore(
        &self,
        observe: &Observe,
        overwritten: &Overwritten,
        local: &Profile,
        remote: &Profile,
        changes: &mut Changes,
        intake: &mut Intake,
    ) {
        let Overwritten { field, sent, held, sent_edited_at, previous } = overwritten;
        let now = local.get(field);
        if now == previous.value.as_ref() {
            return;
        }
        // Another gateway's spelling of it, adopted since, is nobody's edit either.
        let stamp = self.stamp(field);
        let spelled = stamp.is_some_and(|stamp| stamp.adopted);
        let untouched_here = (now == sent.as_ref() || now == held.as_ref() || spelled)
            && stamp.map(|stamp| stamp.edited_at) == *sent_edited_at;
        let untouched_there = remote.get(field) == held.as_ref();
        let policy = observe.policies.of(field);
        let older_here =
            policy == Policy::Latest && stamp.is_some_and(|stamp| previous.edited_at > Some(stamp.edited_at));
        let ours = if older_here && !untouched_here {
            self.side(field)
        } else {
            Side { value: sent.clone(), edited_at: *sent_edited_at }
        };
        if matches!(policy, Policy::Latest | Policy::Ask) && previous.edited_at.is_none() {
            intake.guessed.insert(field.clone());
        }
        if policy == Policy::Ask && !self.is_asked_about(observe, field, intake) {
            intake.events.push(observe.open(field, ours, previous.clone(), true));
            return;
        }
        let mut winner = winner(policy, &ours, previous);
        // That the remote's spelling of it is adopted in this very moment is nobody's edit.
        let decided = changes.get(field).is_some_and(|change| !change.adopted);
        if !((untouched_here || older_here) && untouched_there && !decided) {
            winner = Winner::Catalog;
        }
        if winner == Winner::Gateway {
            let edited_at = previous.edited_at.or(*sent_edited_at).unwrap_or(observe.at);
            changes.insert(field.clone(), Change::edit(now.cloned(), previous.value.clone(), edited_at));
        }
        intake.events.push(observe.contest(field, ours, previous.clone(), winner));
    }

    /// Whether a conflict about the field waits for a person, or will: another would take its place.
    fn is_asked_about(&self, observe: &Observe, field: &Field, intake: &Intake) -> bool {
        let opens =
            |event: &CustomerEvent| matches!(event, CustomerEvent::ConflictOpened(open) if open.field == *field);
        self.contested(&observe.gateway).is_some_and(|open| open.contains_key(field)) || intake.events.iter().any(opens)
    }

    fn side(&self, field: &Field) -> Side {
        let value = self.profile().and_then(|profile| profile.get(field).cloned());
        Side { value, edited_at: self.stamp(field).map(|stamp| stamp.edited_at) }
    }

    /// A deletion ends everything. What one side had not seen of the other becomes a conflict, not silence.
    /// `local` is `None` where the catalog had deleted it before: nothing of ours is unseen then. So it is with `remote`.
    fn bury(&self, observe: &Observe, local: Option<&Profile>, remote: Option<&Profile>) -> Vec<CustomerEvent> {
        let mut lost = vec![];
        let fields: BTreeSet<&Field> = [Some(&observe.base), local, remote]
            .into_iter()
            .flatten()
            .flat_map(|profile| profile.iter().map(|(field, _)| field))
            .chain(observe.spellings.keys().filter(|field| field.is_known()))
            .collect();
        for field in fields {
            let base = observe.base(field);
            let ours = local.map_or(base, |local| as_spelled(field, local.get(field), &observe.spellings));
            let theirs = remote.map_or(base, |remote| remote.get(field));
            if ours != theirs {
                let catalog = Side { value: ours.cloned(), edited_at: self.stamp(field).map(|stamp| stamp.edited_at) };
                let theirs = Side { value: theirs.cloned(), edited_at: None };
                lost.push(observe.contest(field, catalog, theirs, Winner::Deletion));
            }
        }
        for Overwritten { field, sent, sent_edited_at, previous, .. } in &observe.overwritten {
            let ours = Side { value: sent.clone(), edited_at: *sent_edited_at };
            lost.push(observe.contest(field, ours, previous.clone(), Winner::Deletion));
        }
        lost
    }

    /// The gateway's object is dead, and the customer lives on without it: what stands here stays. What nobody here had seen
    /// becomes a conflict, not silence.
    pub(super) fn left_behind(&self, observe: &Observe, local: &Profile) -> Vec<CustomerEvent> {
        let mut lost = vec![];
        if let Sight::Gone { last: Some(last) } = &observe.sight {
            let mut fields: BTreeSet<&Field> = observe.base.fields_with(last).collect();
            fields.extend(observe.spellings.keys().filter(|field| field.is_known()));
            for field in fields {
                let theirs = last.get(field);
                if theirs != observe.base(field) && theirs != as_spelled(field, local.get(field), &observe.spellings) {
                    let theirs = Side { value: theirs.cloned(), edited_at: None };
                    lost.push(observe.contest(field, self.side(field), theirs, Winner::Catalog));
                }
            }
        }
        for Overwritten { field, sent, sent_edited_at, previous, .. } in &observe.overwritten {
            if local.get(field) != previous.value.as_ref() {
                let ours = Side { value: sent.clone(), edited_at: *sent_edited_at };
                lost.push(observe.contest(field, ours, previous.clone(), Winner::Catalog));
            }
        }
        lost
    }
}

impl Observe {
    /// What the gateway was last seen to hold.
    fn base(&self, field: &Field) -> Option<&Value> {
        self.spellings.get(field).map_or(self.base.get(field), |spelling| spelling.held.as_ref())
    }

    fn linked(&self) -> CustomerEvent {
        CustomerEvent::Linked { gateway: self.gateway.clone(), remote_id: self.remote_id.clone(), at: self.at }
    }

    /// When the field got its value at the gateway, and whether that is known or guessed.
    fn edited_at(&self, field: &Field) -> (DateTime<Utc>, bool) {
        match &self.sight {
            Sight::Present { edited_at, told_at, seen_at, .. } => match edited_at.get(field) {
                Some(edited_at) => (*edited_at, true),
                None => (*told_at.get(field).unwrap_or(seen_at), false),
            },
            Sight::Gone { .. } => (self.at, false),
        }
    }

    fn open(&self, field: &Field, catalog: Side, remote: Side, overwritten: bool) -> CustomerEvent {
        CustomerEvent::ConflictOpened(Box::new(OpenContest {
            gateway: self.gateway.clone(),
            field: field.clone(),
            catalog,
            remote,
            overwritten,
            at: self.at,
        }))
    }

    /// What a conflict that waits is about now, if that is not what was told of it.
    fn still_open(
        &self,
        field: &Field,
        told: &OpenSides,
        catalog: Side,
        remote: Option<&Value>,
    ) -> Option<CustomerEvent> {
        if told.catalog.value == catalog.value && told.remote.value.as_ref() == remote {
            return None;
        }
        let remote = if told.remote.value.as_ref() == remote {
            told.remote.clone()
        } else {
            Side { value: remote.cloned(), edited_at: Some(self.edited_at(field).0) }
        };
        Some(self.open(field, catalog, remote, false))
    }

    fn contest(&self, field: &Field, catalog: Side, remote: Side, winner: Winner) -> CustomerEvent {
        CustomerEvent::ConflictResolved(Box::new(Contest {
            gateway: self.gateway.clone(),
            field: field.clone(),
            catalog,
            remote,
            winner,
            // Nobody was asked: it was deleted, or another one on the same field waits.
            policy: match self.policies.of(field) {
                Policy::Ask => Policy::Catalog,
                decided => decided,
            },
            at: self.at,
        }))
    }
}

fn import(observe: &Observe, profile: &Profile) -> Intake {
    let created = CustomerEvent::Created { profile: profile.clone(), at: observe.at };
    Intake { events: vec![created, observe.linked()], ..Intake::default() }
}

/// An edit of unknown time has seen nothing of the other: it loses under [`Policy::Latest`].
fn winner(policy: Policy, ours: &Side, theirs: &Side) -> Winner {
    match policy {
        // Nobody is asked about a second one on a field: what was written stays.
        Policy::Catalog | Policy::Ask => Winner::Catalog,
        Policy::Gateway => Winner::Gateway,
        Policy::Latest if theirs.edited_at > ours.edited_at => Winner::Gateway,
        Policy::Latest => Winner::Catalog,
    }
}

#[cfg(test)]
mod tests;
