//! A history: who edits what, and what goes wrong, all from one seed.

use std::fmt;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A history to play.
#[derive(Clone, Debug)]
pub struct History {
    /// Who wins conflicts.
    pub policy: &'static str,
    /// Whether Stripe spells emails its own way.
    pub normalises: bool,
    pub steps: Vec<Step>,
}

/// Which side of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Catalog,
    Stripe,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A person edits the `who`th customer; `None` clears the field.
    Edit {
        side: Side,
        who: usize,
        field: &'static str,
        value: Option<String>,
    },
    Create {
        side: Side,
        name: String,
    },
    Delete {
        side: Side,
        who: usize,
    },
    PauseMs(u64),
    Wrong(Wrong),
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    /// The next write is done, and its reply lost.
    LoseReply,
    /// The next write does not arrive.
    LoseRequest,
    /// The next write is done, and answered 500.
    Fail500After,
    /// The next write is answered 500.
    Fail500Before,
    TooMany,
    InUse,
    /// The next write is done, and its reply comes only when all else is over.
    HangReply,
    /// The next read of an object is lost.
    LoseRead,
    HoldWebhooks,
    ReleaseInOrder,
    ReleaseReversed,
    DuplicateWebhooks,
    DropWebhooks,
    /// `kill -9`, and started again.
    KillTandem,
    /// Another `tandem serve` beside it.
    StartAnother,
    /// Every lease is over at once: whoever works on a link goes on as a zombie.
    ExpireLeases,
}

const WRONGS: [Wrong; 16] = [
    Wrong::LoseReply,
    Wrong::LoseRequest,
    Wrong::Fail500After,
    Wrong::Fail500Before,
    Wrong::TooMany,
    Wrong::InUse,
    Wrong::HangReply,
    Wrong::LoseRead,
    Wrong::HoldWebhooks,
    Wrong::ReleaseInOrder,
    Wrong::ReleaseReversed,
    Wrong::DuplicateWebhooks,
    Wrong::DropWebhooks,
    Wrong::KillTandem,
    Wrong::StartAnother,
    Wrong::ExpireLeases,
];

/// What people edit; the first most of all, so that edits meet.
const FIELDS: [&str; 6] = ["name", "name", "name", "phone", "email", "metadata.plan"];

impl History {
    pub fn of(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let policy = ["latest", "latest", "catalog", "gateway", "ask"][dice.random_range(0..5)];
        let normalises = dice.random_bool(0.25);
        let calm = dice.random_bool(0.15);
        let mut customers = 2;
        let mut steps = vec![];
        for n in 0..dice.random_range(6..30) {
            let side = if dice.random_bool(0.5) { Side::Catalog } else { Side::Stripe };
            let who = dice.random_range(0..customers);
            steps.push(match dice.random_range(0..100) {
                0..50 => edit(&mut dice, side, who, n),
                50..53 => {
                    customers += 1;
                    Step::Create { side, name: format!("born {n}") }
                }
                53..55 => Step::Delete { side, who },
                55..75 => Step::PauseMs([0, 20, 50, 200, 500, 1100][dice.random_range(0..6)]),
                _ if calm => Step::PauseMs(10),
                _ => Step::Wrong(WRONGS[dice.random_range(0..WRONGS.len())]),
            });
        }
        Self { policy, normalises, steps }
    }

    pub fn faults(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Wrong(_))).count()
    }
}

/// Most values are used again: an edit away and back again is what misleads best.
fn edit(dice: &mut StdRng, side: Side, who: usize, n: usize) -> Step {
    let field = FIELDS[dice.random_range(0..FIELDS.len())];
    let letter = if dice.random_bool(0.6) { ["A", "B"][dice.random_range(0..2)].to_owned() } else { format!("V{n}") };
    let value = match field {
        "email" => Some(format!("{letter}@Tandem.Example")),
        "name" => Some(letter),
        _ => Some(letter).filter(|_| dice.random_bool(0.8)),
    };
    Step::Edit { side, who, field, value }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "policy {}, {}", self.policy, if self.normalises { "normalising" } else { "verbatim" })?;
        self.steps.iter().enumerate().try_for_each(|(n, step)| writeln!(f, "{n:3} {step:?}"))
    }
}
