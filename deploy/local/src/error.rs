//! What can go wrong while starting a server.

use std::path::PathBuf;
use std::process::ExitStatus;

/// Why a server, or what it needs, could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither the environment, nor `.tandem/tools`, nor this machine has the program.
    #[error("{program} was not found: run deploy/bootstrap, or set {variable}")]
    NotFound {
        /// What was looked for.
        program: &'static str,
        /// The environment variable that may name it.
        variable: &'static str,
    },
    /// The variable is set, but names nothing usable.
    #[error("{variable} is {path}, which has no {program}")]
    Misplaced {
        /// What was looked for.
        program: &'static str,
        /// The environment variable that names the place.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// PostgreSQL refuses to run as root, and this machine has no way to step down.
    #[error("PostgreSQL does not run as root, and `setpriv` (util-linux) was not found: run this as another user")]
    Root,
    /// A file or folder could not be made or read, or a program not run.
    #[error("could not {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A program that prepares a server failed.
    #[error("{program} failed ({status}):\n{output}")]
    Failed {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        output: String,
    },
    /// The server ended instead of answering.
    #[error("{server} ended at its start ({status}); the end of {}:\n{tail}", log.display())]
    Ended {
        /// The server.
        server: String,
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// The server runs but did not answer in time.
    #[error("{server} did not answer within {seconds} s; the end of {}:\n{tail}", log.display())]
    Silent {
        /// The server.
        server: String,
        /// How long it was given.
        seconds: u64,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// PostgreSQL answered, but would not do what was asked.
    #[error("the database {name} could not be made or dropped")]
    Database {
        /// The database.
        name: String,
        /// PostgreSQL's reason.
        #[source]
        source: sqlx::Error,
    },
    /// The text is no URL of a PostgreSQL server.
    #[error("{0} is not the URL of a PostgreSQL server")]
    Url(&'static str),
}

/// Turns an I/O error into ours, with what was tried.
pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}
