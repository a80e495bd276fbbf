//! A private nats-server with JetStream.

use std::fs::DirBuilder;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::error::io;
use crate::postgres::write_secret;
use crate::process::{Process, beside, command};
use crate::secret::secret;
use crate::{Error, Tools, port};

/// Reading a large stream back may take this long.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How a server is to run.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Where JetStream's data is; made if missing.
    pub store_dir: PathBuf,
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Where its log goes; `None`: beside the data, `<store_dir>.log`.
    pub log: Option<PathBuf>,
    /// A configuration file for what has no flag (`sync_interval`, accounts); `None` for nats-server's own defaults.
    pub config: Option<PathBuf>,
    /// It asks for the user `tandem` and a password, which is made once, and lies beside the data in `<store_dir>.password`. Not
    /// together with a configuration file.
    pub asks_for_password: bool,
}

impl NatsOptions {
    /// A server with this data, on a free port, with nats-server's own defaults.
    pub fn new(store_dir: impl Into<PathBuf>) -> Self {
        Self { store_dir: store_dir.into(), port: 0, log: None, config: None, asks_for_password: false }
    }
}

/// A running (or killed) server, on 127.0.0.1 only. Killed when dropped, and when this process ends.
#[derive(Debug)]
pub struct Nats {
    program: PathBuf,
    options: NatsOptions,
    log: PathBuf,
    password: Option<String>,
    process: Option<Process>,
}

impl Nats {
    /// Starts a server and waits until it answers with JetStream. Blocks for as long.
    ///
    /// # Errors
    /// With the end of its log if it does not start.
    pub fn start(tools: &Tools, options: NatsOptions) -> Result<Self, Error> {
        let log = options.log.clone().unwrap_or_else(|| beside(&options.store_dir, "log"));
        // For our eyes only: the stream holds customers' data.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&options.store_dir);
        made.map_err(io(format!("make {}", options.store_dir.display())))?;
        let any_port = options.port == 0;
        let mut options = options;
        // A letter first: nats-server would read a number.
        let password =
            if options.asks_for_password { Some(secret(&beside(&options.store_dir, "password"), "p")?) } else { None };
        if let Some(password) = &password {
            let config = beside(&options.store_dir, "conf");
            write_secret(&config, &format!("authorization {{ user: tandem, password: \"{password}\" }}"))?;
            options.config = Some(config);
        }
        let mut server = Self { program: tools.nats_server.clone(), options, log, password, process: None };
        let mut attempts = if any_port { 5 } else { 1 };
        loop {
            if any_port {
                server.options.port = port::free()?;
            }
            attempts -= 1;
            match server.launch() {
                Ok(()) => return Ok(server),
                Err(Error::Ended { tail, .. }) if attempts > 0 && tail.contains("address already in use") => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where clients connect, with the password, if it asks for one.
    #[must_use]
    pub fn url(&self) -> String {
        let user = self.password.as_ref().map(|password| format!("tandem:{password}@")).unwrap_or_default();
        format!("nats://{user}127.0.0.1:{}", self.options.port)
    }

    /// Its port on 127.0.0.1; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.options.port
    }

    /// Where its data is.
    #[must_use]
    pub fn store_dir(&self) -> &Path {
        &self.options.store_dir
    }

    /// Ends it at once, by SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::TERM, Duration::from_secs(15));
        }
    }

    /// Starts it again with its data on its port, after stopping it if it runs. Blocks until it answers.
    ///
    /// # Errors
    /// With the end of its log if it does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.stop();
        self.launch()
    }

    /// The process, for a supervisor; `None` after a kill or stop.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    fn launch(&mut self) -> Result<(), Error> {
        let mut command = command(&self.program, &[]);
        command.args(["-a", "127.0.0.1", "-p", &self.options.port.to_string(), "-js", "-sd"]);
        command.arg(&self.options.store_dir);
        if let Some(config) = &self.options.config {
            command.arg("-c").arg(config);
        }
        let mut process = Process::start("nats-server", command, &self.log)?;
        let port = self.options.port;
        process.wait_until(START_LIMIT, || answers(port))?;
        self.process = Some(process);
        Ok(())
    }
}

/// Whether a server greets with `INFO` and has JetStream.
fn answers(port: u16) -> bool {
    let greeting = || -> std::io::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    greeting().is_ok_and(|line| line.starts_with("INFO ") && line.contains(r#""jetstream":true"#))
}
