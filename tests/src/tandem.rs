//! One Tandem with all that it needs, for one test.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::accounts::{self, Running};
use crate::{Account, Wires, clock, gate};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use stripe_sim::{Control, Options, Settings, Sim};
use tandem_local::process::{Process, command, isolated};
use tandem_local::test::Looks;
use tandem_local::{Scratch, Signal, port, test};

/// What its webhooks are signed with.
pub const WEBHOOK_SECRET: &str = "whsec_test";
/// The key that Tandem sends to the local Stripe.
pub const KEY: &str = "sk_test_tandem";

/// From one sweep to the next in most tests: longer than any takes.
pub(crate) const NO_SWEEP_MS: &str = "86400000";

/// Names the wrong variant that a test's Tandem plays.
pub const VARIANT: &str = "TANDEM_TEST_ZOO";

/// What a test that plays a wrong variant says of a Tandem that got as far as being ready.
pub const READY: &str = "tandem serve was ready";

/// A running Tandem, its database, its stream and its Stripe.
pub struct Tandem {
    /// Where it answers.
    pub url: String,
    /// Its Stripe, seen from the Dashboard's side.
    pub stripe: Control,
    /// Its database.
    pub database: PgPool,
    /// Where its stream is, and what it is called.
    pub nats_url: String,
    /// The stream's name.
    pub stream: String,
    /// Between it and its servers, if it was set up so.
    pub wires: Option<Wires>,
    pub(crate) http: reqwest::Client,
    pub(crate) env: Vec<(String, String)>,
    without_gateway: bool,
    port: u16,
    process: Process,
    others: Vec<Process>,
    accounts: Vec<Running>,
    _sim: Sim,
    pub(crate) scratch: Scratch,
}

