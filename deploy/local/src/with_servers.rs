//! `tandem-local test`: a command between servers that start before it and stop after it.

use std::env;
use std::ffi::OsString;
use std::num::NonZero;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use tandem_local::process::isolated;
use tandem_local::{create_database, test};

/// How many tests a test binary runs at once ("The rustc book", Tests).
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// Runs the command and returns its exit code; 128 + the signal's number if one ended it, as a shell would.
pub fn run(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let (program, arguments) = command.split_first().context("a command is needed")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Ctrl-C reaches the command, too: it ends, then we stop the servers.
        let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let mut terminations = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;

        let mut command = tokio::process::Command::from(Command::new(program));
        command.args(arguments);
        if env::var_os(TEST_THREADS).is_none() {
            command.env(TEST_THREADS, test_threads().to_string());
        }
        let tandem = env::current_exe()?.with_file_name("tandem");
        if env::var_os(test::TANDEM).is_none() && tandem.is_file() {
            command.env(test::TANDEM, &tandem);
        }
        let (mut postgres, mut nats) = (None, None);
        if env::var_os(test::DATABASE_URL).is_none() {
            let server = postgres.insert(test::start_postgres()?);
            command.env(test::DATABASE_URL, server.url("postgres"));
            command.env_remove(test::TEMPLATE);
            if let Some(template) = template(&tandem, &server.url("postgres")).await? {
                command.env(test::TEMPLATE, template);
            }
        }
        if env::var_os(test::NATS_URL).is_none() {
            let server = nats.insert(test::start_nats()?);
            command.env(test::NATS_URL, server.url());
        }

        let mut child = command.spawn().with_context(|| format!("could not run {}", program.display()))?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                _ = interrupts.recv() => {}
                // A supervisor's polite kill comes to us alone: pass it on.
                _ = terminations.recv() => child.start_kill()?,
            }
        };
        Ok(ExitCode::from(exit_code(status)))
    })
}

/// Five a processor, since a test waits for its servers most of its time; no more than PostgreSQL has connections for, of which
/// a test with a service needs some 30.
fn test_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    (5 * processors).min(12)
}

/// Makes the database that tests copy, if the `tandem` beside this program is built: migrating each would be a third of what
/// PostgreSQL has to do for them.
async fn template(tandem: &Path, server_url: &str) -> anyhow::Result<Option<&'static str>> {
    const NAME: &str = "tandem_template";
    if !tandem.is_file() {
        return Ok(None);
    }
    let url = create_database(server_url, NAME).await?;
    let mut migrate = tokio::process::Command::from(isolated(tandem));
    migrate.arg("migrate").env("TANDEM_DATABASE__URL", url);
    // Nor may a `tandem.toml` here say anything.
    migrate.current_dir(tandem.parent().unwrap_or(Path::new("/"))).kill_on_drop(true);
    let output = migrate.output().await.with_context(|| format!("could not run {}", tandem.display()))?;
    if !output.status.success() {
        bail!("`tandem migrate` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(Some(NAME))
}

fn exit_code(status: std::process::ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
