//! Runs Tandem and all it needs on this machine.

mod run;
mod with_servers;

use std::ffi::OsString;
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
    /// TANDEM_TEST_NATS_URL, and end with its exit code. If `tandem` is built beside this, TANDEM_TEST_TEMPLATE names a
    /// database that it has migrated. RUST_TEST_THREADS, if not set, is five a processor, 12 at most.
    Test {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run { folder } => run::run(folder),
        Command::Test { command } => with_servers::run(&command),
    };
    done.unwrap_or_else(|error| {
        eprintln!("tandem-local: {error:#}");
        ExitCode::FAILURE
    })
}
