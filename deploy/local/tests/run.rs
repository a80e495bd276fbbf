//! `make run`, with stand-ins for the two programs that it supervises.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection};
use tandem_local::process::isolated;
use tandem_local::{Scratch, port, tools};

/// A folder with `tandem-local` and the stand-ins beside it, and its `.tandem`.
struct Checkout {
    scratch: Scratch,
}

struct Run {
    child: Child,
    lines: mpsc::Receiver<String>,
    env: HashMap<String, String>,
}

impl Checkout {
    fn new() -> Self {
        let scratch = Scratch::new().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_tandem-local"));
        let stand_in = stand_in();
        for (from, to) in [(program, "tandem-local"), (&stand_in, "tandem"), (&stand_in, "stripe-sim")] {
            // By a program of its own: what another test starts meanwhile would inherit a file that is open here to be written, and
            // nobody can start that then.
            let copied = isolated(Path::new("cp")).arg(from).arg(scratch.path().join(to)).status();
            assert!(copied.unwrap().success());
        }
        let checkout = Self { scratch };
        // As if from last time: the usual ports are for people, and all tests at once would want them.
        let ports = ["http", "stripe", "nats", "postgres"].map(|name| format!("{name}={}\n", port::free().unwrap()));
        std::fs::create_dir(checkout.folder()).unwrap();
        std::fs::write(checkout.folder().join("ports"), ports.concat()).unwrap();
        checkout
    }

    fn folder(&self) -> PathBuf {
        self.scratch.path().join(".tandem")
    }

    fn command(&self) -> Command {
        let mut command = isolated(&self.program());
        command.args(["run", "--folder"]).arg(self.folder());
        prepared(command)
    }

    /// The same with a key, in a shell that knows what runs here.
    fn command_in_a_shell(&self, key: &str) -> Command {
        let mut command = isolated(Path::new("sh"));
        let script = r#"set -a; . "$1/env"; set +a; STRIPE_SECRET_KEY=$2 exec "$0" run --folder "$1""#;
        command.args(["-c", script]).args([self.program(), self.folder()]).arg(key);
        prepared(command)
    }

    fn program(&self) -> PathBuf {
        self.scratch.path().join("tandem-local")
    }

    /// Runs it until it says that all is up.
    fn start(&self) -> Run {
        self.start_by(self.command())
    }

    fn start_by(&self, mut command: Command) -> Run {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let mut run = Run { child, lines, env: HashMap::new() };
        run.expect("Tandem runs.");
        run.expect("Ctrl-C stops everything");
        let text = std::fs::read_to_string(self.folder().join("env")).unwrap();
        run.env = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
            .collect();
        run
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder().join("log").join(format!("{name}.log"))).unwrap()
    }
}

