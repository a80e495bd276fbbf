//! What it was measured on.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use sqlx::{Connection, PgConnection};

use crate::servers::Servers;

/// The machine and the servers.
#[derive(Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    file_system: String,
    postgres: String,
    fsync: String,
    synchronous_commit: String,
    nats_server: String,
    optimised: bool,
}

/// The machine's load averages of 1, 5 and 15 minutes, as Linux tells them.
#[derive(Debug, Serialize)]
pub struct Load(String);

impl Machine {
    /// Looks at this machine and asks the servers.
    pub async fn look(servers: &Servers) -> anyhow::Result<Self> {
        let mut database = PgConnection::connect(&servers.postgres_url("postgres")).await?;
        let mut show = async |setting: &str| -> anyhow::Result<String> {
            Ok(sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(&mut database).await?)
        };
        let nats = async_nats::connect(servers.nats_url()).await?;
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease"),
            file_system: file_system(servers.folder()),
            postgres: show("server_version").await?,
            fsync: show("fsync").await?,
            synchronous_commit: show("synchronous_commit").await?,
            nats_server: nats.server_info().version,
            optimised: !cfg!(debug_assertions),
        })
    }
}

/// How busy the machine is.
pub fn load() -> Load {
    Load(read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, kernel, file_system, postgres, fsync, synchronous_commit, nats_server, optimised } =
            self;
        let build = if *optimised { "optimised build" } else { "NOT OPTIMISED" };
        write!(
            f,
            "{cpu}, {cores} cores, Linux {kernel}, {file_system}; PostgreSQL {postgres} (fsync {fsync}, synchronous_commit \
             {synchronous_commit}); nats-server {nats_server}; {build}"
        )
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Empty where there is no such file.
fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

fn field(file: &str, name: &str) -> String {
    let text = read(file);
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("unknown processor", |(_, value)| value.trim()).to_owned()
}

/// The type of the file system that the folder is on: one in memory makes every commit free.
fn file_system(folder: &Path) -> String {
    let mounts = read("/proc/mounts");
    let found = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(place, _)| folder.starts_with(place))
        .max_by_key(|(place, _)| place.len());
    found.map_or("unknown file system", |(_, kind)| kind).to_owned()
}
