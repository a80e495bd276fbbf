//! Who wins does not depend on what arrives first.

use super::written::{Line, Written, same};

/// How far clocks may differ, in milliseconds. Here all are one; so this only leaves room for the rounding of times.
const ERROR_MS: i64 = 1000;

/// By the policy `latest`: where one edit was written later than all edits elsewhere, by more than the clocks' error, its value
/// is what stands. Not asked for a value that the field had before: an edit back to what was last seen is none.
pub fn last_wins(id: &str, line: &Line) -> Result<(), String> {
    let last = line.sides.iter().enumerate().filter_map(|(side, written)| {
        // On one side the order is what counts: two requests at once have times of their own.
        let nth = written.iter().rposition(|one| one.by_hand)?;
        Some((side, nth, &written[nth]))
    });
    let Some((side, nth, last)) = last.max_by_key(|(.., one)| one.at.start) else { return Ok(()) };
    let elsewhere = |there: usize| there != side;
    let everything = line
        .sides
        .iter()
        .enumerate()
        .flat_map(|(there, written)| written.iter().enumerate().map(move |(then, one)| (there, then, one)));
    let apart = |other: &Written| other.at.end + ERROR_MS <= last.at.start;
    let apart = everything.clone().all(|(there, _, one)| !elsewhere(there) || !one.by_hand || apart(one));
    let again = everything.clone().any(|(there, then, one)| {
        (elsewhere(there) || then < nth) && one.at.start < last.at.start && same(&one.value, &last.value)
    });
    if line.deleted || again || !apart {
        return Ok(());
    }
    match line.sides[0].last() {
        Some(stands) if same(&stands.value, &last.value) => Ok(()),
        stands => {
            Err(format!("{} of {id}: {last:?} was written last, and what stands is {stands:?}\n{line:?}", line.field))
        }
    }
}
