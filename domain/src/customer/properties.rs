//! What holds of every merge, whatever the values.

use proptest::prelude::*;

use super::fixtures::*;
use super::*;
use crate::{Field, Spellings, Value, differences};

const FIELDS: [Field; 3] = [Field::Name, Field::Email, Field::Phone];

/// Few values, so that the same ones come again.
fn any_profile() -> impl Strategy<Value = Profile> {
    let value = prop::option::of(prop::sample::select(vec!["a", "b", "c"]));
    prop::array::uniform3(value).prop_map(|values| {
        FIELDS.into_iter().zip(values).filter_map(|(field, value)| value.map(|value| (field, text(value)))).collect()
    })
}

fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    (-100i64..100).prop_map(|seconds| at() + chrono::TimeDelta::seconds(seconds))
}

/// A customer that was created as `base`, linked, then edited here to `local`.
fn edited_here(base: &Profile, local: &Profile) -> Customer {
    let mut customer = customer([created(base.clone()), linked("cus_1")]);
    let changes: Changes = base
        .fields_with(local)
        .filter(|field| base.get(field) != local.get(field))
        .map(|field| (field.clone(), Change::edit(base.get(field).cloned(), local.get(field).cloned(), at())))
        .collect();
    customer.apply(CustomerEvent::Updated { changes, at: at() });
    customer
}

fn merged(mut customer: Customer, observe: &Observe) -> (Customer, Vec<CustomerEvent>) {
    let events = customer.take_in(observe).events;
    events.iter().cloned().for_each(|event| customer.apply(event));
    (customer, events)
}

proptest! {
    #[test]
    fn no_change_is_lost_silently(base in any_profile(), local in any_profile(), remote in any_profile(), time in any_time()) {
        let sight = Sight::Present {
            profile: remote.clone(),
            edited_at: FIELDS.into_iter().map(|field| (field, time)).collect(),
            told_at: BTreeMap::new(),
            seen_at: later(),
        };
        let (after, events) = merged(edited_here(&base, &local), &observation(base.clone(), sight));
        let after = after.profile().unwrap();
        for field in FIELDS {
            let told = |value: Option<&Value>| {
                after.get(&field) == value
                    || events.iter().any(|event| matches!(event, CustomerEvent::ConflictResolved(contest)
                        if contest.field == field
                        && (contest.catalog.value.as_ref() == value || contest.remote.value.as_ref() == value)))
            };
            if local.get(&field) != base.get(&field) {
                prop_assert!(told(local.get(&field)), "the edit of {field} here is gone");
            }
            if remote.get(&field) != base.get(&field) {
                prop_assert!(told(remote.get(&field)), "the edit of {field} there is gone");
            }
        }
    }

    #[test]
    fn merging_twice_is_merging_once(base in any_profile(), local in any_profile(), remote in any_profile()) {
        let first = observation(base.clone(), present(remote.clone()));
        let (after, _) = merged(edited_here(&base, &local), &first);
        let again = observation(remote.clone(), present(remote));
        let (settled, events) = merged(after.clone(), &again);
        prop_assert_eq!(events, vec![]);
        prop_assert_eq!(settled, after);
    }

    #[test]
    fn equal_sides_make_no_event(base in any_profile(), both in any_profile()) {
        let (_, events) = merged(edited_here(&base, &both), &observation(base.clone(), present(both)));
        prop_assert_eq!(events, vec![]);
    }

    #[test]
    fn what_is_pushed_after_a_merge_makes_both_sides_equal(base in any_profile(), local in any_profile(), remote in any_profile()) {
        let (after, _) = merged(edited_here(&base, &local), &observation(base.clone(), present(remote.clone())));
        let ours = after.profile().unwrap();
        let told = differences(ours, &remote, &Spellings::new()).applied_to(&remote);
        prop_assert_eq!(&told, ours);
    }

    #[test]
    fn a_deletion_keeps_what_nobody_had_seen(base in any_profile(), local in any_profile(), remote in any_profile()) {
        let (after, events) = merged(edited_here(&base, &local), &observation(base.clone(), Sight::Gone { last: Some(remote.clone()) }));
        let deleted = matches!(after, Customer::Deleted { .. });
        prop_assert!(deleted);
        for field in FIELDS {
            let unseen = remote.get(&field) != base.get(&field) && remote.get(&field) != local.get(&field);
            let told = events.iter().any(|event| matches!(event, CustomerEvent::ConflictResolved(contest)
                if contest.field == field && contest.remote.value.as_ref() == remote.get(&field)));
            prop_assert!(!unseen || told, "the edit of {field} there is gone");
        }
    }
}
