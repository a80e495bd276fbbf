//! Runs Tandem and all it needs on this machine.

mod run;
mod with_servers;

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Starts Tandem, or only the servers it needs, on this machine.
#[derive(Parser)]
#[command(name = "tandem-local", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start PostgreSQL, nats-server, the local Stripe (unless STRIPE_SECRET_KEY is set) and Tandem, and keep them running.
    Run {
        /// Where data, logs and the file `env` go; `.tandem` of the checkout if not given.
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// Run a command with a PostgreSQL and a nats-server of its own, named by TANDEM_TEST_DATABASE_URL and
    /// TANDEM_TEST_NATS_URL, and end with its exit code. If `tandem` is built beside this, TANDEM_TEST_TANDEM names it, and
    /// TANDEM_TEST_TEMPLATE a database that it has migrated. RUST_TEST_THREADS, if not set, is five a processor, 12 at most.
    Test {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    forget_other_postgres();
    let done = match Arguments::parse().command {
        Command::Run { folder } => run::run(folder),
        Command::Test { command } => with_servers::run(&command),
    };
    done.unwrap_or_else(|error| {
        eprintln!("tandem-local: {error:#}");
        ExitCode::FAILURE
    })
}

/// `PGHOST`, `PGSSLMODE` and their like tell of a PostgreSQL of the user's, and every client in this process and below would heed
/// them. Here there is another one: this process starts over without them.
fn forget_other_postgres() {
    let is_about_postgres = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with("PG"));
    let about_postgres: Vec<OsString> = env::vars_os().map(|(name, _)| name).filter(is_about_postgres).collect();
    let (Ok(program), false) = (env::current_exe(), about_postgres.is_empty()) else { return };
    let mut again = std::process::Command::new(program);
    again.args(env::args_os().skip(1));
    for name in about_postgres {
        again.env_remove(name);
    }
    // It returns only if it could not; then they are heeded.
    let error = again.exec();
    eprintln!("tandem-local: could not start over without PG* in the environment: {error}");
}
