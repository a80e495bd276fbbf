//! Playing a history on real servers, healing everything, and looking at what came of it.

use serde_json::{Value, json};
use stripe_sim::{Fault, Order, Settings};
use tandem_tests::{Setup, Tandem};

use crate::check::check;
use crate::history::{History, Side, Step, Wrong};

/// A customer of the history, by its name on the side where it was born.
#[derive(Clone, Debug)]
pub enum Born {
    Here(String),
    There(String),
}

/// Plays it. The error says which promise was broken.
pub async fn play(history: &History) -> Result<(), String> {
    let env = [
        ("TANDEM_STRIPE__POLICY", history.policy),
        ("TANDEM_STRIPE__MATCH", "never"),
        ("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "400"),
        ("TANDEM_STRIPE__TIMEOUT_MS", "2000"),
        ("TANDEM_GATEWAYS__LEASE_MS", "10000"),
    ];
    let env = env.map(|(name, value)| (name, value.to_owned())).into();
    let stripe = Settings { normalise_email: history.normalises, ..Settings::default() };
    let mut tandem = Tandem::start_with(Setup { env, stripe, ..Setup::default() }).await;
    let mut born = vec![
        Born::Here(tandem.create("first", "first@tandem.example").await.id),
        Born::There(tandem.stripe.create(&[("name", "second")]).await.unwrap().id),
    ];
    tandem.settled().await;
    for step in &history.steps {
        take(&mut tandem, &mut born, step).await;
    }
    tandem.stripe.clear_faults().await.unwrap();
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.swept().await;
    tandem.settled().await;
    decide(&tandem).await?;
    check(&tandem, &born).await
}

/// A person decides what waits for one, now for one side, now for the other.
async fn decide(tandem: &Tandem) -> Result<(), String> {
    for round in 0..20 {
        let waiting = tandem.get_json("/conflicts?state=open").await["data"].clone();
        let Some(first) = waiting.as_array().and_then(|waiting| waiting.first()) else { return Ok(()) };
        let keep = if round % 2 == 0 { "catalog" } else { "gateway" };
        let answer = tandem.post(&format!("/conflicts/{}/resolve", first["id"]), json!({ "keep": keep })).await;
        if !answer.status().is_success() {
            return Err(format!("{first} cannot be decided: {}", answer.text().await.unwrap_or_default()));
        }
        tandem.settled().await;
    }
    Err("conflicts come again and again".to_owned())
}

async fn take(tandem: &mut Tandem, born: &mut Vec<Born>, step: &Step) {
    match step {
        Step::Edit { side: Side::Catalog, who, field, value } => {
            let Some(id) = here(tandem, &born[*who % born.len()]).await else { return };
            let body = match field.strip_prefix("metadata.") {
                Some(key) => json!({"metadata": {key: value}}),
                None => json!({*field: value}),
            };
            // Refused, if it is deleted; or the service is away. Then nobody was told that it was done.
            let _ = tandem.http().patch(tandem.at(&format!("/customers/{id}"))).json(&body).send().await;
        }
        Step::Edit { side: Side::Stripe, who, field, value } => {
            let Some(id) = there(tandem, &born[*who % born.len()]).await else { return };
            let param = field.strip_prefix("metadata.").map_or((*field).to_owned(), |key| format!("metadata[{key}]"));
            let _ = tandem.stripe.edit(&id, &[(&param, value.as_deref().unwrap_or(""))]).await;
        }
        Step::Create { side: Side::Catalog, name } => {
            let body = json!({"name": name});
            if let Ok(answer) = tandem.http().post(tandem.at("/customers")).json(&body).send().await
                && let Ok(body) = answer.json::<Value>().await
                && let Some(id) = body["id"].as_str()
            {
                born.push(Born::Here(id.to_owned()));
            }
        }
        Step::Create { side: Side::Stripe, name } => {
            born.push(Born::There(tandem.stripe.create(&[("name", name)]).await.unwrap().id));
        }
        Step::Delete { side: Side::Catalog, who } => {
            let Some(id) = here(tandem, &born[*who % born.len()]).await else { return };
            let _ = tandem.http().delete(tandem.at(&format!("/customers/{id}"))).send().await;
        }
        Step::Delete { side: Side::Stripe, who } => {
            let Some(id) = there(tandem, &born[*who % born.len()]).await else { return };
            let _ = tandem.stripe.delete(&id).await;
        }
        // The history's own: people wait, too.
        Step::PauseMs(pause) => tokio::time::sleep(std::time::Duration::from_millis(*pause)).await,
        Step::Wrong(wrong) => go_wrong(tandem, *wrong).await,
    }
}

async fn go_wrong(tandem: &mut Tandem, wrong: Wrong) {
    let writes = "/v1/customers/**";
    let fault = match wrong {
        Wrong::LoseReply => Fault::DropReply.on("POST", writes),
        Wrong::LoseRequest => Fault::DropRequest.on("POST", writes),
        Wrong::Fail500After => Fault::Fail500AfterWork.on("POST", writes),
        Wrong::Fail500Before => Fault::Fail500BeforeWork.on("POST", writes),
        Wrong::TooMany => Fault::status(429).header("Stripe-Rate-Limited-Reason", "endpoint-rate").on("POST", writes),
        Wrong::InUse => Fault::status(409).code("lock_timeout").on("POST", writes),
        Wrong::HangReply => Fault::HangReply.on("POST", writes),
        Wrong::LoseRead => Fault::DropReply.on("GET", "/v1/customers/*"),
        Wrong::HoldWebhooks => return tandem.stripe.hold().await.unwrap(),
        Wrong::ReleaseInOrder => {
            tandem.stripe.release(Order::Fifo).await.unwrap();
            return;
        }
        Wrong::ReleaseReversed => {
            tandem.stripe.release(Order::Reversed).await.unwrap();
            return;
        }
        Wrong::DuplicateWebhooks => return tandem.stripe.duplicate(3).await.unwrap(),
        Wrong::DropWebhooks => return tandem.stripe.drop_webhooks(2).await.unwrap(),
        Wrong::KillTandem => {
            tandem.kill();
            return tandem.start_again().await;
        }
        Wrong::StartAnother => return tandem.start_another(),
        Wrong::ExpireLeases => {
            let over =
                "UPDATE links SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_token IS NOT NULL";
            sqlx::query(over).execute(&tandem.database).await.unwrap();
            return;
        }
    };
    tandem.stripe.fault(fault).await.unwrap();
}

/// Its id in the catalog, if it has come so far.
pub async fn here(tandem: &Tandem, born: &Born) -> Option<String> {
    match born {
        Born::Here(id) => Some(id.clone()),
        Born::There(remote) => {
            // A link is there before its customer is.
            let sql = "SELECT customer_id::text FROM links WHERE remote_id = $1 AND base IS NOT NULL";
            sqlx::query_scalar(sql).bind(remote).fetch_optional(&tandem.database).await.unwrap()
        }
    }
}

/// Its id at Stripe, if it has come so far.
pub async fn there(tandem: &Tandem, born: &Born) -> Option<String> {
    match born {
        Born::There(id) => Some(id.clone()),
        Born::Here(id) => {
            let sql = "SELECT remote_id FROM links WHERE customer_id = $1::uuid";
            let found: Option<Option<String>> =
                sqlx::query_scalar(sql).bind(id).fetch_optional(&tandem.database).await.unwrap();
            found.flatten()
        }
    }
}
