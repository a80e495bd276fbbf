//! A child process that ends no later than its starter.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;
use crate::error::io;

/// A running child. Killed when dropped, and (on Linux) by the kernel when this process ends, whatever ended it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

/// What a child inherits of the environment: where this machine keeps things, and how it tells why something failed.
const INHERITED: [&str; 7] = ["PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "RUST_BACKTRACE"];

/// Begins the names by which tests tell programs what to do.
const FOR_TESTS: &str = "TANDEM_TEST_";

/// An [`isolated`] command that dies with this process, if this system can arrange that (`setpriv`, part of util-linux).
pub fn command(program: &Path, setpriv: &[&str]) -> Command {
    if !has_setpriv() {
        return isolated(program);
    }
    let mut command = isolated(Path::new("setpriv"));
    command.args(setpriv).args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A command that is told nothing of what the user of this process has set for other programs: `TANDEM_*`, `STRIPE_*`,
/// `PG*`, a proxy.
pub fn isolated(program: &Path) -> Command {
    let mut command = Command::new(program);
    let inherited =
        |name: &OsString| name.to_str().is_some_and(|name| INHERITED.contains(&name) || name.starts_with(FOR_TESTS));
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| inherited(name)));
    command
}

/// Whether this machine has util-linux' `setpriv`.
pub(crate) fn has_setpriv() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        cfg!(target_os = "linux")
            && Command::new("setpriv")
                .arg("--version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    })
}

impl Process {
    /// Starts the command; what it writes goes to the end of `log`. It gets a process group of its own, so that Ctrl-C in
    /// a terminal reaches only us, who stop it in order.
    ///
    /// # Errors
    /// When the log can't be opened or the program not be run.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self, Error> {
        let file = append(log)?;
        let copy = file.try_clone().map_err(io(format!("open {}", log.display())))?;
        command.stdout(file).stderr(copy);
        Self::spawn(name, command, log)
    }

    /// Starts the command with its output where the caller has put it; `log` is only where to look for reasons.
    ///
    /// # Errors
    /// When the program can't be run.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self, Error> {
        command.stdin(Stdio::null()).process_group(0);
        let child = spawn_from_lasting_thread(command).map_err(io(format!("run {name}")))?;
        Ok(Self { name: name.to_owned(), log: log.to_path_buf(), child })
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The pipes that the caller asked for.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until `ready` says so, up to `limit`.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::Silent`], with the end of the log.
    pub fn wait_until(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<(), Error> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(2);
        loop {
            if let Some(status) = self.ended() {
                let tail = tail(&self.log, 12);
                return Err(Error::Ended { server: self.name.clone(), status, log: self.log.clone(), tail });
            }
            if ready() {
                return Ok(());
            }
            if start.elapsed() > limit {
                let tail = tail(&self.log, 12);
                let seconds = limit.as_secs();
                return Err(Error::Silent { server: self.name.clone(), seconds, log: self.log.clone(), tail });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Asks it to end with `signal`, and kills it if it has not within `patience`.
    pub fn stop(&mut self, signal: Signal, patience: Duration) {
        self.signal(signal);
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        while self.ended().is_none() {
            if start.elapsed() > patience {
                self.kill();
                return;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Ends it with SIGKILL, and its children too, so that nothing of it runs when this returns.
    pub fn kill(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // Stopped, it can't have more children while we count them.
        self.signal(Signal::STOP);
        let children = children(self.id());
        for child in &children {
            let _ = kill_process(*child, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let start = Instant::now();
        let is_left = |child: &Pid| u32::try_from(child.as_raw_pid()).is_ok_and(|id| running_program(id).is_some());
        while children.iter().any(is_left) && start.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none()
            && let Some(pid) = pid(self.id())
        {
            // It may end in between: then there is nobody to tell.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Opens a log for appending, and makes its folder.
///
/// # Errors
/// When the folder can't be made or the file not opened.
pub fn append(log: &Path) -> Result<File, Error> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).map_err(io(format!("make {}", folder.display())))?;
    }
    File::options().create(true).append(true).open(log).map_err(io(format!("open {}", log.display())))
}

/// The last lines of a file; empty if it can't be read.
#[must_use]
pub fn tail(file: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(file)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(8 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The kernel ties a child's life to the *thread* that started it. A test's thread ends with the test, so one thread, which
/// lasts as long as the process, starts all children.
fn spawn_from_lasting_thread(command: Command) -> std::io::Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    let gone = || std::io::Error::other("the thread that starts processes is gone");
    spawner.send((command, answer)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

fn pid(id: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id).ok()?)
}

/// The direct children of a process, as Linux lists them; none elsewhere, where PostgreSQL's notice the death by themselves.
fn children(of: u32) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|id| pid(id.parse().ok()?)).collect::<Vec<_>>())
        .collect()
}

/// The name of a process's program, unless it is a zombie (a container without init keeps those). Linux only.
pub(crate) fn running_program(id: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (start, state) = stat.rsplit_once(") ")?;
    let (_, program) = start.split_once('(')?;
    (!state.starts_with(['Z', 'X'])).then(|| program.to_owned())
}

/// An argument `key=value` for a server's command line.
pub(crate) fn setting(key: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut argument = OsString::from(key);
    argument.push("=");
    argument.push(value);
    argument
}

/// `<folder>.<ending>`, next to the folder.
pub(crate) fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
