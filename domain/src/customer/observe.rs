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
            self.merge_field(observe, field, local.get(field), remote.get(field), &mut changes, &mut intake);
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
        if policy == Policy::Ask && self.contested(&observe.gateway).is_none_or(|open| !open.contains_key(field)) {
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
            .chain(observe.spellings.keys())
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
            fields.extend(observe.spellings.keys());
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
            Sight::Present { edited_at, seen_at, .. } => {
                edited_at.get(field).map_or((*seen_at, false), |edited_at| (*edited_at, true))
            }
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
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use crate::{CustomerCommand, FieldSet};

    #[test]
    fn a_customer_born_at_the_gateway_is_created_and_linked() {
        given([]).when(observed(ada(), ada())).then_expect_events(vec![born_there(), linked_later()]);
    }

    #[test]
    fn an_edit_at_the_gateway_is_taken() {
        given([created(ada()), linked("cus_1")])
            .when(observed(ada(), ada().with(Field::Phone, text("1"))))
            .then_expect_events(vec![taken(Field::Phone, None, Some("1"))]);
    }

    #[test]
    fn an_echo_of_our_own_change_makes_no_event() {
        given([created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))])
            .when(observed(ada(), ada().with(Field::Phone, text("1"))))
            .then_expect_events(vec![]);
    }

    #[test]
    fn what_the_gateway_has_not_been_told_yet_stays() {
        given([created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))])
            .when(observed(ada(), ada()))
            .then_expect_events(vec![]);
    }

    #[test]
    fn the_later_of_two_edits_wins_and_both_stay_readable() {
        let at_gateway = ada().with(Field::Phone, text("2"));
        let history = [created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))];
        given(history.clone())
            .when(observed_edit(ada(), at_gateway.clone(), Field::Phone, later()))
            .then_expect_events(vec![
                contest(Field::Phone, (Some("1"), Some(at())), (Some("2"), Some(later())), Winner::Gateway),
                taken_at(Field::Phone, Some("1"), Some("2"), later()),
            ]);
        given(history).when(observed_edit(ada(), at_gateway, Field::Phone, earlier())).then_expect_events(vec![
            contest(Field::Phone, (Some("1"), Some(at())), (Some("2"), Some(earlier())), Winner::Catalog),
        ]);
    }

    #[test]
    fn a_guessed_edit_time_is_said_to_be_guessed() {
        let customer = customer([created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))]);
        let observe = observation(ada(), present(ada().with(Field::Phone, text("2"))));
        assert_eq!(customer.take_in(&observe).guessed, BTreeSet::from([Field::Phone]));
        let known = observation(ada(), edited(ada().with(Field::Phone, text("2")), Field::Phone, later()));
        assert_eq!(customer.take_in(&known).guessed, BTreeSet::new());
    }

    fn asking(base: Profile, now: Profile) -> CustomerCommand {
        let policies = Policies { of: [(FieldSet::One(Field::Phone), Policy::Ask)].into(), ..Policies::default() };
        command(Observe { policies, ..observation(base, present(now)) })
    }

    fn with_phone(phone: &str) -> Profile {
        ada().with(Field::Phone, text(phone))
    }

    #[test]
    fn where_a_person_shall_decide_each_side_keeps_its_value() {
        let history = [created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))];
        let open = opened(Field::Phone, Some("1"), Some("2"));
        given(history.clone()).when(asking(ada(), with_phone("2"))).then_expect_events(vec![open.clone()]);
        // The other fields go on; seen again, it is no news.
        let [first, second, third] = history;
        given([first, second, third, open])
            .when(asking(with_phone("2"), with_phone("2").with(Field::Name, text("Ada L."))))
            .then_expect_events(vec![taken(Field::Name, Some("Ada"), Some("Ada L."))]);
    }

    #[test]
    fn a_conflict_that_waits_follows_the_gateway_and_ends_when_both_agree() {
        let history = [
            created(ada()),
            linked("cus_1"),
            updated(Field::Phone, None, Some("1")),
            opened(Field::Phone, Some("1"), Some("2")),
        ];
        given(history.clone()).when(asking(with_phone("2"), with_phone("3"))).then_expect_events(vec![opened(
            Field::Phone,
            Some("1"),
            Some("3"),
        )]);
        given(history).when(asking(with_phone("2"), with_phone("1"))).then_expect_events(vec![asked(
            Field::Phone,
            "1",
            "2",
            Winner::Catalog,
        )]);
    }

    fn spelled() -> Spellings {
        Spellings::from([(
            Field::Email,
            Spelling { sent: Some(text("Ada@X.example")), held: Some(text("ada@x.example")) },
        )])
    }

    fn with_email(email: &str) -> Profile {
        ada().with(Field::Email, text(email))
    }

    #[test]
    fn the_gateways_spelling_is_adopted_with_the_time_of_the_edit() {
        let customer = customer([created(with_email("Ada@X.example")), linked("cus_1")]);
        let mut observe = observation(ada(), present(with_email("ada@x.example")));
        observe.spellings = spelled();
        let change = Change {
            before: Some(text("Ada@X.example")),
            after: Some(text("ada@x.example")),
            edited_at: at(),
            adopted: true,
        };
        let adopted = CustomerEvent::Updated { changes: Changes::from([(Field::Email, change)]), at: later() };
        let intake = customer.take_in(&observe);
        assert_eq!(intake.events, vec![adopted]);
        assert_eq!(intake.spellings, Spellings::new());
    }

    #[test]
    fn a_second_gateways_spelling_is_kept_on_its_link() {
        let mut customer = customer([created(with_email("ada@X.example")), linked("cus_1")]);
        let change = Change {
            before: Some(text("ada@X.example")),
            after: Some(text("Ada@X.example")),
            edited_at: at(),
            adopted: true,
        };
        cqrs_es::Aggregate::apply(
            &mut customer,
            CustomerEvent::Updated { changes: Changes::from([(Field::Email, change)]), at: at() },
        );
        let mut observe = observation(ada(), present(with_email("ada@x.example")));
        observe.spellings = spelled();
        let intake = customer.take_in(&observe);
        assert_eq!(intake.events, vec![]);
        assert_eq!(intake.spellings, spelled());
    }

    #[test]
    fn an_edit_made_while_the_call_was_out_is_not_replaced_by_the_gateways_spelling() {
        let customer = customer([
            created(with_email("Ada@X.example")),
            linked("cus_1"),
            updated(Field::Email, Some("Ada@X.example"), Some("ada@y.example")),
        ]);
        let mut observe = observation(ada(), present(with_email("ada@x.example")));
        observe.spellings = spelled();
        assert_eq!(customer.take_in(&observe).events, vec![]);
    }

    fn overwrote(previous_edited_at: Option<DateTime<Utc>>) -> Observe {
        let mut observe = observation(ada(), present(ada()));
        observe.overwritten = vec![Overwritten {
            field: Field::Name,
            sent: Some(text("Ada")),
            held: Some(text("Ada")),
            sent_edited_at: Some(at()),
            previous: Side { value: Some(text("Ada L.")), edited_at: previous_edited_at },
        }];
        observe
    }

    #[test]
    fn an_unseen_edit_that_was_later_than_ours_is_taken_back() {
        given([created(ada()), linked("cus_1")]).when(command(overwrote(Some(later())))).then_expect_events(vec![
            contest(Field::Name, (Some("Ada"), Some(at())), (Some("Ada L."), Some(later())), Winner::Gateway),
            taken_at(Field::Name, Some("Ada"), Some("Ada L."), later()),
        ]);
    }

    #[test]
    fn an_unseen_edit_that_was_earlier_than_ours_is_recorded() {
        given([created(ada()), linked("cus_1")]).when(command(overwrote(Some(earlier())))).then_expect_events(vec![
            contest(Field::Name, (Some("Ada"), Some(at())), (Some("Ada L."), Some(earlier())), Winner::Catalog),
        ]);
    }

    #[test]
    fn an_unseen_edit_is_not_taken_back_over_a_newer_one_here() {
        let newer = CustomerEvent::Updated {
            changes: Changes::from([(Field::Name, Change::edit(Some(text("Ada")), Some(text("Countess")), later()))]),
            at: later(),
        };
        given([created(ada()), linked("cus_1"), newer]).when(command(overwrote(Some(later())))).then_expect_events(
            vec![contest(Field::Name, (Some("Ada"), Some(at())), (Some("Ada L."), Some(later())), Winner::Catalog)],
        );
    }

    #[test]
    fn an_unseen_edit_is_taken_back_over_an_older_one_here() {
        let older = CustomerEvent::Updated {
            changes: Changes::from([(Field::Name, Change::edit(Some(text("Ada")), Some(text("Countess")), later()))]),
            at: later(),
        };
        let latest = later() + chrono::TimeDelta::seconds(1);
        let there = (Some("Ada L."), Some(latest));
        given([created(ada()), linked("cus_1"), older]).when(command(overwrote(Some(latest)))).then_expect_events(
            vec![
                contest(Field::Name, (Some("Countess"), Some(later())), there, Winner::Gateway),
                taken_at(Field::Name, Some("Countess"), Some("Ada L."), latest),
            ],
        );
    }

    #[test]
    fn a_value_chosen_anew_here_is_not_taken_for_the_one_that_was_sent() {
        let at_later = |before: &str, after: &str| CustomerEvent::Updated {
            changes: Changes::from([(Field::Name, Change::edit(Some(text(before)), Some(text(after)), later()))]),
            at: later(),
        };
        given([created(ada()), linked("cus_1"), at_later("Ada", "Countess"), at_later("Countess", "Ada")])
            .when(command(overwrote(Some(later()))))
            .then_expect_events(vec![contest(
                Field::Name,
                (Some("Ada"), Some(at())),
                (Some("Ada L."), Some(later())),
                Winner::Catalog,
            )]);
    }

    /// What a call of ours wrote, spelled by the gateway in its own way, over an edit of [`later`].
    fn overwrote_spelled() -> Observe {
        let mut observe = observation(ada(), present(with_email("ada@x.example")));
        observe.overwritten = vec![Overwritten {
            field: Field::Email,
            sent: Some(text("Ada@X.example")),
            held: Some(text("ada@x.example")),
            sent_edited_at: Some(at()),
            previous: Side { value: Some(text("eve@x.example")), edited_at: Some(later()) },
        }];
        observe
    }

    fn restored(intake: &Intake) -> Option<&Change> {
        intake.events.iter().find_map(|event| match event {
            CustomerEvent::Updated { changes, .. } => changes.get(&Field::Email),
            _ => None,
        })
    }

    #[test]
    fn an_unseen_edit_is_taken_back_whichever_spelling_of_ours_stands_here() {
        let back = |before: &str| Change::edit(Some(text(before)), Some(text("eve@x.example")), later());
        let mut as_sent = overwrote_spelled();
        as_sent.spellings = spelled();
        let unadopted = customer([created(with_email("Ada@X.example")), linked("cus_1")]);
        assert_eq!(restored(&unadopted.take_in(&as_sent)), Some(&back("Ada@X.example")));

        let as_held = Observe { base: with_email("ada@x.example"), ..overwrote_spelled() };
        let adopted = customer([created(with_email("ada@x.example")), linked("cus_1")]);
        assert_eq!(restored(&adopted.take_in(&as_held)), Some(&back("ada@x.example")));
    }

    #[test]
    fn an_unseen_edit_is_taken_back_over_another_gateways_spelling_of_ours() {
        let (before, after) = (Some(text("Ada@X.example")), Some(text("ADA@X.EXAMPLE")));
        let adopted = Change { before, after, edited_at: at(), adopted: true };
        let changes = Changes::from([(Field::Email, adopted)]);
        let history =
            [created(with_email("Ada@X.example")), linked("cus_1"), CustomerEvent::Updated { changes, at: later() }];
        let observe = Observe { base: with_email("ada@x.example"), ..overwrote_spelled() };
        let back = Change::edit(Some(text("ADA@X.EXAMPLE")), Some(text("eve@x.example")), later());
        assert_eq!(restored(&customer(history).take_in(&observe)), Some(&back));
    }

    #[test]
    fn an_unseen_edit_of_unknown_time_is_said_to_be_guessed_where_times_decide() {
        let customer = customer([created(ada()), linked("cus_1")]);
        assert_eq!(customer.take_in(&overwrote(None)).guessed, BTreeSet::from([Field::Name]));
        assert_eq!(customer.take_in(&overwrote(Some(later()))).guessed, BTreeSet::new());
        let catalog = Observe { policies: Policies::all(Policy::Catalog), ..overwrote(None) };
        assert_eq!(customer.take_in(&catalog).guessed, BTreeSet::new());
    }

    #[test]
    fn of_two_edits_of_one_instant_the_catalogs_stays() {
        let customer = customer([created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))]);
        let there = edited(ada().with(Field::Phone, text("2")), Field::Phone, at());
        assert_eq!(
            customer.take_in(&observation(ada(), there)).events,
            vec![contest(Field::Phone, (Some("1"), Some(at())), (Some("2"), Some(at())), Winner::Catalog)]
        );
    }

    #[test]
    fn a_deletion_at_the_gateway_is_final() {
        given([created(ada()), linked("cus_1")])
            .when(gone(ada(), Some(ada())))
            .then_expect_events(vec![deleted_at(later())]);
        given([created(ada()), linked("cus_1"), deleted()]).when(gone(ada(), Some(ada()))).then_expect_events(vec![]);
    }

    #[test]
    fn an_edit_here_that_the_deleter_had_not_seen_becomes_a_conflict() {
        given([created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))])
            .when(gone(ada(), Some(ada())))
            .then_expect_events(vec![
                contest(Field::Phone, (Some("1"), Some(at())), (None, None), Winner::Deletion),
                deleted_at(later()),
            ]);
    }

    #[test]
    fn an_edit_there_that_our_deleter_had_not_seen_becomes_a_conflict() {
        given([created(ada()), linked("cus_1"), deleted()])
            .when(gone(ada(), Some(ada().with(Field::Phone, text("2")))))
            .then_expect_events(vec![contest(Field::Phone, (None, None), (Some("2"), None), Winner::Deletion)]);
    }

    #[test]
    fn each_unseen_edit_is_told_of_after_a_deletion_though_several_were_of_one_field() {
        let mut observe = overwrote(Some(earlier()));
        let second = Side { value: Some(text("Countess")), edited_at: Some(later()) };
        observe.overwritten.push(Overwritten { previous: second.clone(), ..observe.overwritten[0].clone() });
        let lost = |theirs: Side| {
            let there = (theirs.value.as_ref().and_then(Value::as_text), theirs.edited_at);
            contest(Field::Name, (Some("Ada"), Some(at())), there, Winner::Deletion)
        };
        let first = observe.overwritten[0].previous.clone();
        given([created(ada()), linked("cus_1"), deleted()])
            .when(command(observe))
            .then_expect_events(vec![lost(first), lost(second)]);
    }

    #[test]
    fn nothing_comes_back_to_life() {
        given([created(ada()), linked("cus_1"), deleted()]).when(observed(ada(), ada())).then_expect_events(vec![]);
    }

    #[test]
    fn an_object_that_was_gone_before_it_was_known_stays_unknown() {
        given([]).when(gone(Profile::default(), None)).then_expect_events(vec![]);
    }
}