impl Run {
    /// Waits for a line; a run that hangs is cut off by the generous limit.
    fn expect(&mut self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(120)) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen = format!("{seen}{line}\n"),
                Err(_) => panic!("no line with {text:?} in:\n{seen}"),
            }
        }
    }

    fn stop(mut self) -> Vec<String> {
        signal(self.child.id(), Signal::TERM);
        assert!(self.child.wait().unwrap().success());
        self.lines.iter().collect()
    }

    fn pid_of(&self, name: &str) -> u32 {
        get(&self.env[name]).parse().unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn it_starts_all_and_goes_on_with_its_data() {
    let checkout = Checkout::new();
    let run = checkout.start();
    let first = run.env.clone();
    let started = checkout.log("stripe-sim");
    assert!(
        started.contains("/webhooks/stripe=@") && !started.contains("whsec_"),
        "its secret is in no log: {started}"
    );
    assert!(checkout.log("tandem").contains("started: serve"));
    let mut connection = PgConnection::connect(&first["DATABASE_URL"]).await.unwrap();
    sqlx::query("CREATE TABLE kept (x int)").execute(&mut connection).await.unwrap();

    let said = run.stop();
    let order: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("stopping ")).collect();
    assert_eq!(order, ["tandem", "stripe-sim", "nats-server", "PostgreSQL"]);
    assert!(PgConnection::connect(&first["DATABASE_URL"]).await.is_err());

    let run = checkout.start();
    assert_eq!(run.env, first, "the same ports and password");
    let mut connection = PgConnection::connect(&run.env["DATABASE_URL"]).await.unwrap();
    sqlx::query("SELECT x FROM kept").execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn whatever_is_killed_comes_back() {
    let checkout = Checkout::new();
    let mut run = checkout.start();
    for (name, url) in [("tandem", "TANDEM_URL"), ("stripe-sim", "STRIPE_API_BASE")] {
        let before = run.pid_of(url);
        signal(before, Signal::KILL);
        run.expect(&format!("{name} runs again"));
        eventually(|| try_get(&run.env[url]).is_some());
        assert_ne!(run.pid_of(url), before);
    }
    let pid_file = checkout.folder().join("data/local/postgres/postmaster.pid");
    let postmaster = std::fs::read_to_string(pid_file).unwrap().lines().next().unwrap().parse().unwrap();
    signal(postmaster, Signal::KILL);
    run.expect("PostgreSQL runs again");
    PgConnection::connect(&run.env["DATABASE_URL"]).await.unwrap();
}

#[test]
fn a_key_for_stripe_itself_goes_nowhere_else() {
    let checkout = Checkout::new();
    let local = checkout.start();
    let url = local.env["STRIPE_API_BASE"].clone();
    local.stop();
    assert!(checkout.log("tandem").contains(&format!("calls Stripe at {url}/")));

    checkout.start_by(checkout.command_in_a_shell("rk_test_51")).stop();
    let log = checkout.log("tandem");
    assert_eq!(log.lines().filter_map(|line| line.strip_prefix("calls Stripe at ")).next_back(), Some(""), "{log}");
}

/// Fails if a client of ours heeds what tells of a PostgreSQL of the user's.
#[test]
fn another_postgresql_of_the_users_is_left_alone() {
    let checkout = Checkout::new();
    let mut command = checkout.command();
    command.envs([("PGSSLMODE", "verify-full"), ("PGOPTIONS", "-c nothing=1"), ("PGHOSTADDR", "192.0.2.1")]);
    checkout.start_by(command).stop();
}

#[test]
fn a_second_run_in_one_folder_is_refused() {
    let checkout = Checkout::new();
    let run = checkout.start();
    let error = failure(checkout.command().output().unwrap());
    assert!(error.contains("already runs") && error.contains(&run.env["TANDEM_URL"]), "{error}");
}

#[test]
fn a_taken_port_is_left_to_its_owner() {
    let checkout = Checkout::new();
    let run = checkout.start();
    let first = run.env.clone();
    run.stop();
    let taken = TcpListener::bind(first["TANDEM_URL"].trim_start_matches("http://")).unwrap();
    let run = checkout.start();
    assert_ne!(run.env["TANDEM_URL"], first["TANDEM_URL"]);
    assert_eq!(run.env["NATS_URL"], first["NATS_URL"], "the password stays, too");
    drop(taken);
}

#[test]
fn warnings_reach_the_terminal_and_the_rest_does_not() {
    let checkout = Checkout::new();
    let mut child = checkout.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains("this one is for the terminal"), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_program_that_ends_at_once_fails_the_run_and_says_why() {
    let checkout = Checkout::new();
    let tandem = checkout.scratch.path().join("tandem");
    std::fs::remove_file(&tandem).unwrap();
    assert!(failure(checkout.command().output().unwrap()).contains("is not built"));
    std::fs::write(&tandem, "#!/bin/sh\necho the reason\nexit 4\n").unwrap();
    std::fs::set_permissions(&tandem, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(failure(checkout.command().output().unwrap()).contains("the reason"));
}

/// Whoever may connect may write into the stream and read all customers in it.
#[test]
fn nats_server_asks_for_the_password_that_the_env_file_has() {
    let checkout = Checkout::new();
    let run = checkout.start();
    let url = run.env["NATS_URL"].trim_start_matches("nats://").to_owned();
    let (user, address) = url.rsplit_once('@').unwrap();
    let (name, password) = user.split_once(':').unwrap();
    assert_eq!((name, password.len()), ("tandem", 33));
    assert_eq!(run.env["TANDEM_NATS__URL"], run.env["NATS_URL"]);
    let answer = |connect: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "CONNECT {{\"verbose\":false{connect}}}\r\nPING\r\n").unwrap();
        let lines = BufReader::new(stream).lines().map_while(Result::ok).find(|line| !line.starts_with("INFO"));
        lines.unwrap_or_default()
    };
    assert_eq!(answer(""), "-ERR 'Authorization Violation'");
    assert_eq!(answer(&format!(",\"user\":\"tandem\",\"pass\":\"{password}\"")), "PONG");
    for file in ["nats.password", "nats.conf"] {
        let path = checkout.folder().join("data/local").join(file);
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    run.stop();
}

#[test]
fn the_env_file_can_be_read_by_a_shell() {
    let checkout = Checkout::new();
    let run = checkout.start();
    // Without what a user's own psqlrc says.
    let script = format!(
        "set -eu; set -a; . '{}/env'; psql -X \"$DATABASE_URL\" -Atc 'SELECT 1'; printenv NATS_URL",
        checkout.folder().display()
    );
    let output = isolated(Path::new("sh")).args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("1\n{}\n", run.env["NATS_URL"]), "{output:?}");
}

/// With the servers of the tests.
fn prepared(mut command: Command) -> Command {
    let tools = tools().unwrap();
    command.env("TANDEM_NATS_BIN", tools.nats_server).env("TANDEM_PG_BIN", tools.postgres_bin);
    command
}

/// The stand-in, compiled once: it needs nothing but the standard library, and is no part of the workspace's build.
fn stand_in() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run/stand_in.rs");
            let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand_in");
            let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
            let status = Command::new(rustc).args(["--edition=2024", "-o"]).args([&program, &source]).status().unwrap();
            assert!(status.success());
            program
        })
        .clone()
}

fn failure(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process as i32).unwrap(), signal).unwrap();
}

fn get(url: &str) -> String {
    try_get(url).unwrap()
}

fn try_get(url: &str) -> Option<String> {
    let mut stream = TcpStream::connect(url.strip_prefix("http://")?).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

fn eventually(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_millis(5));
    }
}
