//! What cannot be read, here or at the gateway: repeating cannot help, and a person must look.

use tracing::{error, info};

use super::{Run, RunError};
use crate::CallError;
use crate::gateway::CANNOT_BE_KEPT;
use crate::ledger::Change;
use crate::parked::VERSION;

/// Parks a read that was refused for good; any other error stays one. Of a write the same is settled where it is made.
///
/// What was to be read is still to be read: the inbox keeps its rows, an uncertain call stays open, and the next that
/// happens to the link, or a person's retry, tries again. An object that the gateway does not know is no deletion: the key may
/// be of another account, or test data were cleared, and a catalog must not follow them into the void.
pub(super) async fn park(run: &mut Run<'_>, error: CallError) -> Result<(), RunError> {
    let (code, reason) = match error {
        CallError::Missing => {
            let reason = "the gateway knows no such object: is the key of another account, or were test data cleared?";
            (Some("resource_missing".to_owned()), reason.to_owned())
        }
        CallError::Rejected { code: Some(code), reason, .. } if code == CANNOT_BE_KEPT => (Some(code), reason),
        CallError::Rejected { code, reason, .. } => (code, format!("the gateway does not let it be read: {reason}")),
        other => return Err(other.into()),
    };
    info!(customer.id = %run.link.customer_id, gateway = %run.name(), code, "parked what the gateway does not let us read");
    let mut refused = run.link.refused.clone();
    refused.add_read();
    run.store([Change::Reject { refused: Some(refused.clone()), fields: vec![], code, reason }]).await?;
    run.link.refused = refused;
    Ok(())
}

/// Parks a link of whose customer, or of which itself, something that is stored cannot be read. The next that happens to the link
/// tries again, and so do a person's retry and another version of Tandem.
pub(super) async fn park_stored(run: &mut Run<'_>, why: String) -> Result<(), RunError> {
    error!(customer.id = %run.link.customer_id, gateway = %run.name(), error = why, "parked what is stored and cannot be read");
    let mut refused = run.link.refused.clone();
    refused.add_read();
    let reason = format!("Tandem {VERSION} cannot read what is stored of it: {why}");
    run.store([Change::Unread { refused: refused.clone(), reason }]).await?;
    run.link.refused = refused;
    Ok(())
}
