//! What the gateway's list of changes tells, read back as far as it is needed.

use chrono::{DateTime, Utc};
use tandem_domain::RemoteId;

use super::{Run, RunError};
use crate::RemoteChange;

/// What changed there since then, oldest first, of one object or of all: what is `wanted` of it, and no further back than
/// until that is `enough`. The list may be long: it is of the whole account.
pub(super) async fn changes(
    run: &mut Run<'_>,
    since: DateTime<Utc>,
    of: Option<&RemoteId>,
    wanted: impl Fn(&RemoteChange) -> bool,
    mut enough: impl FnMut(&[RemoteChange]) -> bool,
) -> Result<Vec<RemoteChange>, RunError> {
    let (mut found, mut cursor) = (vec![], None::<String>);
    loop {
        let page = run.call(run.gateway().changes(since, of, cursor.as_deref())).await??;
        found.extend(page.changes.into_iter().filter(&wanted));
        cursor = page.next;
        if cursor.is_none() || enough(&found) {
            found.reverse();
            return Ok(found);
        }
    }
}
