//! The `tandem` command: its subcommands and their exit codes.

mod check;
mod erase;
mod erasures;
mod migrate;
mod out;
mod pause;
mod plan;
mod rebuild;
mod report;
mod serve;
mod sides;
mod status;
mod tail;
mod verify;

use std::fmt;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tandem_domain::CustomerId;

use self::out::in_lines;
use crate::config::{Config, LOG};
use crate::connect;
use crate::log::chain;

const EXAMPLES: &str = "\
Examples:
  tandem serve                                  serve the API and keep gateways in step
  tandem status                                 how far everything is
  tandem tail --customer 0192f0c1-...           watch one customer
  tandem verify stripe                          compare all customers on both sides
  tandem plan stripe                            match customers that exist on both sides already
  curl -s localhost:8080/customers -H 'content-type: application/json' -d '{\"name\":\"Ada\"}'

Settings come from defaults, then a file (--config, TANDEM_CONFIG or ./tandem.toml), then the environment:
  TANDEM_DATABASE__URL    postgres://user:password@host:port/database (needed)
  TANDEM_NATS__URL        nats://host:port, default nats://127.0.0.1:4222
  TANDEM_HTTP__BIND       default 127.0.0.1:8080; anything but loopback needs TANDEM_API_KEYS
  STRIPE_SECRET_KEY       sk_... or rk_...; without it the Stripe gateway is off
  STRIPE_WEBHOOK_SECRET   whsec_...; without it changes in Stripe arrive by the sweep alone
  TANDEM_LOG              what is logged, default info; TANDEM_LOG_FORMAT=json for machines

Exit codes:
  0  done, or healthy, or stopped as told
  1  failed: the message says why
  2  both sides differ (verify), or the command line is wrong
  3  looked, and found something wrong (status, stream check)";

/// Keeps a company's customer catalog and Stripe's the same, both ways.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, after_help = EXAMPLES)]
struct Arguments {
    /// The settings' file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API, and do everything else that Tandem does, until told to stop
    ///
    /// Makes and upgrades all tables first. Many may run side by side. SIGTERM or Ctrl-C lets open requests end; a second
    /// one ends at once. SIGHUP reads the settings anew and takes over the gateways' keys and webhook secrets.
    Serve,
    /// Make and upgrade all tables, and end
    ///
    /// `tandem serve` does it, too. Safe while others run.
    Migrate,
    /// Build a read model anew from the log, beside the one that is read, then swap them
    ///
    /// Reads go on meanwhile. Of use after a change of what the read model shows.
    Rebuild {
        /// Which: customers
        projection: Projection,
    },
    /// Say how far relay, projectors and gateways are, and what waits for a person
    ///
    /// Exit code 3 if something is wrong or far behind. What a person paused is shown, and is nothing wrong; what the guard
    /// paused is.
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Follow what happens, one line an event
    ///
    /// From now on, or after a position: 0 shows everything.
    Tail {
        /// Only this customer
        #[arg(long, value_name = "ID")]
        customer: Option<CustomerId>,
        /// Begin after this position
        #[arg(long, value_name = "POSITION")]
        after: Option<u64>,
    },
    /// Compare every living customer with its object at a gateway, field by field
    ///
    /// What is being changed just now is no drift. Changes nothing without --repair. Exit code 0: both sides are the same;
    /// 2: they differ (or the command line is wrong).
    Verify(verify::Verify),
    /// Read both sides, and say which customers and objects belong together
    ///
    /// Of use where both sides have customers already. Changes nothing: `tandem apply` does, once the plan was read.
    Plan(plan::Planning),
    /// Carry out what a plan says, and what has not changed since
    ///
    /// May be stopped at any time, and goes on when it is called again. `tandem serve` does what it leads to.
    Apply(plan::Applying),
    /// Let a gateway stand still: edits meanwhile wait and coalesce
    Pause(pause::Pausing),
    /// Let a gateway go on that was paused, by a person or by the guard
    Resume(pause::Resuming),
    /// Make all that is known of a deleted customer blank, for ever
    ///
    /// In the log, in the stream, in what is read, and in what gateways were told. That it was there stays, with its ids. What
    /// Stripe keeps is Stripe's. A running `tandem serve` is needed. Backups keep the text until they expire.
    Erase(erase::Erasing),
    /// Keep who was erased apart from the database's backups, and erase them again after one was restored
    #[command(subcommand)]
    Erasures(erasures::Erasures),
    /// Look after the JetStream stream
    #[command(subcommand)]
    Stream(Stream),
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Projection {
    Customers,
}

#[derive(Debug, Subcommand)]
enum Stream {
    /// Compare every event in PostgreSQL with its message in JetStream
    ///
    /// Reads all of both and changes nothing. Exit code 3 if one is missing or differs.
    Check {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Throw the stream away and fill a new one from PostgreSQL
    ///
    /// Of use when the stream is of another history, such as after restoring a backup of the database; when somebody else has
    /// published into it; and after an upgrade from a version whose messages have no MAC. PostgreSQL has every event, so none is lost;
    /// readers outside of Tandem begin anew. Whoever the old stream says was erased since the backup is erased again first. Says
    /// which read models may show what no event says.
    Rebuild {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Well,
    /// It looked, and found something wrong.
    FoundTrouble,
    /// It compared both sides, and they differ.
    FoundDrift,
}

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(run(arguments));
    // Nothing of ours blocks for long; what does must not keep the process.
    runtime.shutdown_background();
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::FoundTrouble) => ExitCode::from(3),
        Ok(Ended::FoundDrift) => ExitCode::from(2),
        Err(error) => failed(error.as_ref()),
    }
}

