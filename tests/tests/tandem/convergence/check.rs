//! What holds at rest, whatever happened.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stripe_sim::Call;
use tandem_tests::Tandem;

use super::history::History;
use super::lost::nothing_lost;
use super::play::{Born, World, account_of, here, there};
use super::winner::last_wins;
use super::written::lines;
use super::{calls, once};

/// What people edit.
pub const FIELDS: [&str; 6] = ["name", "phone", "email", "metadata.plan", "metadata.seat", "address"];

/// Checks every promise; the error names the one that is broken.
pub async fn check(world: &World, history: &History) -> Result<(), String> {
    let World { tandem, people, born, .. } = world;
    for gateway in tandem.gateways() {
        one_copy_each(tandem, gateway, history.unlinks()).await?;
    }
    for one in born {
        let id = here(tandem, one).await;
        // Whether one side lives on alone, as a policy, or a person, said.
        let mut alone = false;
        for (account, gateway) in tandem.gateways().enumerate() {
            match (&id, there(tandem, one, account).await) {
                (Some(id), Some(_)) if unlinked(tandem, gateway, id).await => alone |= history.unlinks(),
                (Some(id), Some(remote)) => equal(tandem, gateway, id, &remote).await?,
                // Deleted before it was ever told of.
                (Some(id), None) if tandem.status_of(id).await == 410 => {}
                (None, Some(remote)) if account_of(tandem, account).get(&remote).await.unwrap().deleted => {}
                (None, None) if matches!(one, Born::There(home, _) if *home != account) => {}
                (id, remote) => return Err(format!("{one:?} is not at {gateway}, or not here: {id:?} {remote:?}")),
            }
        }
        if let Some(id) = &id {
            for line in lines(tandem, one, id).await {
                nothing_lost(id, &line)?;
                if history.policy == "latest" && !alone {
                    last_wins(id, &line)?;
                }
            }
        }
    }
    once::asked_once(tandem, people, born).await?;
    calls::in_order(world).await?;
    never_deadlocked(tandem).await?;
    silent(tandem).await?;
    numbered_alike(tandem).await?;
    rebuilt_alike(tandem).await
}

/// At most one living object a customer, none imported twice.
async fn one_copy_each(tandem: &Tandem, gateway: &str, unlinks: bool) -> Result<(), String> {
    let there = tandem.stripe_of(gateway).customers().await.unwrap();
    let there: BTreeSet<String> = there.into_iter().filter(|one| !one.deleted).map(|one| one.id).collect();
    let here: BTreeSet<String> = tandem.customers().await.into_iter().map(|one| one.id).collect();
    let linked = "SELECT customer_id::text, remote_id, state FROM links
                  WHERE gateway = $1 AND state IN ('active', 'unlinked') AND remote_id IS NOT NULL";
    let linked: Vec<(String, String, String)> =
        sqlx::query_as(linked).bind(gateway).fetch_all(&tandem.database).await.unwrap();
    let mut known = (BTreeSet::new(), BTreeSet::new());
    for (id, remote, state) in &linked {
        let lives = (here.contains(id), there.contains(remote));
        let fits = if state == "active" { lives == (true, true) } else { unlinks && lives != (true, true) };
        let new = (known.0.insert(id.clone()), known.1.insert(remote.clone()));
        if !fits || new != (true, true) {
            return Err(format!("{id} and {remote} at {gateway} are {state} and live so: {lives:?}; {linked:?}"));
        }
    }
    if !known.0.is_superset(&here) || !known.1.is_superset(&there) {
        return Err(format!("{here:?} live here, {there:?} at {gateway}, linked {linked:?}"));
    }
    Ok(())
}

async fn unlinked(tandem: &Tandem, gateway: &str, id: &str) -> bool {
    let state = "SELECT state = 'unlinked' FROM links WHERE gateway = $1 AND customer_id = $2::uuid";
    sqlx::query_scalar(state).bind(gateway).bind(id).fetch_one(&tandem.database).await.unwrap()
}

/// Catalog, Stripe and base hold the same; and what is dead on one side is dead on both.
async fn equal(tandem: &Tandem, gateway: &str, id: &str, remote: &str) -> Result<(), String> {
    let mut there = tandem.stripe_of(gateway).get(remote).await.unwrap();
    let status = tandem.status_of(id).await;
    if there.deleted || status == 410 {
        return if there.deleted && status == 410 {
            Ok(())
        } else {
            Err(format!("{id} is dead on one side only: not at {gateway}, or not here"))
        };
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
         WHERE customer_id = $1::uuid AND gateway = $2",
    )
    .bind(id)
    .bind(gateway)
    .fetch_one(&tandem.database)
    .await
    .unwrap();
    if fields != told || base != row {
        return Err(format!("{id} differs at {gateway}: here {fields}, there {told}, base {base}"));
    }
    Ok(())
}

/// No two transactions ever waited for each other: that costs a second each time.
async fn never_deadlocked(tandem: &Tandem) -> Result<(), String> {
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let deadlocks: i64 = sqlx::query_scalar(sql).fetch_one(&tandem.database).await.unwrap();
    if deadlocks == 0 { Ok(()) } else { Err(format!("{deadlocks} deadlocks\n{}", tandem.log())) }
}

/// Looking at every link again changes nothing, here or there.
async fn silent(tandem: &Tandem) -> Result<(), String> {
    let events = tandem.rows("events", "true").await;
    for gateway in tandem.gateways() {
        tandem.stripe_of(gateway).clear_calls().await.unwrap();
    }
    sqlx::query("UPDATE links SET due_seq = due_seq + 1, look = true").execute(&tandem.database).await.unwrap();
    tandem.settled().await;
    for gateway in tandem.gateways() {
        let calls = tandem.stripe_of(gateway).calls().await.unwrap();
        let writes: Vec<_> = calls.into_iter().filter(Call::is_write).collect();
        let more = tandem.rows("events", "true").await - events;
        if !writes.is_empty() || more != 0 {
            return Err(format!("no rest at {gateway}: {more} events, {writes:?}"));
        }
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
