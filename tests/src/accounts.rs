//! More Stripe accounts than one.

use std::fmt::Write;

use stripe_sim::{Control, Options, Settings, Sim};
use tandem_local::Scratch;

use crate::tandem::{KEY, NO_SWEEP_MS, WEBHOOK_SECRET};

/// One more gateway.
pub struct Account {
    name: &'static str,
    /// The account that is connected to the first's; with none it is a local Stripe of its own.
    connected: Option<&'static str>,
    stripe: Settings,
    /// More of its section in the settings.
    section: String,
}

/// One that runs.
pub(crate) struct Running {
    pub name: &'static str,
    pub stripe: Control,
    pub key: String,
    url: String,
    connected: Option<&'static str>,
    section: String,
    _sim: Option<Sim>,
}

impl Account {
    /// One with a local Stripe of its own.
    pub fn new(name: &'static str) -> Self {
        Self { name, connected: None, stripe: Settings::default(), section: String::new() }
    }

    /// One that is connected to the first gateway's account, by whose key it is called.
    pub fn connected(name: &'static str, account: &'static str) -> Self {
        Self { connected: Some(account), ..Self::new(name) }
    }

    /// With these lines in its section of the settings.
    pub fn with(self, section: impl Into<String>) -> Self {
        Self { section: section.into(), ..self }
    }

    /// With a local Stripe that behaves so.
    pub fn behaving(self, stripe: Settings) -> Self {
        Self { stripe, ..self }
    }

    fn webhook(&self, port: u16) -> (String, String) {
        (format!("http://127.0.0.1:{port}/webhooks/{}", self.name), WEBHOOK_SECRET.to_owned())
    }
}

/// The connected ones, as the first local Stripe has them.
pub(crate) fn connected(accounts: &[Account], port: u16) -> Vec<stripe_sim::Account> {
    let connected = |account: &Account| {
        let webhooks = vec![account.webhook(port)];
        Some(stripe_sim::Account { webhooks, ..stripe_sim::Account::connected(account.connected?) })
    };
    accounts.iter().filter_map(connected).collect()
}

pub(crate) async fn start(accounts: Vec<Account>, first: &Sim, port: u16) -> Vec<Running> {
    let mut running = vec![];
    for account in accounts {
        let Account { name, connected, stripe: settings, section } = account;
        let webhooks = vec![(format!("http://127.0.0.1:{port}/webhooks/{name}"), WEBHOOK_SECRET.to_owned())];
        let (url, stripe, sim) = match connected {
            Some(connected) => (first.url(), first.control_of(connected), None),
            None => {
                let sim = Sim::start(Options { webhooks, settings, ..Options::default() }).await;
                let sim = sim.expect("a local Stripe");
                (sim.url(), sim.control(), Some(sim))
            }
        };
        running.push(Running { name, stripe, key: KEY.to_owned(), url, connected, section, _sim: sim });
    }
    running
}

/// Writes the settings' file; returns its path.
pub(crate) fn write_settings(scratch: &Scratch, accounts: &[Running]) -> String {
    let mut text = String::new();
    for Running { name, key, url, connected, section, .. } in accounts {
        let account = connected.map(|account| format!("account = \"{account}\"\n")).unwrap_or_default();
        let sweeps = section.contains("sweep_interval_ms");
        let unswept = if sweeps { String::new() } else { format!("sweep_interval_ms = {NO_SWEEP_MS}\n") };
        // Into a text it cannot fail.
        let _ = write!(
            text,
            "[gateways.{name}]\nkind = \"stripe\"\nsecret_key = \"{key}\"\napi_base = \"{url}/\"\n{account}\
             webhook_secrets = [\"{WEBHOOK_SECRET}\"]\nrequests_per_second = 10000\n\
             endpoint_requests_per_second = 10000\n{unswept}{section}\n"
        );
    }
    let path = scratch.path().join("tandem.toml");
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}