async fn run(Arguments { config, command }: Arguments) -> Result<Ended, Failure> {
    let file = config;
    let config = Config::load(file.clone())?;
    let quiet = !matches!(command, Command::Serve);
    // The other commands talk to a person: their log is for what goes wrong. That reading all customers takes long is no news.
    let filter = if quiet && config.log == LOG { "warn,sqlx::query=error" } else { &config.log };
    crate::log::start(filter, config.log_format).map_err(|error| Told(format!("TANDEM_LOG: {error}")))?;
    // Those two look by themselves.
    if !matches!(command, Command::Serve | Command::Migrate) {
        connect::probe(&connect::options(&config)?).await?;
    }
    match command {
        Command::Serve => serve::run(config, file).await,
        Command::Migrate => migrate::run(&config).await,
        Command::Rebuild { projection: Projection::Customers } => rebuild::customers(&config).await,
        Command::Status { json } => status::run(&config, json).await,
        Command::Tail { customer, after } => tail::run(&config, customer, after).await,
        Command::Verify(asked) => verify::run(&config, asked).await,
        Command::Plan(asked) => plan::plan(&config, asked).await,
        Command::Apply(asked) => plan::carry_out(&config, asked).await,
        Command::Pause(asked) => pause::pause_gateway(&config, &asked).await,
        Command::Resume(asked) => pause::resume_gateway(&config, &asked).await,
        Command::Erase(asked) => erase::run(&config, asked).await,
        Command::Erasures(asked) => erasures::run(&config, asked).await,
        Command::Stream(Stream::Check { json }) => check::check(&config, json).await,
        Command::Stream(Stream::Rebuild { yes }) => check::rebuild(&config, yes).await,
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A failure that is only told.
#[derive(Debug)]
struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

/// Asks a person on the terminal.
///
/// # Errors
/// It was not a yes.
fn confirm(question: &str) -> Result<(), Failure> {
    eprint!("{} [y/N] ", in_lines(question));
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Told("nothing was changed; --yes goes on without asking".to_owned()).into()),
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("tandem: {}", in_lines(&chain(error)));
    if std::iter::successors(Some(error), |error| error.source()).any(lacks_tables) {
        eprintln!("The database has no tables of Tandem's yet: `tandem migrate` or `tandem serve` makes them.");
    }
    ExitCode::FAILURE
}

fn lacks_tables(error: &(dyn std::error::Error + 'static)) -> bool {
    // undefined_table
    matches!(error.downcast_ref(), Some(sqlx::Error::Database(database)) if database.code().as_deref() == Some("42P01"))
}
