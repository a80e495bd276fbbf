//! What people asked for happened once, however often they asked; and what they were answered is so.

use serde_json::Value;
use tandem_tests::Tandem;

use super::check::{FIELDS, plain};
use super::people::{Answer, Asked, People};
use super::play::Born;

pub async fn asked_once(tandem: &Tandem, people: &People, born: &[Born]) -> Result<(), String> {
    for asked in &people.asked {
        happened_once(tandem, asked).await?;
        if let Some(answer) = &asked.answer {
            as_answered(tandem, asked, answer).await?;
        }
    }
    let here = born.iter().filter(|born| matches!(born, Born::Here(_))).count();
    let created = tandem.rows("events", "event_type = 'created' AND metadata->>'origin' = 'api'").await;
    if usize::try_from(created) != Ok(here) {
        return Err(format!("{here} of {} were created here, and {created} are", born.len()));
    }
    for gateway in tandem.gateways() {
        let objects = tandem.stripe_of(gateway).customers().await.unwrap().len();
        if objects > born.len() {
            return Err(format!("{} were created, and {objects} are at {gateway}", born.len()));
        }
    }
    Ok(())
}

/// Of all sendings of a request at most one led to events.
async fn happened_once(tandem: &Tandem, asked: &Asked) -> Result<(), String> {
    let sql =
        "SELECT count(DISTINCT metadata->>'correlation_id') FROM events WHERE metadata->>'correlation_id' LIKE $1";
    let sendings: i64 =
        sqlx::query_scalar(sql).bind(format!("{}/%", asked.key)).fetch_one(&tandem.database).await.unwrap();
    if sendings > 1 { Err(format!("{asked:?} happened {sendings} times")) } else { Ok(()) }
}

/// The customer that was answered is what its events up to that version lead to.
async fn as_answered(tandem: &Tandem, asked: &Asked, answer: &Answer) -> Result<(), String> {
    // Done; or it is deleted.
    if !matches!(answer.status, 200 | 201 | 204 | 410) {
        return Err(format!("refused: {asked:?}"));
    }
    let (Some(id), Some(version)) = (answer.body["id"].as_str(), answer.body["version"].as_u64()) else {
        return Ok(());
    };
    let events = tandem.events(id).await;
    let until = events.iter().filter(|event| event["version"].as_u64().is_some_and(|of| of <= version));
    let until: Vec<&Value> = until.collect();
    if until.last().is_none_or(|last| last["version"] != version) {
        return Err(format!("{asked:?} is not among {} events", events.len()));
    }
    for field in FIELDS {
        let then = until.iter().rev().find_map(|event| event["changes"].get(field).map(|change| &change["after"]));
        let told = match field.split_once('.') {
            Some((whole, key)) => answer.body[whole].get(key).cloned().unwrap_or_default(),
            None => plain(answer.body[field].clone()),
        };
        if then.cloned().unwrap_or_default() != told {
            return Err(format!("{asked:?}: {field} was {then:?} then"));
        }
    }
    Ok(())
}
