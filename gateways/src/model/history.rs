//! One history: what is set up, what people do, and what goes wrong meanwhile, all from a seed.

use chrono::TimeDelta;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tandem_domain::Policy;

use crate::Verdict;

/// What a seed stands for.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub seed: u64,
    pub scenario: Scenario,
    pub policy: Policy,
    pub gateways: usize,
    /// Each gateway spells names its own way.
    pub normalises: bool,
    /// How often a call ends in a 500, before or after its work.
    pub failing: f64,
    /// How far the gateways' clocks are ahead of ours.
    pub offset: TimeDelta,
    /// A person is asked about deletions, and says this.
    pub asks: Option<Verdict>,
    /// Some changes at the gateways are stamped with a time half a year ahead.
    pub test_clock: bool,
    pub edits: Vec<Edit>,
    pub steps: usize,
    /// A crash, a lost message, a day's jump: this often what it is usually.
    pub trouble: f64,
}

/// How it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// One customer, in step.
    Linked,
    /// One that the history itself creates here.
    Fresh,
    /// One that the history itself creates there.
    Import,
    /// One that is deleted on some side.
    Deletes,
    /// The same, perhaps before its creation there is known here; and a person is asked.
    FreshDeletes,
}

impl Scenario {
    fn deletes(self) -> bool {
        matches!(self, Self::Deletes | Self::FreshDeletes)
    }
}

/// What a person does.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    /// At which step of the history.
    pub at: usize,
    /// At which gateway; `None`: here.
    pub side: Option<usize>,
    pub act: Act,
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    Set(String),
    Delete,
}

/// What everybody is called at first.
pub(super) const BEGINS: &str = "Ada";

/// What people write. Few values, used again and again.
const VALUES: [&str; 6] = [BEGINS, "Bea", "Cleo", "Dora", "Eva", "Flo"];

/// How many turns a history takes before it is healed.
const STEPS: usize = 120;

impl Setting {
    pub fn of(seed: u64) -> Self {
        // A stream of its own: the world throws its dice by the same seed.
        let mut dice = StdRng::seed_from_u64(seed ^ 0x5eed_0000_0000);
        let scenario = [
            Scenario::Linked,
            Scenario::Fresh,
            Scenario::Linked,
            Scenario::Deletes,
            Scenario::Linked,
            Scenario::Import,
        ][(seed % 6) as usize];
        let asked = seed / 6 % 2 == 1;
        let scenario = match scenario {
            Scenario::Deletes if asked && seed / 12 % 2 == 1 => Scenario::FreshDeletes,
            other => other,
        };
        let normalises = seed % 6 == 4 || dice.random_bool(0.1);
        let gateways = if seed % 6 == 4 { 2 } else { 1 };
        let policy = [Policy::Latest, Policy::Catalog, Policy::Gateway][(seed / 6 % 3) as usize];
        let offset = TimeDelta::milliseconds([0, 0, 1_000, -1_000, 7_000][dice.random_range(0..5)]);
        let failing = [0.0, 0.1, 0.4][dice.random_range(0..3)];
        let steps = STEPS;
        let edits = edits(&mut dice, scenario, gateways, steps);
        let asks =
            (asked && scenario.deletes()).then(|| if dice.random_bool(0.5) { Verdict::Delete } else { Verdict::Keep });
        let test_clock = seed % 8 == 3;
        let trouble = 1.0;
        Self { seed, scenario, policy, gateways, normalises, failing, offset, asks, test_clock, edits, steps, trouble }
    }
}

fn edits(dice: &mut StdRng, scenario: Scenario, gateways: usize, steps: usize) -> Vec<Edit> {
    let mut used: Vec<String> = vec![BEGINS.to_owned()];
    let mut edits = vec![];
    let mut at = dice.random_range(1..steps / 2);
    for _ in 0..dice.random_range(1..=5) {
        let side = dice.random_bool(0.5).then(|| dice.random_range(0..gateways));
        let value = if dice.random_bool(0.6) {
            used[dice.random_range(0..used.len())].clone()
        } else {
            VALUES[dice.random_range(0..VALUES.len())].to_owned()
        };
        used.push(value.clone());
        edits.push(Edit { at, side, act: Act::Set(value) });
        at = (at + [0, 1, 3, 8, 20][dice.random_range(0..5)]).min(steps - 1);
    }
    if scenario.deletes() {
        let side = dice.random_bool(0.5).then(|| dice.random_range(0..gateways));
        edits.push(Edit { at: dice.random_range(0..steps), side, act: Act::Delete });
    }
    edits
}
