//! What the gateway's list of changes tells, read back as far as it is needed.

use chrono::{DateTime, Utc};
use tandem_domain::RemoteId;

use super::{Run, RunError};
use crate::RemoteChange;

/// What was found.
pub(super) struct Found {
    /// Oldest first.
    pub changes: Vec<RemoteChange>,
    /// The list goes on, and there may be more.
    pub is_cut: bool,
}

/// What changed there since then, of one object or of all: what is `wanted` of it, and no further back than until that is `enough`, or
/// so many pages were read: the list is of the whole account, and in a flood of changes a run would take the calls that others wait for.
pub(super) async fn changes(
    run: &mut Run<'_>,
    since: DateTime<Utc>,
    of: Option<&RemoteId>,
    most: usize,
    wanted: impl Fn(&RemoteChange) -> bool,
    enough: impl Fn(&[RemoteChange]) -> bool,
) -> Result<Found, RunError> {
    let (mut found, mut cursor, mut pages) = (vec![], None::<String>, 0);
    loop {
        let page = run.call(run.gateway().changes(since, of, cursor.as_deref())).await??;
        found.extend(page.changes.into_iter().filter(&wanted));
        cursor = page.next;
        pages += 1;
        let is_enough = cursor.is_none() || enough(&found);
        if is_enough || pages == most {
            found.reverse();
            return Ok(Found { changes: found, is_cut: !is_enough });
        }
    }
}
