//! The state file: one line a change, all of a call's changes in one line, so that a kill at any point loses and tears nothing.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::endpoints::Endpoint;
use crate::events::StoredEvent;
use crate::fields::Object;
use crate::idempotency::Saved;
use crate::lists::Place;

/// One change.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    Customer { place: Place, object: Arc<Object>, deleted: bool },
    Event { event: Arc<StoredEvent>, pending: BTreeSet<String> },
    Delivered { event: String, endpoint: String },
    Endpoint { endpoint: Endpoint },
    EndpointDeleted { id: String },
    Key { key: String, saved: Saved },
    Clock { clock: Clock },
}

/// A state file, open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
}

/// All changes in the file, in their order; none if there is no such file. A last line cut short never happened.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Record>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut records = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let Some(line) = line.strip_suffix('\n') else { break };
        let changes: Vec<Record> = serde_json::from_str(line).map_err(|error| {
            let message = format!("{}, line {}: not a state of the local Stripe: {error}", path.display(), index + 1);
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?;
        records.extend(changes);
    }
    Ok(records)
}

impl Journal {
    /// Replaces the file, in one step, by one that holds just these, and opens it.
    pub(crate) fn rewrite(path: &Path, records: &[Record]) -> io::Result<Self> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(folder)?;
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        let mut writer = BufWriter::new(new.as_file_mut());
        for record in records {
            write_line(&mut writer, std::slice::from_ref(record))?;
        }
        writer.flush()?;
        drop(writer);
        new.as_file().sync_all()?;
        new.persist(path)?;
        Ok(Self { file: OpenOptions::new().append(true).open(path)?, path: path.to_owned() })
    }

    /// Written when this returns, as far as a kill of this process goes; not synced to disk.
    pub(crate) fn append(&mut self, records: &[Record]) {
        let mut line = Vec::new();
        let written = write_line(&mut line, records).and_then(|()| self.file.write_all(&line));
        if let Err(error) = written {
            tracing::error!(path = %self.path.display(), %error, "a change is not in the state file");
        }
    }
}

fn write_line(to: &mut impl Write, records: &[Record]) -> io::Result<()> {
    serde_json::to_writer(&mut *to, records)?;
    to.write_all(b"\n")
}
