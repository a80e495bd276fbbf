//! The read model `customers`: what each customer looks like now.

mod changes;
mod fold;
mod get;
mod list;
mod rebuild;
mod row;
mod run;
mod version;

use std::sync::Arc;

use tandem_eventlog::{Connections, ProjectorStatus};
use tokio::sync::watch;

use changes::Changes;

pub use get::ReadError;
pub use list::{Cursor, InvalidCursor, Page, Search, Sort};
pub use rebuild::{RebuildError, customers_rebuild};
pub use row::{CustomerRow, State};
pub use version::{shows, version_shown};

/// The projection's name, also its checkpoint's.
const NAME: &str = "customers";

/// The read model: asking it, and keeping it. Cheap to clone; clones share one projector's news.
#[derive(Debug, Clone)]
pub struct Customers {
    connections: Connections,
    changes: Changes,
    status: Arc<watch::Sender<ProjectorStatus>>,
}

impl Customers {
    /// The read model in that database. It stands still until [`Customers::run`] runs here or in another process.
    pub fn new(connections: Connections) -> Self {
        Self { connections, changes: Changes::default(), status: Arc::default() }
    }

    /// Follows what the projector of this process is doing.
    pub fn status(&self) -> watch::Receiver<ProjectorStatus> {
        self.status.subscribe()
    }
}
