//! A temporary folder that outlives no run by long, even one that was killed.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Error;
use crate::error::io;

const PREFIX: &str = "tandem-test-";

/// Linux's folder for what processes share in memory.
const MEMORY: &str = "/dev/shm";
/// A container without much memory has a small one: of 64 MiB usually.
const PLENTY: u64 = 4 << 30;

/// A folder below the system's temporary one, or in memory. Removed when dropped; if its process was killed, by the next one that makes a
/// scratch folder, which sees that nobody holds its lock.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes an empty folder, and removes those of processes that are gone.
    ///
    /// # Errors
    /// When the temporary folder can't be written.
    pub fn new() -> Result<Self, Error> {
        Self::below(&std::env::temp_dir())
    }

    /// The same in memory, if the system has a place for that with plenty of room, and `TMPDIR` names no other one.
    ///
    /// # Errors
    /// When that folder can't be written.
    pub fn in_memory() -> Result<Self, Error> {
        let memory = Path::new(MEMORY);
        let chosen = std::env::var_os("TMPDIR").is_some();
        if !chosen && has_room(memory) { Self::below(memory) } else { Self::new() }
    }

    fn below(parent: &Path) -> Result<Self, Error> {
        sweep(parent);
        let path = parent.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        let make = || -> std::io::Result<File> {
            // Passable, so that PostgreSQL, which is never root, can reach its own folder within.
            DirBuilder::new().mode(0o711).create(&path)?;
            let lock = File::create(path.join("lock"))?;
            lock.lock()?;
            Ok(lock)
        };
        let lock = make().map_err(io(format!("make {}", path.display())))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is swept by the next run.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn has_room(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|system| system.f_bavail.saturating_mul(system.f_frsize) >= PLENTY)
}

fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_abandoned(&entry.path()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Old enough to have been locked by its maker, and locked no more.
#[expect(clippy::disallowed_methods, reason = "a file's age is by the machine's clock")]
fn is_abandoned(folder: &Path) -> bool {
    let old = folder
        .metadata()
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|made| made.elapsed().is_ok_and(|age| age > Duration::from_secs(60)));
    old && File::open(folder.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok())
}
