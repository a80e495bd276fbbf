//! Playing a history on real servers, healing everything, and looking at what came of it.

use std::time::SystemTime;

use serde_json::{Value, json};
use stripe_sim::{Control, Order, Settings};
use tandem_local::test;
use tandem_tests::{Account, Setup, Tandem};

use super::check::check;
use super::history::{History, Side, Step};
use super::people::{People, address};
use super::wrong::Servers;

/// A customer of the history, by its name on the side where it was born.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Born {
    Here(String),
    /// In the account of that number.
    There(usize, String),
}

/// What a history is played in.
pub struct World {
    pub tandem: Tandem,
    pub people: People,
    pub born: Vec<Born>,
    /// Of its own, to kill.
    pub servers: Option<Servers>,
    /// When a day passed.
    pub passed: Vec<SystemTime>,
}

/// Plays it. The error says which promise was broken.
pub async fn play(history: &History) -> Result<(), String> {
    let mut world = World::of(history).await;
    for step in &history.steps {
        world.take(step).await;
    }
    world.heal().await?;
    decide(&world.tandem).await?;
    check(&world, history).await
}

impl World {
    async fn of(history: &History) -> Self {
        let servers = if history.own_servers {
            Some(Servers { postgres: test::own_postgres().await, nats: test::own_nats().await })
        } else {
            None
        };
        let [inbound, outbound] = history.deletes;
        let env = [
            ("TANDEM_STRIPE__POLICY", history.policy),
            ("TANDEM_STRIPE__DELETES_INBOUND", inbound),
            ("TANDEM_STRIPE__DELETES_OUTBOUND", outbound),
            // One email is used by many.
            ("TANDEM_STRIPE__MATCH", "never"),
            ("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "400"),
            ("TANDEM_STRIPE__TIMEOUT_MS", "2000"),
            ("TANDEM_GATEWAYS__LEASE_MS", "10000"),
        ];
        let section =
            format!("policy = \"{}\"\nmatch = \"never\"\nsweep_interval_ms = 400\ntimeout_ms = 2000", history.policy);
        let behaviour =
            |normalise_email: bool| Settings { normalise_email, sign_by_clock: true, ..Settings::default() };
        let more = ["eu", "us"].into_iter().zip(&history.normalises[1..]);
        let setup = Setup {
            env: env.map(|(name, value)| (name, value.to_owned())).into(),
            stripe: behaviour(history.normalises[0]),
            accounts: more
                .map(|(name, normalises)| Account::new(name).with(&section).behaving(behaviour(*normalises)))
                .collect(),
            database_url: servers.as_ref().map(|servers| servers.postgres.url("postgres")),
            nats_url: servers.as_ref().map(|servers| servers.nats.url()),
            wires: history.wires,
            ..Setup::default()
        };
        let tandem = Tandem::start_with(setup).await;
        let last = history.normalises.len() - 1;
        let second = account_of(&tandem, last).create(&[("name", "second")]).await.unwrap();
        let born =
            vec![Born::Here(tandem.create("first", "first@tandem.example").await.id), Born::There(last, second.id)];
        tandem.settled().await;
        Self { tandem, people: People::default(), born, servers, passed: vec![] }
    }

    /// Nothing goes wrong any more, whoever was not answered asks again, and everything comes to its end.
    async fn heal(&mut self) -> Result<(), String> {
        let Self { tandem, people, .. } = self;
        if let Some(wires) = &tandem.wires {
            wires.healed().await;
        }
        for gateway in tandem.gateways() {
            let stripe = tandem.stripe_of(gateway);
            stripe.clear_faults().await.unwrap();
            // Else the webhook of a call that is made after the last sweep is told of by none.
            stripe.drop_webhooks(0).await.unwrap();
            stripe.release(Order::Fifo).await.unwrap();
        }
        people.hear_all(tandem).await?;
        self.remember_the_born();
        self.tandem.swept().await;
        self.tandem.settled().await;
        Ok(())
    }

    fn remember_the_born(&mut self) {
        for id in self.people.born() {
            let born = Born::Here(id.to_owned());
            if !self.born.contains(&born) {
                self.born.push(born);
            }
        }
    }

    async fn take(&mut self, step: &Step) {
        let Self { tandem, people, born, .. } = self;
        match step {
            // Refused, if it is deleted; or the service is away. Then nobody was told that it was done.
            Step::Edit { side: Side::Catalog, who, field, value, way } => {
                let Some(id) = here(tandem, &born[*who % born.len()]).await else { return };
                people.edit(tandem, &id, field, value.as_deref(), *way).await;
            }
            Step::Edit { side: Side::Stripe(account), who, field, value, .. } => {
                let Some(id) = there(tandem, &born[*who % born.len()], *account).await else { return };
                let params = as_params(field, value.as_deref());
                let params: Vec<_> = params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let _ = account_of(tandem, *account).edit(&id, &params).await;
            }
            Step::Create { side: Side::Catalog, name, way } => {
                people.create(tandem, name, *way).await;
                self.remember_the_born();
            }
            Step::Create { side: Side::Stripe(account), name, .. } => {
                let created = account_of(tandem, *account).create(&[("name", name)]).await.unwrap();
                born.push(Born::There(*account, created.id));
            }
            Step::Delete { side: Side::Catalog, who, way } => {
                let Some(id) = here(tandem, &born[*who % born.len()]).await else { return };
                people.delete(tandem, &id, *way).await;
            }
            Step::Delete { side: Side::Stripe(account), who, .. } => {
                let Some(id) = there(tandem, &born[*who % born.len()], *account).await else { return };
                let _ = account_of(tandem, *account).delete(&id).await;
            }
            Step::AskAgain { which } => {
                people.ask_again(tandem, *which).await;
                self.remember_the_born();
            }
            // The history's own: people wait, too.
            Step::PauseMs(pause) => tokio::time::sleep(std::time::Duration::from_millis(*pause)).await,
            Step::Wrong(wrong, account) => wrong.happen(self, *account).await,
        }
    }
}

/// A person decides what waits for one, now this way, now that.
async fn decide(tandem: &Tandem) -> Result<(), String> {
    for round in 0..60 {
        let Some((path, body)) = waiting(tandem, round % 2 == 0).await else { return Ok(()) };
        let answer = tandem.post(&path, body).await;
        if !answer.status().is_success() {
            return Err(format!("POST {path} is refused: {}", answer.text().await.unwrap_or_default()));
        }
        tandem.settled().await;
    }
    Err("a person is asked again and again".to_owned())
}

/// What is to be said of the first thing that waits: for the catalog, or for the other side.
async fn waiting(tandem: &Tandem, catalog: bool) -> Option<(String, Value)> {
    let conflicts = tandem.get_json("/conflicts?state=open").await["data"].clone();
    if let Some(conflict) = conflicts.as_array()?.first() {
        let keep = if catalog { "catalog" } else { "gateway" };
        return Some((format!("/conflicts/{}/resolve", conflict["id"]), json!({ "keep": keep })));
    }
    let parked = tandem.parked().await;
    let deletion = parked.iter().find(|parked| parked["kind"] == "deletion")?;
    let verdict = if catalog { "delete" } else { "keep" };
    Some((format!("/parked/{}/{verdict}", deletion["id"]), Value::Null))
}

/// An edit as a form of Stripe's has it.
fn as_params(field: &str, value: Option<&str>) -> Vec<(String, String)> {
    let text = value.unwrap_or_default();
    match (field.split_once('.'), value) {
        (Some((whole, part)), _) => vec![(format!("{whole}[{part}]"), text.to_owned())],
        (None, Some(letter)) if field == "address" => {
            let parts = address(letter);
            let parts = parts.as_object().into_iter().flatten();
            let text = |part: &Value| part.as_str().unwrap_or_default().to_owned();
            parts.map(|(part, value)| (format!("address[{part}]"), text(value))).collect()
        }
        (None, _) => vec![(field.to_owned(), text.to_owned())],
    }
}

/// The account of that number.
pub fn account_of(tandem: &Tandem, account: usize) -> &Control {
    tandem.stripe_of(name_of(tandem, account))
}

/// What its gateway is called.
pub fn name_of(tandem: &Tandem, account: usize) -> &str {
    tandem.gateways().nth(account).unwrap()
}

/// Its id in the catalog, if it has come so far.
pub async fn here(tandem: &Tandem, born: &Born) -> Option<String> {
    match born {
        Born::Here(id) => Some(id.clone()),
        Born::There(account, remote) => {
            // A link is there before its customer is.
            let sql = "SELECT customer_id::text FROM links WHERE gateway = $1 AND remote_id = $2 AND base IS NOT NULL";
            let found = sqlx::query_scalar(sql).bind(name_of(tandem, *account)).bind(remote);
            found.fetch_optional(&tandem.database).await.unwrap()
        }
    }
}

/// Its id in that account, if it has come so far.
pub async fn there(tandem: &Tandem, born: &Born, account: usize) -> Option<String> {
    if let Born::There(home, id) = born
        && *home == account
    {
        return Some(id.clone());
    }
    let id = here(tandem, born).await?;
    let sql = "SELECT remote_id FROM links WHERE gateway = $1 AND customer_id = $2::uuid";
    let found = sqlx::query_scalar(sql).bind(name_of(tandem, account)).bind(id);
    let found: Option<Option<String>> = found.fetch_optional(&tandem.database).await.unwrap();
    found.flatten()
}
