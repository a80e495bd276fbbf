//! Reading Stripe's objects as ours.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use miniserde::json;
use tandem_domain::{Address, CustomerId, Field, InvalidField, Profile, RemoteId, Value};

use super::wire;
use crate::{ChangeKind, Object, RemoteChange, Untold};

/// The metadata key in which an object carries our id. Never part of a profile.
pub(super) const TANDEM_ID: &str = "tandem_id";

/// The events that we follow ("Types of events").
pub(super) const FOLLOWED: [(&str, ChangeKind); 3] = [
    ("customer.created", ChangeKind::Created),
    ("customer.updated", ChangeKind::Updated),
    ("customer.deleted", ChangeKind::Deleted),
];

/// What a type of event tells, if we follow it.
pub(super) fn kind(event_type: &str) -> Option<ChangeKind> {
    FOLLOWED.into_iter().find(|(name, _)| *name == event_type).map(|(_, kind)| kind)
}

/// Most characters of an id ("Object IDs": up to 255).
const ID_CHARS: usize = RemoteId::MOST_CHARS;

/// Whether this can be the id of an event or of an object. PostgreSQL cannot keep a NUL character.
pub(super) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.chars().count() <= ID_CHARS && !id.contains('\0')
}

/// A customer as Stripe holds it.
///
/// # Errors
/// What is said of it cannot be kept.
pub(super) fn object(customer: &wire::Customer) -> Result<Object, InvalidField> {
    if !is_id(&customer.id) {
        return Err(InvalidField::new("id", format!("must have 1 to {ID_CHARS} characters, and no NUL")));
    }
    let remote_id = RemoteId::from(customer.id.clone());
    if customer.deleted {
        return Ok(Object::Gone { remote_id });
    }
    let profile = profile(customer);
    profile.check_kept()?;
    Ok(Object::Present { remote_id, profile, customer: tandem_id(customer), untold: untold(customer) })
}

/// The customer of ours that the object says it is a copy of.
pub(super) fn tandem_id(customer: &wire::Customer) -> Option<CustomerId> {
    customer.metadata.as_ref()?.as_ref()?.get(TANDEM_ID)?.parse().ok()
}

/// An event; `None` if it is of a type that we don't follow, of no time, of nothing that has an id, or of one that cannot be kept.
/// Of one whose fields cannot be kept nothing is told: the object is looked at then, and that says why.
pub(super) fn change(event: wire::Event) -> Option<RemoteChange> {
    let wire::Event { id, kind: event_type, created, data, request } = event;
    let object = wire::Customer::read(&data.object)?;
    if !is_id(&id) || object.id.is_empty() || object.id.contains('\0') {
        return None;
    }
    let (profile, previous) = (profile(&object), previous(&object, data.previous_attributes.unwrap_or_default()));
    let before =
        previous.iter().filter_map(|(field, value)| Some((field.clone(), value.clone()?))).collect::<Profile>();
    let (profile, previous, untold) = match profile.check_kept().and_then(|()| before.check_kept()) {
        Ok(()) => (profile, previous, untold(&object)),
        Err(_) => (Profile::default(), BTreeMap::new(), Untold::all()),
    };
    let key = request.as_ref().and_then(|request| member(request, "idempotency_key")).and_then(text);
    Some(RemoteChange {
        kind: kind(&event_type)?,
        created: time(created)?,
        remote_id: RemoteId::from(object.id.clone()),
        profile,
        customer: tandem_id(&object),
        untold,
        previous,
        // Ours are shorter.
        idempotency_key: key.filter(|key| is_id(key)),
        event_id: id,
    })
}

/// The end of the year 9999: what lies beyond it is no time of Stripe's, and can be neither stored nor written as others write it.
const LAST_SECOND: i64 = 253_402_300_799;

/// A time of Stripe's, from 1970 on.
pub(super) fn time(seconds: i64) -> Option<DateTime<Utc>> {
    (0..=LAST_SECOND).contains(&seconds).then(|| DateTime::<Utc>::from_timestamp(seconds, 0)).flatten()
}

