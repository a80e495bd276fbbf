//! The words in which the tests speak of customers.

use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::Aggregate;
use cqrs_es::test::{AggregateTestExecutor, TestFramework};

use crate::*;

pub fn given<const N: usize>(events: [CustomerEvent; N]) -> AggregateTestExecutor<Customer> {
    TestFramework::<Customer>::with(()).given(events.to_vec())
}

pub fn customer<const N: usize>(events: [CustomerEvent; N]) -> Customer {
    let mut customer = Customer::default();
    events.into_iter().for_each(|event| customer.apply(event));
    customer
}

pub fn at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

pub fn later() -> DateTime<Utc> {
    at() + TimeDelta::seconds(60)
}

pub fn earlier() -> DateTime<Utc> {
    at() - TimeDelta::seconds(60)
}

pub fn stripe() -> GatewayName {
    "stripe".parse().unwrap()
}

pub fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

pub fn ada() -> Profile {
    Profile::default().with(Field::Name, text("Ada")).with(Field::Email, text("ada@old.example"))
}

pub fn create(profile: Profile) -> CustomerCommand {
    CustomerCommand::Create(Create { profile, at: at() })
}

pub fn patch(patch: Patch) -> CustomerCommand {
    CustomerCommand::Update(Update { patch, at: at() })
}

pub fn update(field: Field, value: Option<&str>) -> CustomerCommand {
    patch(Patch::default().with(field, value.map(text)))
}

pub fn delete() -> CustomerCommand {
    CustomerCommand::Delete(Delete { at: at() })
}

pub fn erase() -> CustomerCommand {
    CustomerCommand::Erase(Erase { at: later() })
}

pub fn link(remote_id: &str) -> CustomerCommand {
    CustomerCommand::Link(Link { gateway: stripe(), remote_id: remote_id.to_owned().into(), at: at() })
}

pub fn unlink() -> CustomerCommand {
    CustomerCommand::Unlink(Unlink { gateway: stripe(), last: None, at: at() })
}

/// Be unlinked from what was seen last.
pub fn leave(last: Observe) -> CustomerCommand {
    CustomerCommand::Unlink(Unlink { gateway: stripe(), last: Some(Box::new(last)), at: at() })
}

pub fn created(profile: Profile) -> CustomerEvent {
    CustomerEvent::Created { profile, at: at() }
}

pub fn updated(field: Field, before: Option<&str>, after: Option<&str>) -> CustomerEvent {
    let change = Change::edit(before.map(text), after.map(text), at());
    CustomerEvent::Updated { changes: Changes::from([(field, change)]), at: at() }
}

pub fn deleted() -> CustomerEvent {
    deleted_at(at())
}

pub fn deleted_at(at: DateTime<Utc>) -> CustomerEvent {
    CustomerEvent::Deleted { at }
}

pub fn linked(remote_id: &str) -> CustomerEvent {
    CustomerEvent::Linked { gateway: stripe(), remote_id: remote_id.to_owned().into(), at: at() }
}

pub fn unlinked(remote_id: &str) -> CustomerEvent {
    CustomerEvent::Unlinked { gateway: stripe(), remote_id: remote_id.to_owned().into(), at: at() }
}

/// What an observation made at [`later`] writes when it takes a field's value from the gateway.
pub fn taken(field: Field, before: Option<&str>, after: Option<&str>) -> CustomerEvent {
    taken_at(field, before, after, later())
}

pub fn taken_at(field: Field, before: Option<&str>, after: Option<&str>, edited_at: DateTime<Utc>) -> CustomerEvent {
    let change = Change::edit(before.map(text), after.map(text), edited_at);
    CustomerEvent::Updated { changes: Changes::from([(field, change)]), at: later() }
}

type TimedText<'a> = (Option<&'a str>, Option<DateTime<Utc>>);

pub fn contest(field: Field, catalog: TimedText<'_>, remote: TimedText<'_>, winner: Winner) -> CustomerEvent {
    let side = |(value, edited_at): TimedText<'_>| Side { value: value.map(text), edited_at };
    CustomerEvent::ConflictResolved(Box::new(Contest {
        gateway: stripe(),
        field,
        catalog: side(catalog),
        remote: side(remote),
        winner,
        policy: Policy::Latest,
        at: later(),
    }))
}

/// Found at [`later`]; the catalog's value was chosen at [`at`], the gateway's at [`later`].
pub fn opened(field: Field, here: Option<&str>, there: Option<&str>) -> CustomerEvent {
    CustomerEvent::ConflictOpened(Box::new(OpenContest {
        gateway: stripe(),
        field,
        catalog: Side { value: here.map(text), edited_at: Some(at()) },
        remote: Side { value: there.map(text), edited_at: Some(later()) },
        overwritten: false,
        at: later(),
    }))
}

/// A conflict of [`opened`], decided at [`later`].
pub fn asked(field: Field, here: &str, there: &str, winner: Winner) -> CustomerEvent {
    decided(field, here, there, winner, later())
}

/// The same, ended by an edit at [`at`].
pub fn ended(field: Field, here: &str, there: &str, winner: Winner) -> CustomerEvent {
    decided(field, here, there, winner, at())
}

fn decided(field: Field, here: &str, there: &str, winner: Winner, when: DateTime<Utc>) -> CustomerEvent {
    CustomerEvent::ConflictResolved(Box::new(Contest {
        gateway: stripe(),
        field,
        catalog: Side { value: Some(text(here)), edited_at: Some(at()) },
        remote: Side { value: Some(text(there)), edited_at: Some(later()) },
        winner,
        policy: Policy::Ask,
        at: when,
    }))
}

pub fn present(profile: Profile) -> Sight {
    Sight::Present { profile, edited_at: Default::default(), told_at: Default::default(), seen_at: later() }
}

pub fn edited(profile: Profile, field: Field, edited_at: DateTime<Utc>) -> Sight {
    Sight::Present { profile, edited_at: [(field, edited_at)].into(), told_at: Default::default(), seen_at: later() }
}

/// Seen at [`later`] under `cus_1`.
pub fn observation(base: Profile, sight: Sight) -> Observe {
    Observe {
        gateway: stripe(),
        remote_id: "cus_1".to_owned().into(),
        base,
        sight,
        spellings: Spellings::new(),
        overwritten: vec![],
        policies: Policies::all(Policy::Latest),
        at: later(),
    }
}

pub fn command(observe: Observe) -> CustomerCommand {
    CustomerCommand::Observe(Box::new(observe))
}

pub fn observed(base: Profile, now: Profile) -> CustomerCommand {
    command(observation(base, present(now)))
}

pub fn observed_edit(base: Profile, now: Profile, field: Field, edited_at: DateTime<Utc>) -> CustomerCommand {
    command(observation(base, edited(now, field, edited_at)))
}

pub fn gone(base: Profile, last: Option<Profile>) -> CustomerCommand {
    command(observation(base, Sight::Gone { last }))
}

/// Ada, as an observation made at [`later`] creates her.
pub fn born_there() -> CustomerEvent {
    CustomerEvent::Created { profile: ada(), at: later() }
}

pub fn linked_later() -> CustomerEvent {
    CustomerEvent::Linked { gateway: stripe(), remote_id: "cus_1".to_owned().into(), at: later() }
}