/// What a test wants otherwise than usual.
#[derive(Default)]
pub struct Setup {
    /// More of `tandem serve`'s environment.
    pub env: Vec<(&'static str, String)>,
    /// How its Stripe behaves.
    pub stripe: Settings,
    /// More gateways.
    pub accounts: Vec<Account>,
    /// `tandem serve` knows of no gateway, until [`Tandem::turn_gateway_on`]. Commands do.
    pub without_gateway: bool,
    /// A PostgreSQL of the test's own, to kill; the shared one if none.
    pub database_url: Option<String>,
    /// A nats-server of the test's own, to kill; the shared one if none.
    pub nats_url: Option<String>,
    /// `tandem serve` reaches its servers through proxies, to cut.
    pub wires: bool,
}

impl Tandem {
    /// Starts one, as usual.
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    /// Starts one.
    pub async fn start_with(setup: Setup) -> Self {
        let scratch = Scratch::new().expect("a folder");
        let database_url = match setup.database_url {
            Some(url) => url,
            None => test::database().await.url,
        };
        let nats_url = match setup.nats_url {
            Some(url) => url,
            None => test::nats().await,
        };
        let database = PgPoolOptions::new().max_connections(3).connect(&database_url).await.expect("a database");
        let port = port::free().expect("a port");
        let webhook = (format!("http://127.0.0.1:{port}/webhooks/stripe"), WEBHOOK_SECRET.to_owned());
        let connected = accounts::connected(&setup.accounts, port);
        let options =
            Options { webhooks: vec![webhook], accounts: connected, settings: setup.stripe, ..Options::default() };
        let sim = Sim::start(options).await.expect("a local Stripe");
        let accounts = accounts::start(setup.accounts, &sim, port).await;
        let settings = accounts::write_settings(&scratch, &accounts);

        let root = format!("t{}", uuid::Uuid::new_v4().simple());
        let stream = root.to_uppercase();
        let mut env: Vec<(String, String)> = [
            ("TANDEM_DATABASE__URL", database_url),
            ("TANDEM_DATABASE__MAX_CONNECTIONS", "12".to_owned()),
            ("TANDEM_NATS__URL", nats_url.clone()),
            ("TANDEM_NATS__STREAM", stream.clone()),
            ("TANDEM_NATS__ROOT", root),
            ("TANDEM_CONFIG", settings),
            // A command that serves takes any free port.
            ("TANDEM_HTTP__BIND", "127.0.0.1:0".to_owned()),
            ("TANDEM_STRIPE__API_BASE", format!("{}/", sim.url())),
            ("TANDEM_STRIPE__SECRET_KEY", KEY.to_owned()),
            ("TANDEM_STRIPE__WEBHOOK_SECRETS", WEBHOOK_SECRET.to_owned()),
            ("TANDEM_STRIPE__REQUESTS_PER_SECOND", "10000".to_owned()),
            ("TANDEM_STRIPE__ENDPOINT_REQUESTS_PER_SECOND", "10000".to_owned()),
            // What a test holds back, no sweep tells of: one is made at the start, and then none unless a test sets otherwise.
            ("TANDEM_STRIPE__SWEEP_INTERVAL_MS", NO_SWEEP_MS.to_owned()),
            // Most tests verify when nothing is on its way.
            ("TANDEM_STRIPE__VERIFY_GRACE_MS", "200".to_owned()),
            ("TANDEM_TEST_CLOCK_AHEAD", clock::file(&scratch).display().to_string()),
            ("TANDEM_TEST_GATE", gate::file(&scratch).display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let wires = if setup.wires { Some(Wires::of(&mut env).await) } else { None };
        env.extend(setup.env.into_iter().map(|(name, value)| (name.to_owned(), value)));

        // A crypto provider may have been installed by another test of this process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let process = spawn(&env, setup.without_gateway, port, scratch.path().join("tandem.log"));
        let mut tandem = Self {
            url: format!("http://127.0.0.1:{port}"),
            stripe: Control::new(sim.url()),
            database,
            nats_url,
            stream,
            wires,
            http: client(),
            env,
            without_gateway: setup.without_gateway,
            port,
            process,
            others: vec![],
            accounts,
            _sim: sim,
            scratch,
        };
        tandem.ready().await;
        if !tandem.without_gateway {
            tandem.swept_at_start().await;
        }
        if std::env::var_os(VARIANT).is_some() {
            println!("{READY}");
        }
        tandem
    }

    /// Waits until the sweep that each gateway makes at the start is over: it would tell of what a test then holds back.
    async fn swept_at_start(&self) {
        let gateways = self.gateways().count();
        let swept = || async { usize::try_from(self.rows("sweeps", "swept_at IS NOT NULL").await) == Ok(gateways) };
        self.until("the sweep at the start", swept).await;
    }

    /// The names of its gateways.
    pub fn gateways(&self) -> impl Iterator<Item = &str> {
        std::iter::once("stripe").chain(self.accounts.iter().map(|account| account.name))
    }

    /// The Stripe of a gateway.
    pub fn stripe_of(&self, gateway: &str) -> &Control {
        let account = self.accounts.iter().find(|account| account.name == gateway);
        account.map_or(&self.stripe, |account| &account.stripe)
    }

    /// Changes a gateway's key in its settings, and has it read them again.
    pub fn roll_key(&mut self, gateway: &str, key: &str) {
        let account = self.accounts.iter_mut().find(|account| account.name == gateway).expect("one of more gateways");
        account.key = key.to_owned();
        accounts::write_settings(&self.scratch, &self.accounts);
        self.process.signal(Signal::HUP);
    }

    /// Kills it at once, in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it as an operator would, and waits until it has ended.
    pub fn stop(&mut self) {
        self.process.stop(Signal::TERM, Duration::from_secs(20));
    }

    /// Tells it to stop, as an operator would.
    pub fn terminate(&mut self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits until it has ended in order.
    ///
    /// # Panics
    /// When it lives on, or ended otherwise.
    pub async fn ended_in_order(&mut self) {
        assert_eq!(self.ended().await.code(), Some(0), "it ended badly:\n{}", self.log());
    }

    /// Sets something in its environment, from its next start on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it again where it was killed, on the same data.
    pub async fn start_again(&mut self) {
        self.process = spawn(&self.env, self.without_gateway, self.port, self.scratch.path().join("tandem.log"));
        self.ready().await;
    }

    /// Stops it and starts it with its gateway.
    pub async fn turn_gateway_on(&mut self) {
        self.stop();
        self.without_gateway = false;
        self.start_again().await;
    }

    /// Starts it again, to die at that point of its work. Whether it gets ready before that depends on the point.
    pub async fn start_again_to_die_at(&mut self, point: &str) {
        self.start_again_to("TANDEM_TEST_CRASH_AT", point).await;
    }

    /// Starts it again; at that point of its work a task of it panics. Whether it gets ready before that depends on the point.
    pub async fn start_again_to_panic_at(&mut self, point: &str) {
        self.start_again_to("TANDEM_TEST_PANIC_AT", point).await;
    }

    async fn start_again_to(&mut self, end: &str, point: &str) {
        let mut env = self.env.clone();
        env.push((end.to_owned(), point.to_owned()));
        self.process = spawn(&env, self.without_gateway, self.port, self.scratch.path().join("tandem.log"));
        let mut looks = Looks::default();
        while self.process.ended().is_none() {
            let answer = self.http.get(self.at("/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            looks.pause().await;
        }
    }

    /// Waits until it has died by itself.
    ///
    /// # Panics
    /// When it lives on, or ended in order.
    pub async fn died(&mut self) {
        assert_eq!(self.ended().await.code(), None, "it ended in order:\n{}", self.log());
    }

    /// Waits until it has ended by itself, with an error.
    ///
    /// # Panics
    /// When it lives on, or ended in order.
    pub async fn failed(&mut self) {
        let code = self.ended().await.code();
        assert!(code.is_some_and(|code| code != 0), "it ended by {code:?}:\n{}", self.log());
    }

    /// Starts another `tandem serve` on the same data. Its webhooks still go to the first.
    pub fn start_another(&mut self) {
        let port = port::free().expect("a port");
        let log = self.scratch.path().join(format!("another-{}.log", self.others.len()));
        self.others.push(spawn(&self.env, self.without_gateway, port, log));
    }

    /// Kills one of those at once.
    pub fn kill_another(&mut self) {
        self.others.remove(0).kill();
    }

    /// Runs another of its commands on the same data; returns its exit code, and what it said.
    pub async fn command(&self, arguments: &[&str]) -> (Option<i32>, String) {
        self.command_with(&[], arguments).await
    }

    /// The same with more settings.
    pub async fn command_with(&self, env: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = tokio::process::Command::from(isolated(&binary()));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.envs(env.iter().copied()).kill_on_drop(true);
        let output = command.args(arguments).stdin(std::process::Stdio::null()).output().await.expect("tandem");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// When it has ended instead.
    pub async fn ready(&mut self) {
        let mut looks = Looks::default();
        loop {
            assert!(self.process.ended().is_none(), "tandem serve has ended:\n{}", self.log());
            let answer = self.http.get(self.at("/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            looks.pause().await;
        }
    }

    /// The address of a path.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Where a test may keep a file of that name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The HTTP client.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(Duration::from_secs(30), async {
            let mut looks = Looks::default();
            loop {
                if let Some(ended) = self.process.ended() {
                    return ended;
                }
                looks.pause().await;
            }
        });
        ended.await.unwrap_or_else(|_| panic!("it lives on:\n{}", self.log()))
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        tandem_local::process::tail(&self.scratch.path().join("tandem.log"), 60)
    }
}

fn client() -> reqwest::Client {
    // No certificates: everything here is plain HTTP, and a bare machine has none.
    let builder = reqwest::Client::builder().tls_certs_only([]).timeout(Duration::from_secs(15));
    builder.build().expect("an HTTP client")
}

fn spawn(env: &[(String, String)], without_gateway: bool, port: u16, log: PathBuf) -> Process {
    let mut command = command(&binary(), &[]);
    let heard = env.iter().filter(|(name, _)| !(without_gateway && name.starts_with("TANDEM_STRIPE__")));
    command.envs(heard.map(|(name, value)| (name, value)));
    command.env("TANDEM_HTTP__BIND", format!("127.0.0.1:{port}")).arg("serve");
    Process::start("tandem", command, &log).expect("tandem serve")
}

/// The one that `tandem-local test` names, else the one beside this test's own folder in `target`.
pub(crate) fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os(test::TANDEM) {
        return named.into();
    }
    let here = std::env::current_exe().expect("a path");
    let folder = here.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    let binary = folder.join("tandem");
    assert!(binary.exists(), "{} is missing: run `cargo build --bins` first", binary.display());
    binary
}
