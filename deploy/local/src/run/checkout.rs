//! The folder `.tandem`, which belongs to one run at a time.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A log that is longer than this at the start is set aside as `<name>.log.1`.
const LOG_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// The locked folder; free again when this process ends, whatever ends it.
pub struct Checkout {
    folder: PathBuf,
    lock: File,
}

impl Checkout {
    /// Makes the folder, and takes it.
    pub fn lock(folder: &Path) -> anyhow::Result<Self> {
        let what = || format!("could not use {}", folder.display());
        std::fs::create_dir_all(folder).with_context(what)?;
        let path = folder.join("lock");
        let mut lock =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).with_context(what)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.read_to_string(&mut holder);
                bail!("Tandem already runs in {} ({}): stop that one first", folder.display(), holder.trim());
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(what),
        }
        let checkout = Self { folder: folder.to_path_buf(), lock };
        checkout.announce("starting")?;
        Ok(checkout)
    }

    /// Says who holds the folder, for the message that a second run prints.
    pub fn announce(&self, place: &str) -> anyhow::Result<()> {
        let mut lock = &self.lock;
        lock.set_len(0)?;
        lock.rewind()?;
        write!(lock, "process {}, {place}", std::process::id())?;
        Ok(())
    }

    /// The path of a service's log.
    pub fn log(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join("log");
        std::fs::create_dir_all(&folder)?;
        let log = folder.join(format!("{name}.log"));
        if log.metadata().is_ok_and(|metadata| metadata.len() > LOG_LIMIT_BYTES) {
            std::fs::rename(&log, folder.join(format!("{name}.log.1")))?;
        }
        let file = File::options().create(true).append(true).open(&log)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        Ok(log)
    }
}
