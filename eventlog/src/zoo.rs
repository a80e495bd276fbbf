//! Known wrong variants of single rules. The zoo of the tests plays each, to prove that a test catches it.

use std::sync::LazyLock;

/// Names the variant that this process plays, in a build with the feature `zoo`.
pub const VARIANT: &str = "TANDEM_TEST_ZOO";

/// Whether this process plays that wrong variant. Never, without the feature `zoo`: then this is a constant.
#[must_use]
pub fn plays(variant: &str) -> bool {
    static PLAYED: LazyLock<Option<String>> = LazyLock::new(played);
    cfg!(feature = "zoo") && PLAYED.as_deref() == Some(variant)
}

/// The wrong variant that this process plays.
#[must_use]
pub fn played() -> Option<String> {
    cfg!(feature = "zoo").then(|| std::env::var(VARIANT).ok()).flatten()
}
