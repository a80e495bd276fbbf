//! Points at which a test has this process die, as by `kill -9`: nothing is finished, nothing is given back.

/// Names the point, in a build with the feature `zoo`.
pub const POINT: &str = "TANDEM_TEST_CRASH_AT";

/// Names the point at which a task of this process panics, each time that it comes there, in a build with the feature `zoo`.
pub const PANIC: &str = "TANDEM_TEST_PANIC_AT";

/// Ends the process at once if it is to die here; panics if it is to do that. Never, without the feature `zoo`: then this is
/// nothing.
pub fn at(point: &str) {
    if planned(point) {
        std::process::abort();
    }
    assert!(!(cfg!(feature = "zoo") && is(PANIC, point)), "as a test wished, at {point}");
}

/// Whether the process is to die at that point.
#[must_use]
pub fn planned(point: &str) -> bool {
    cfg!(feature = "zoo") && is(POINT, point)
}

fn is(variable: &str, point: &str) -> bool {
    std::env::var(variable).is_ok_and(|planned| planned == point)
}
