//! No value that a person wrote is lost: it stands, or somebody who could see it replaced it, or it is in a conflict.

use serde_json::Value;

use super::written::{Line, same};

/// Every value that a person wrote is there still, or was replaced by somebody who could see it, or is in a conflict.
pub fn nothing_lost(id: &str, line: &Line) -> Result<(), String> {
    let kept = |value: &Value| line.contested.iter().any(|(ours, theirs)| same(ours, value) || same(theirs, value));
    for (side, mine) in line.sides.iter().enumerate() {
        for pair in mine.windows(2) {
            let [lost, next] = pair else { continue };
            // Whoever edits a side has seen what is on it.
            if !lost.by_hand || next.by_hand || same(&lost.value, &next.value) {
                continue;
            }
            // It was carried over, or whoever replaced it had the same before.
            let mut others = line.sides.iter().enumerate().filter(|(other, _)| *other != side);
            let crossed = others.any(|(_, other)| other.iter().any(|written| same(&written.value, &lost.value)));
            if !crossed && !kept(&lost.value) {
                return Err(format!(
                    "{} of {id}: {} was written at side {side} and is lost\n{line:?}",
                    line.field, lost.value
                ));
            }
        }
    }
    Ok(())
}
