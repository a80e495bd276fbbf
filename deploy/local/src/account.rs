//! Who PostgreSQL runs as: it refuses to run as root.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use crate::Error;
use crate::error::io;
use crate::process::{command, has_setpriv};

/// `nobody`, who owns nothing.
const NOBODY: u32 = 65_534;

/// The account that a PostgreSQL server and its data belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {
    /// Ourselves.
    Own,
    /// We are root: `nobody`. `sees_all` when programs or data lie where only root may go, such as below `/root`.
    Nobody { sees_all: bool },
}

impl Account {
    /// The account for a server that has to reach these paths.
    pub(crate) fn reaching(paths: &[&Path]) -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Ok(Self::Own);
        }
        if !has_setpriv() {
            return Err(Error::Root);
        }
        Ok(Self::Nobody { sees_all: paths.iter().any(|path| !open_to_all(path)) })
    }

    /// Gives a file or folder that we made to the account.
    pub(crate) fn give(self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Own => Ok(()),
            Self::Nobody { .. } => chown(path, Some(NOBODY), Some(NOBODY))
                .map_err(io(format!("give {} to the user that PostgreSQL runs as", path.display()))),
        }
    }

    /// A command that runs as the account.
    pub(crate) fn command(self, program: &Path) -> Command {
        match self {
            Self::Own => command(program, &[]),
            Self::Nobody { sees_all } => {
                let mut options = vec!["--reuid=65534", "--regid=65534", "--clear-groups"];
                if sees_all {
                    options.extend(sight());
                }
                command(program, &options)
            }
        }
    }
}

/// The least capability that leads through closed folders: to search and read. Containers mostly lack it, but have the
/// wider one. `no_setuid_fixup`, because initdb asks access(2), which otherwise leaves capabilities aside.
fn sight() -> [&'static str; 3] {
    let read_search = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_READ_SEARCH));
    if read_search {
        ["--securebits=+no_setuid_fixup", "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    } else {
        ["--securebits=+no_setuid_fixup", "--inh-caps=-all,+dac_override", "--ambient-caps=+dac_override"]
    }
}

/// Whether any user may go there and read; what does not exist yet is judged by its folder.
fn open_to_all(path: &Path) -> bool {
    let Ok(real) = path.canonicalize() else {
        return path.parent().is_some_and(open_to_all);
    };
    real.ancestors().enumerate().all(|(height, part)| {
        let Ok(metadata) = part.metadata() else { return false };
        let mode = metadata.permissions().mode();
        let needed = if height == 0 { 0o005 } else { 0o001 };
        mode & needed == needed || metadata.uid() == NOBODY
    })
}
