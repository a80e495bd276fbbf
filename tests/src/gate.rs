//! A gate at a point of `tandem serve`'s work: whoever comes there waits while it is closed. `TANDEM_TEST_WAIT_AT` names the point.

use std::path::PathBuf;

use tandem_local::Scratch;

use crate::Tandem;

impl Tandem {
    /// From now on a task that comes to the point waits there.
    pub fn close_gate(&self) {
        std::fs::write(file(&self.scratch), "").expect("a file");
    }

    /// Waits until somebody waits at the closed gate.
    pub async fn gate_reached(&self) {
        let reached = file(&self.scratch).with_extension("reached");
        self.until("the gate is reached", || async { reached.exists() }).await;
    }

    /// Lets go whoever waits, and those who come later.
    pub fn open_gate(&self) {
        std::fs::remove_file(file(&self.scratch)).expect("the gate is closed");
    }
}

/// Is there while the gate is closed.
pub(crate) fn file(scratch: &Scratch) -> PathBuf {
    scratch.path().join("gate")
}
