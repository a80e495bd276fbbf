//! Points at which a test has this process die, as by `kill -9`: nothing is finished, nothing is given back.

/// Names the point, in a build with the feature `zoo`.
pub const POINT: &str = "TANDEM_TEST_CRASH_AT";

/// Ends the process at once if it is to die here. Never, without the feature `zoo`: then this is nothing.
pub fn at(point: &str) {
    if planned(point) {
        std::process::abort();
    }
}

/// Whether the process is to die at that point.
#[must_use]
pub fn planned(point: &str) -> bool {
    cfg!(feature = "zoo") && std::env::var(POINT).is_ok_and(|planned| planned == point)
}
