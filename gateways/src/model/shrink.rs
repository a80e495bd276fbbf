//! Making a failing history shorter, as long as it still fails.

use super::history::Setting;
use super::played;

/// The shortest that was found, why it fails, and what happens in it.
pub(super) fn shrink(mut setting: Setting, mut why: String) -> (Setting, String, Vec<String>) {
    let attempt = |tried: Setting, setting: &mut Setting, why: &mut String| {
        let Err(still) = played(&tried, false).0 else { return false };
        (*setting, *why) = (tried, still);
        true
    };
    for nth in (0..setting.edits.len()).rev() {
        let mut tried = setting.clone();
        tried.edits.remove(nth);
        attempt(tried, &mut setting, &mut why);
    }
    for change in [
        |tried: &mut Setting| tried.trouble = 0.0,
        |tried: &mut Setting| tried.failing = 0.0,
        |tried: &mut Setting| tried.offset = chrono::TimeDelta::zero(),
    ] {
        let mut tried = setting.clone();
        change(&mut tried);
        attempt(tried, &mut setting, &mut why);
    }
    let mut less = setting.steps / 2;
    // One that fails without a step has come to its end.
    while less > 0 && setting.steps > 0 {
        let mut tried = setting.clone();
        tried.steps = tried.steps.saturating_sub(less);
        if !attempt(tried, &mut setting, &mut why) {
            less /= 2;
        }
    }
    let (_, told) = played(&setting, true);
    (setting, why, told)
}
