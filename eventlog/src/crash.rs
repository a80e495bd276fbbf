//! Points at which a test has this process die, as by `kill -9`: nothing is finished, nothing is given back.

/// Names the point, in a build with the feature `zoo`.
pub const POINT: &str = "TANDEM_TEST_CRASH_AT";

/// Names the point at which a task of this process panics, each time that it comes there, in a build with the feature `zoo`.
pub const PANIC: &str = "TANDEM_TEST_PANIC_AT";

/// Names the point at which a task of this process waits, each time that it comes there, for as long as there is a file of the
/// name in [`GATE`], in a build with the feature `zoo`.
pub const WAIT: &str = "TANDEM_TEST_WAIT_AT";

/// Names the file.
pub const GATE: &str = "TANDEM_TEST_GATE";

/// Ends the process at once if it is to die here; panics or waits if it is to do that. Never, without the feature `zoo`: then
/// this is nothing.
pub fn at(point: &str) {
    if planned(point) {
        std::process::abort();
    }
    if cfg!(feature = "zoo") && is(WAIT, point) {
        tokio::task::block_in_place(wait);
    }
    assert!(!(cfg!(feature = "zoo") && is(PANIC, point)), "as a test wished, at {point}");
}

/// Whether the process is to die at that point.
#[must_use]
pub fn planned(point: &str) -> bool {
    cfg!(feature = "zoo") && is(POINT, point)
}

/// Says that it is there by a file beside the gate.
fn wait() {
    let Some(gate) = std::env::var_os(GATE).map(std::path::PathBuf::from) else { return };
    if gate.exists() {
        let _ = std::fs::write(gate.with_extension("reached"), "");
    }
    while gate.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn is(variable: &str, point: &str) -> bool {
    std::env::var(variable).is_ok_and(|planned| planned == point)
}
