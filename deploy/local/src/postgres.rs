//! A private PostgreSQL server.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::account::Account;
use crate::error::io;
use crate::process::{Process, beside, isolated, running_program, setting};
use crate::{Error, Tools, port};

/// Recovery after a crash may take this long.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How a server is to run.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Where its data is; made if missing. Its superuser's password lies beside it, in `<data_dir>.password`.
    pub data_dir: PathBuf,
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Where its log goes; `None`: beside the data, `<data_dir>.log`.
    pub log: Option<PathBuf>,
    /// Whether new data is on disk before the first start. `false` only for data that may be lost.
    pub sync_new_data: bool,
    /// Settings of `postgresql.conf` that differ from PostgreSQL's defaults.
    pub settings: Vec<(&'static str, String)>,
}

impl PostgresOptions {
    /// A server with this data, on a free port, with PostgreSQL's own defaults, but for one: what its processes share is among
    /// its data, and goes with that. Elsewhere it outlives a server that is killed.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let settings = vec![("dynamic_shared_memory_type", "mmap".to_owned())];
        Self { data_dir: data_dir.into(), port: 0, log: None, sync_new_data: true, settings }
    }
}

/// A running (or killed) server, on 127.0.0.1 only, with a password. Killed when dropped, and when this process ends.
///
/// As root it runs as `nobody`, who then owns the data.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    options: PostgresOptions,
    account: Account,
    password: String,
    log: PathBuf,
    process: Option<Process>,
}

impl Postgres {
    /// Starts a server and waits until it answers. Blocks: up to a second, or as long as it has to recover.
    ///
    /// # Errors
    /// With the end of its log if it does not start.
    pub fn start(tools: &Tools, options: PostgresOptions) -> Result<Self, Error> {
        let log = options.log.clone().unwrap_or_else(|| beside(&options.data_dir, "log"));
        let account = Account::reaching(&[&tools.postgres_bin.join("postgres"), &options.data_dir])?;
        let bin = tools.postgres_bin.clone();
        let password = prepare(&bin, account, &options)?;
        let any_port = options.port == 0;
        let mut server = Self { bin, options, account, password, log, process: None };
        let mut attempts = if any_port { 5 } else { 1 };
        loop {
            if any_port {
                server.options.port = port::free()?;
            }
            attempts -= 1;
            match server.launch() {
                Ok(()) => return Ok(server),
                Err(Error::Ended { tail, .. }) if attempts > 0 && tail.contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The URL of a database on it, whether that exists or not (`postgres` does).
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://tandem:{}@127.0.0.1:{}/{database}", self.password, self.options.port)
    }

    /// Its port on 127.0.0.1; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.options.port
    }

    /// Where its data is: to copy while it is stopped.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// Ends it at once, all its processes by SIGKILL, as a crash of the machine would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Ends it in order: sessions are cut, what is committed is on disk.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::INT, Duration::from_secs(30));
            // A server that had to be killed leaves no process behind either.
            process.kill();
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
        let pid_file = self.options.data_dir.join("postmaster.pid");
        forget_the_dead(&pid_file)?;
        let mut command = self.account.command(&self.bin.join("postgres"));
        command.current_dir(&self.options.data_dir).arg("-D").arg(&self.options.data_dir);
        let fixed = [
            ("port", self.options.port.to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", String::new()),
            // Failing statements and the values they name are customers' data: neither belongs in a log.
            ("log_min_error_statement", "panic".to_owned()),
            ("log_error_verbosity", "terse".to_owned()),
        ];
        // After a crash all files are brought to disk before recovery: one by one that takes seconds.
        let linux = cfg!(target_os = "linux").then(|| ("recovery_init_sync_method", "syncfs".to_owned()));
        for (key, value) in linux.iter().chain(&self.options.settings).chain(&fixed) {
            command.arg("-c").arg(setting(key, value));
        }
        let mut process = Process::start("PostgreSQL", command, &self.log)?;
        let (bin, port, id) = (&self.bin, self.options.port, process.id());
        // Its pid file first: someone else's server might answer on this port.
        process.wait_until(START_LIMIT, || is_ready(&pid_file, id) && answers(bin, port))?;
        self.process = Some(process);
        Ok(())
    }
}

/// PostgreSQL takes a server that was killed for a living one if its process id names any process of the same user: a zombie
/// that no init collects, or a newcomer. (Servers that do live still hold their shared memory, which it checks, too.)
fn forget_the_dead(pid_file: &Path) -> Result<(), Error> {
    let Ok(text) = std::fs::read_to_string(pid_file) else { return Ok(()) };
    let id = text.lines().next().and_then(|line| line.trim().parse().ok());
    if cfg!(target_os = "linux") && id.and_then(running_program).is_none_or(|program| program != "postgres") {
        std::fs::remove_file(pid_file).map_err(io(format!("remove {}", pid_file.display())))?;
    }
    Ok(())
}

/// Whether the server with this process id says that it takes connections.
fn is_ready(pid_file: &Path, id: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(pid_file) else { return false };
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(id.to_string().as_str()) && lines.next_back() == Some("ready")
}

fn answers(bin: &Path, port: u16) -> bool {
    isolated(&bin.join("pg_isready"))
        .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Makes the data folder if it is not there, and returns the superuser's password.
fn prepare(bin: &Path, account: Account, options: &PostgresOptions) -> Result<String, Error> {
    let data_dir = options.data_dir.as_path();
    let password_file = beside(data_dir, "password");
    if data_dir.join("PG_VERSION").is_file() {
        let password = std::fs::read_to_string(&password_file);
        return Ok(password.map_err(io(format!("read {}", password_file.display())))?.trim().to_owned());
    }
    // Made beside its place and moved there whole: a start that was cut short leaves nothing half made.
    let fresh = beside(data_dir, "new");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).map_err(io(format!("remove {}", fresh.display())))?;
    }
    let parent = data_dir.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(io(format!("make {}", parent.display())))?;
    DirBuilder::new().mode(0o700).create(&fresh).map_err(io(format!("make {}", fresh.display())))?;
    account.give(&fresh)?;
    let password = format!("{:032x}", rand::random::<u128>());
    write_secret(&password_file, &password)?;
    account.give(&password_file)?;