fn profile(customer: &wire::Customer) -> Profile {
    let wire::Customer { name, email, phone, address: held, metadata, .. } = customer;
    let texts = [(Field::Name, name), (Field::Email, email), (Field::Phone, phone)]
        .into_iter()
        .filter_map(|(field, held)| Some((field, clean(held.as_ref()?.as_deref()?)?)));
    let metadata =
        metadata.iter().flatten().flatten().filter_map(|(key, held)| Some((metadata_field(key)?, clean(held)?)));
    let mut profile: Profile = texts.chain(metadata).map(|(field, text)| (field, Value::Text(text))).collect();
    profile.set(Field::Address, held.iter().flatten().next().map(|held| Value::Address(address(held))));
    profile
}

/// What the object does not say. Not there is not null: an event may be of an API version that lacks it.
fn untold(customer: &wire::Customer) -> Untold {
    let wire::Customer { name, email, phone, address, metadata, .. } = customer;
    let told = [name.is_some(), email.is_some(), phone.is_some(), address.is_some()];
    let fields = Field::PLAIN.into_iter().zip(told).filter(|(_, told)| !told).map(|(field, _)| field).collect();
    Untold { fields, metadata: metadata.is_none() }
}

fn previous(after: &wire::Customer, attributes: BTreeMap<String, json::Value>) -> BTreeMap<Field, Option<Value>> {
    let mut previous = BTreeMap::new();
    for (attribute, old) in &attributes {
        match attribute.as_str() {
            "name" => previous.insert(Field::Name, text(old).map(Value::Text)),
            "email" => previous.insert(Field::Email, text(old).map(Value::Text)),
            "phone" => previous.insert(Field::Phone, text(old).map(Value::Text)),
            "address" => previous.insert(Field::Address, previous_address(after, old)),
            "metadata" => {
                previous.extend(previous_metadata(after, old));
                None
            }
            _ => None,
        };
    }
    previous
}

/// The address after the change, with the old parts in place of the changed ones.
fn previous_address(after: &wire::Customer, old: &json::Value) -> Option<Value> {
    let json::Value::Object(old) = old else { return None };
    let after = after.address.iter().flatten().next().map(address).unwrap_or_default();
    let parts = after.parts().map(|(part, held)| match old.get(part) {
        Some(old) => text(old),
        None => held.map(str::to_owned),
    });
    Some(Address::from_parts(parts)).filter(|address| !address.is_empty()).map(Value::Address)
}

fn previous_metadata(after: &wire::Customer, old: &json::Value) -> Vec<(Field, Option<Value>)> {
    match old {
        json::Value::Object(old) => {
            old.iter().filter_map(|(key, old)| Some((metadata_field(key)?, text(old).map(Value::Text)))).collect()
        }
        // There was none: every key is new.
        _ => after
            .metadata
            .iter()
            .flatten()
            .flatten()
            .filter_map(|(key, _)| Some((metadata_field(key)?, None)))
            .collect(),
    }
}

fn address(held: &wire::Address) -> Address {
    let wire::Address { line1, line2, city, state, postal_code, country } = held;
    Address::from_parts([line1, line2, city, state, postal_code, country].map(|part| clean(part.as_deref()?)))
}

fn metadata_field(key: &str) -> Option<Field> {
    if key == TANDEM_ID {
        return None;
    }
    clean(key).map(Field::Metadata)
}

/// PostgreSQL cannot keep a NUL character; an empty text is an unset field.
fn clean(text: &str) -> Option<String> {
    let text = text.replace('\0', "");
    (!text.is_empty()).then_some(text)
}

fn text(value: &json::Value) -> Option<String> {
    match value {
        json::Value::String(text) => clean(text),
        _ => None,
    }
}

fn member<'a>(value: &'a json::Value, name: &str) -> Option<&'a json::Value> {
    match value {
        json::Value::Object(members) => members.get(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
