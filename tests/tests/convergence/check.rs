//! What holds at rest, whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use stripe_sim::Event;
use tandem_tests::Tandem;

use crate::play::{Born, here, there};

const FIELDS: [&str; 4] = ["name", "phone", "email", "metadata.plan"];

/// Checks every promise; the error names the one that is broken.
pub async fn check(tandem: &Tandem, born: &[Born]) -> Result<(), String> {
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
    keys_have_one_body(tandem).await?;
    silent(tandem).await?;
    numbered_alike(tandem).await
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
    let there = tandem.stripe.get(remote).await.unwrap();
    let status = tandem.status_of(id).await;
    if there.deleted || status == 410 {
        return if there.deleted && status == 410 { Ok(()) } else { Err(format!("{id} is dead on one side only")) };
    }
    let here = tandem.get(id).await;
    let fields =
        json!({"name": here.name, "email": here.email, "phone": here.phone, "plan": here.metadata.get("plan")});
    let told = json!({"name": there.name, "email": there.email, "phone": there.phone,
                      "plan": there.metadata.get("plan")});
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

/// A value that a field had, and how it came to have it.
#[derive(Clone, Debug)]
struct Written {
    value: Value,
    /// By a person on this side; otherwise it was carried over.
    by_hand: bool,
}

/// How every field begins.
const UNSET: Written = Written { value: Value::Null, by_hand: false };

/// Every value that a person wrote is there still, or was replaced by somebody who could see it, or is in a conflict.
async fn nothing_lost(tandem: &Tandem, id: &str, remote: &str) -> Result<(), String> {
    let history = tandem.events(id).await;
    let told = tandem.stripe.events_of(remote).await.unwrap();
    let mut contested: BTreeMap<String, Vec<(Value, Value)>> = BTreeMap::new();
    for conflict in history.iter().map(|event| &event["conflict"]).filter(|conflict| conflict.is_object()) {
        let field = conflict["field"].as_str().unwrap_or_default().to_owned();
        let sides = (conflict["catalog"]["value"].clone(), conflict["remote"]["value"].clone());
        contested.entry(field).or_default().push(sides);
    }
    for field in FIELDS {
        let (here, there) = (written_here(&history, field), written_there(&told, field));
        let contested = contested.remove(field).unwrap_or_default();
        let kept = |value: &Value| contested.iter().any(|(ours, theirs)| same(ours, value) || same(theirs, value));
        for (side, mine, other) in [("here", &here, &there), ("there", &there, &here)] {
            for pair in mine.windows(2) {
                let [lost, next] = pair else { continue };
                // Whoever edits a side has seen what is on it.
                if !lost.by_hand || next.by_hand || same(&lost.value, &next.value) {
                    continue;
                }
                // It was carried over, or whoever replaced it had the same before.
                let crossed = other.iter().any(|written| same(&written.value, &lost.value));
                if !crossed && !kept(&lost.value) {
                    return Err(format!(
                        "{field} of {id}: {} was written {side} and is lost\nhere {here:?}\nthere {there:?}\n{contested:?}",
                        lost.value
                    ));
                }
            }
        }
    }
    Ok(())
}

/// A normalising remote turns emails to lower case.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_str(), other.as_str()) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        _ => one == other,
    }
}

fn written_here(history: &[Value], field: &str) -> Vec<Written> {
    let changes = history.iter().filter_map(|event| {
        let change = event["changes"].get(field)?;
        Some(Written { value: change["after"].clone(), by_hand: event["origin"] == "api" })
    });
    std::iter::once(UNSET).chain(changes).collect()
}

fn written_there(told: &[Event], field: &str) -> Vec<Written> {
    let of = |event: &Event| match field.strip_prefix("metadata.") {
        Some(key) => event.object["metadata"].get(key).cloned().unwrap_or_default(),
        None => event.object[field].clone(),
    };
    let changes = |event: &&Event| match field.strip_prefix("metadata.") {
        Some(key) => event.previous.get("metadata").is_some_and(|metadata| metadata.get(key).is_some()),
        None => event.previous.contains_key(field),
    };
    let born = told.first().filter(|event| event.kind == "customer.created" && !of(event).is_null());
    let written = born.into_iter().chain(told.iter().filter(changes));
    let written = written.map(|event| Written { value: of(event), by_hand: event.idempotency_key.is_none() });
    std::iter::once(UNSET).chain(written).collect()
}

/// One key, one body.
async fn keys_have_one_body(tandem: &Tandem) -> Result<(), String> {
    let mut bodies = BTreeMap::new();
    for call in tandem.stripe.calls().await.unwrap() {
        let Some(key) = call.idempotency_key else { continue };
        let body = (call.path.clone(), call.params.clone());
        if *bodies.entry(key.clone()).or_insert_with(|| body.clone()) != body {
            return Err(format!("two bodies under {key}: {body:?}"));
        }
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
