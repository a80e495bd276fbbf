//! What a run consists of: servers and programs that can be watched, started again and stopped.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail};
use tandem_local::process::{Process, command};
use tandem_local::{Nats, Postgres, Signal};

use super::signals::Signals;

/// Migrations run before Tandem answers.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Longest wait for a program to end; `tandem serve` asks for 22 s with the usual settings, when much is open.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// One part of a run.
pub trait Service {
    /// Its name in messages.
    fn name(&self) -> &str;
    /// How it ended, or `None` while it runs.
    fn ended(&mut self) -> Option<ExitStatus>;
    /// Starts it again with its data, where it was.
    fn restart(&mut self) -> anyhow::Result<()>;
    /// Ends it in order.
    fn stop(&mut self);
}

impl Service for Postgres {
    fn name(&self) -> &str {
        "PostgreSQL"
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.process().map_or(Some(ExitStatus::default()), Process::ended)
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        Ok(Postgres::restart(self)?)
    }

    fn stop(&mut self) {
        Postgres::stop(self);
    }
}

impl Service for Nats {
    fn name(&self) -> &str {
        "nats-server"
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.process().map_or(Some(ExitStatus::default()), Process::ended)
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        Ok(Nats::restart(self)?)
    }

    fn stop(&mut self) {
        Nats::stop(self);
    }
}

/// A program of this workspace, built before.
pub struct Program {
    name: &'static str,
    path: PathBuf,
    log: PathBuf,
    answers_at: String,
    arguments: Vec<OsString>,
    variables: Vec<(&'static str, String)>,
    process: Option<Process>,
}

impl Program {
    /// A program that, once up, answers a GET of `answers_at` with 200.
    pub fn new(name: &'static str, path: PathBuf, log: PathBuf, answers_at: &str) -> Self {
        let (arguments, variables) = (vec![], vec![]);
        Self { name, path, log, answers_at: answers_at.to_owned(), arguments, variables, process: None }
    }

    /// Adds arguments.
    pub fn arguments(&mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) {
        self.arguments.extend(arguments.into_iter().map(Into::into));
    }

    /// Adds a variable to its environment.
    pub fn variable(&mut self, name: &'static str, value: &str) {
        self.variables.push((name, value.to_owned()));
    }

    /// Starts it and waits until it answers, or a signal says to stop.
    pub fn start(&mut self, signals: &Signals) -> anyhow::Result<()> {
        if !self.path.is_file() {
            bail!("{} is not built: `make run` builds it, or `cargo build --workspace --bins`", self.path.display());
        }
        self.launch()?;
        let url = self.answers_at.clone();
        let process = self.process.as_mut().context("it was just started")?;
        Ok(process.wait_until(START_LIMIT, || signals.stop_asked() || answers(&url))?)
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        let mut command = command(&self.path, &[]);
        // What the user has set is meant for it.
        command.envs(std::env::vars_os()).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.args(&self.arguments);
        // The log is a file, not a terminal.
        command.env("NO_COLOR", "1");
        self.process = Some(Process::start(self.name, command, &self.log)?);
        Ok(())
    }
}

impl Service for Program {
    fn name(&self) -> &str {
        self.name
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().map_or(Some(ExitStatus::default()), Process::ended)
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        self.launch()
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::TERM, STOP_LIMIT);
        }
    }
}

fn answers(url: &str) -> bool {
    let get = || -> Option<bool> {
        let (host, path) = url.strip_prefix("http://")?.split_once('/').unwrap_or((url.strip_prefix("http://")?, ""));
        let mut stream = TcpStream::connect(host).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).ok()?;
        Some(answer.ends_with(b" 200"))
    };
    get().unwrap_or(false)
}
