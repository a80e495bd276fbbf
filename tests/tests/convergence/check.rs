//! What holds at rest, whatever happened.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tandem_tests::Tandem;

use crate::lost::nothing_lost;
use crate::play::{World, here, there};
use crate::{calls, once};

/// What people edit.
pub const FIELDS: [&str; 6] = ["name", "phone", "email", "metadata.plan", "metadata.seat", "address"];

/// Checks every promise; the error names the one that is broken.
pub async fn check(world: &World) -> Result<(), String> {
    let World { tandem, people, born } = world;
    one_copy_each(tandem).await?;
    for one in born {
        match (here(tandem, one).await, there(tandem, one).await) {
            (Some(id), Some(remote)) => {
                equal(tandem, &id, &remote).await?;
                nothing_lost(tandem, &id, &remote).await?;
            }
            // Deleted before it was ever told of.
            (Some(id), None) if tandem.status_of(&id).await == 410 => {}
            (None, Some(remote)) if tandem.stripe.get(&remote).await.unwrap().deleted => {}
            (id, remote) => return Err(format!("{one:?} is on one side only: {id:?} {remote:?}")),
        }
    }
    once::asked_once(tandem, people, born).await?;
    calls::in_order(tandem).await?;
    silent(tandem).await?;
    numbered_alike(tandem).await?;
    rebuilt_alike(tandem).await
}

/// At most one living object a customer, none imported twice.
async fn one_copy_each(tandem: &Tandem) -> Result<(), String> {
    let mut there = BTreeSet::new();
    for customer in tandem.stripe.customers().await.unwrap().into_iter().filter(|customer| !customer.deleted) {
        there.insert(customer.id);
    }
    let linked: Vec<(Option<String>,)> =
        sqlx::query_as("SELECT remote_id FROM links WHERE state = 'active'").fetch_all(&tandem.database).await.unwrap();
    let linked: Vec<String> = linked.into_iter().filter_map(|(id,)| id).collect();
    let distinct: BTreeSet<String> = linked.iter().cloned().collect();
    let here = tandem.customers().await.len();
    if distinct.len() != linked.len() || distinct != there || here != there.len() {
        return Err(format!("{here} live here, {there:?} there, linked {linked:?}"));
    }
    Ok(())
}

/// Catalog, Stripe and base hold the same; and what is dead on one side is dead on both.
async fn equal(tandem: &Tandem, id: &str, remote: &str) -> Result<(), String> {
    let mut there = tandem.stripe.get(remote).await.unwrap();
    let status = tandem.status_of(id).await;
    if there.deleted || status == 410 {
        return if there.deleted && status == 410 { Ok(()) } else { Err(format!("{id} is dead on one side only")) };
    }
    let here = tandem.get(id).await;
    let fields = json!({"name": here.name, "email": here.email, "phone": here.phone, "metadata": here.metadata,
               "address": plain(here.address.unwrap_or_default())});
    there.metadata.remove("tandem_id");
    let held = serde_json::to_value(there.address).unwrap();
    let told = json!({"name": there.name, "email": there.email, "phone": there.phone, "metadata": there.metadata,
                      "address": plain(held)});
    let (base, row): (Value, Value) = sqlx::query_as(
        "SELECT links.base, customers.profile FROM links JOIN customers ON customers.id = links.customer_id
         WHERE customer_id = $1::uuid",
    )
    .bind(id)
    .fetch_one(&tandem.database)
    .await
    .unwrap();
    if fields != told || base != row {
        return Err(format!("{id} differs: here {fields}, there {told}, base {base}"));
    }
    Ok(())
}

/// Looking at every link again changes nothing, here or there.
async fn silent(tandem: &Tandem) -> Result<(), String> {
    let events = tandem.rows("events", "true").await;
    tandem.stripe.clear_calls().await.unwrap();
    sqlx::query("UPDATE links SET due_seq = due_seq + 1, look = true").execute(&tandem.database).await.unwrap();
    tandem.settled().await;
    let writes: Vec<_> = tandem.stripe.calls().await.unwrap().into_iter().filter(|call| call.is_write()).collect();
    let more = tandem.rows("events", "true").await - events;
    if !writes.is_empty() || more != 0 {
        return Err(format!("no rest: {more} events, {writes:?}"));
    }
    Ok(())
}

/// Stream and PostgreSQL hold the same at every position.
async fn numbered_alike(tandem: &Tandem) -> Result<(), String> {
    let (code, said) = tandem.command(&["stream", "check"]).await;
    if code == Some(0) { Ok(()) } else { Err(said) }
}

/// What the read model shows is what the events lead to: rebuilt, it shows the same.
async fn rebuilt_alike(tandem: &Tandem) -> Result<(), String> {
    let before = shown(tandem).await;
    tandem.ran_well(&["rebuild", "customers"]).await;
    tandem.settled().await;
    let after = shown(tandem).await;
    if before == after { Ok(()) } else { Err(format!("rebuilt, {before:?} is {after:?}")) }
}

async fn shown(tandem: &Tandem) -> [Value; 2] {
    [tandem.get_json("/customers?limit=100").await, tandem.get_json("/conflicts?limit=100").await]
}

/// An address without parts is none.
pub fn plain(value: Value) -> Value {
    let empty = value.as_object().is_some_and(|parts| parts.values().all(Value::is_null));
    if empty { Value::Null } else { value }
}
