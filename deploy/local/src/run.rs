//! `tandem-local run`, which is `make run`: starts everything, says where it is, and keeps it running.

mod banner;
mod checkout;
mod env_file;
mod follow;
mod mode;
mod ports;
mod services;
mod signals;
mod supervise;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tandem_local::{NatsOptions, Postgres, PostgresOptions, create_database, tools, workspace};

use checkout::Checkout;
use mode::Mode;
use ports::Ports;
use services::{Program, Service};
use signals::Signals;

/// Where everything can be reached.
struct Places {
    /// The folder with data, logs and `env`.
    folder: PathBuf,
    mode: Mode,
    tandem_url: String,
    /// The local Stripe; `None` when a key for Stripe itself is set.
    stripe_url: Option<String>,
    nats_url: String,
    database_url: String,
    /// Folders with `psql`, `nats-server`, `tandem`.
    programs: Vec<PathBuf>,
}

/// Runs until a signal says to stop. `folder` is `.tandem` of the checkout if not given.
pub fn run(folder: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let folder = match folder {
        Some(folder) => std::path::absolute(folder)?,
        None => workspace()
            .context("this is no checkout of Tandem: name a folder for data and logs with --folder")?
            .join(".tandem"),
    };
    let mode = Mode::of(env::var("STRIPE_SECRET_KEY").ok())?;
    let tools = tools()?;
    let programs = env::current_exe()?.parent().context("this program lies in no folder")?.to_path_buf();

    let checkout = Checkout::lock(&folder)?;
    let signals = Signals::listen()?;
    let ports = Ports::choose(&folder, env::var("TANDEM_HTTP__BIND").ok(), mode.is_local())?;
    let data = folder.join("data").join(mode.folder());
    // Before nats-server makes it for our eyes only: PostgreSQL may have to pass as another user.
    std::fs::create_dir_all(&data).with_context(|| format!("could not make {}", data.display()))?;

    let mut running: Vec<Box<dyn Service>> = Vec::new();
    let started = (|| -> anyhow::Result<Places> {
        let postgres = Postgres::start(
            &tools,
            PostgresOptions {
                port: ports.postgres,
                log: Some(checkout.log("postgres")?),
                ..PostgresOptions::new(data.join("postgres"))
            },
        )?;
        let server_url = postgres.url("postgres");
        running.push(Box::new(postgres));
        let database_url = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(create_database(&server_url, "tandem"))?;

        let nats = tandem_local::Nats::start(
            &tools,
            NatsOptions {
                port: ports.nats,
                log: Some(checkout.log("nats")?),
                asks_for_password: true,
                ..NatsOptions::new(data.join("nats"))
            },
        )?;
        let nats_url = nats.url();
        running.push(Box::new(nats));

        let tandem_url = ports.tandem_url();
        // Its own for each checkout: whoever knows it can forge what Stripe tells, and a page in a browser can send it.
        let secret_file = data.join("stripe.webhook_secret");
        let webhook_secret = tandem_local::secret(&secret_file, "whsec_")?;
        let webhook = format!("{tandem_url}/webhooks/stripe=@{}", secret_file.display());
        let stripe_url = mode.is_local().then(|| format!("http://127.0.0.1:{}", ports.stripe));
        if let Some(url) = &stripe_url {
            let mut sim = Program::new("stripe-sim", programs.join("stripe-sim"), checkout.log("stripe-sim")?, url);
            sim.arguments(["--port", &ports.stripe.to_string(), "--webhook", &webhook, "--state"]);
            sim.arguments([data.join("stripe.json")]);
            sim.start(&signals)?;
            running.push(Box::new(sim));
        }

        let log = checkout.log("tandem")?;
        let mut tandem = Program::new("tandem", programs.join("tandem"), log.clone(), &format!("{tandem_url}/healthz"));
        tandem.arguments(["serve"]);
        tandem.variable("TANDEM_DATABASE__URL", &database_url);
        tandem.variable("TANDEM_NATS__URL", &nats_url);
        tandem.variable("TANDEM_HTTP__BIND", &ports.bind);
        for (name, value) in mode.variables(stripe_url.as_deref(), &webhook_secret) {
            tandem.variable(name, &value);
        }
        follow::warnings(&log)?;
        tandem.start(&signals)?;
        running.push(Box::new(tandem));

        let mut folders = vec![programs.clone(), tools.postgres_bin.clone()];
        folders.extend(tools.nats_server.parent().map(PathBuf::from));
        Ok(Places { folder: folder.clone(), mode, tandem_url, stripe_url, nats_url, database_url, programs: folders })
    })();

    let done = started.and_then(|places| {
        ports.remember(&folder)?;
        env_file::write(&places)?;
        if !signals.stop_asked() {
            checkout.announce(&places.tandem_url)?;
            println!("{}", banner::text(&places, &ports));
            supervise::until_stopped(&mut running, &signals);
        }
        Ok(())
    });
    // Last started, first stopped: whoever uses a server ends before it.
    for service in running.iter_mut().rev() {
        println!("stopping {}", service.name());
        service.stop();
    }
    // A stop that came while something was still starting is no failure.
    if signals.stop_asked() { Ok(ExitCode::SUCCESS) } else { done.map(|()| ExitCode::SUCCESS) }
}