    let locale = if cfg!(target_os = "macos") { "en_US.UTF-8" } else { "C.UTF-8" };
    let mut command = account.command(&bin.join("initdb"));
    command
        .current_dir(&fresh)
        .args([
            "--username=tandem",
            "--auth-host=password",
            "--auth-local=reject",
            "--encoding=UTF8",
            "--no-instructions",
        ])
        .arg(setting("--locale", locale))
        .arg(setting("--pwfile", &password_file))
        .arg(setting("--pgdata", &fresh))
        .stdin(Stdio::null());
    // A password of 128 random bits is not guessed, however fast; 4096 rounds would cost each connection milliseconds.
    if major_version(bin)? >= 16 {
        command.args(["--set", "scram_iterations=1"]);
    }
    let sync = options.sync_new_data;
    // initdb syncs its thousand files one by one: seconds on a busy disk. Linux can do all in one go.
    if !sync || cfg!(target_os = "linux") {
        command.arg("--no-sync");
    }
    let output = command.output().map_err(io("run initdb"))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let output_text = String::from_utf8_lossy(&text).trim().to_owned();
        return Err(Error::Failed { program: "initdb", status: output.status, output: output_text });
    }
    if sync {
        sync_file_system(&fresh)?;
    }
    std::fs::rename(&fresh, data_dir).map_err(io(format!("make {}", data_dir.display())))?;
    Ok(password)
}

/// Of the server that this `initdb` belongs to, which says `initdb (PostgreSQL) 18.6`.
fn major_version(bin: &Path) -> Result<u32, Error> {
    let mut command = isolated(&bin.join("initdb"));
    let output = command.arg("--version").stdin(Stdio::null()).output().map_err(io("run initdb"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let major = said.split(|letter: char| !letter.is_ascii_digit()).find_map(|number| number.parse().ok());
    major.ok_or_else(|| Error::Failed {
        program: "initdb",
        status: output.status,
        output: format!("no version: {said}"),
    })
}

#[cfg(target_os = "linux")]
fn sync_file_system(of: &Path) -> Result<(), Error> {
    let sync = || -> std::io::Result<()> { Ok(rustix::fs::syncfs(File::open(of)?)?) };
    sync().map_err(io(format!("bring {} to disk", of.display())))
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_: &Path) -> Result<(), Error> {
    Ok(())
}

pub(crate) fn write_secret(file: &Path, secret: &str) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        if file.exists() {
            std::fs::remove_file(file)?;
        }
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(file)?;
        writeln!(file, "{secret}")
    };
    write().map_err(io(format!("write {}", file.display())))
}
