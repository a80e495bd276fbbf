//! `tandem-local test`: a command between servers that start before it and stop after it.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use anyhow::Context;
use tandem_local::test;

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
        let (mut postgres, mut nats) = (None, None);
        if env::var_os(test::DATABASE_URL).is_none() {
            let server = postgres.insert(test::start_postgres()?);
            command.env(test::DATABASE_URL, server.url("postgres"));
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

fn exit_code(status: std::process::ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
