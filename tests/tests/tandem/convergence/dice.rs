//! Making a history from its seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::history::{History, Side, Step, Way};
use super::wrong::{ALWAYS, CUTS, KILLS, Wrong};

/// What people edit; the first most of all, so that edits meet. Of an address one part, or all of it.
const FIELDS: [&str; 10] = [
    "name",
    "name",
    "name",
    "phone",
    "email",
    "metadata.plan",
    "metadata.seat",
    "address",
    "address.city",
    "address.line1",
];

/// Long ones are rare: they take time.
const PAUSES_MS: [u64; 12] = [0, 0, 20, 20, 50, 50, 200, 200, 500, 500, 1100, 2500];

impl History {
    /// That of a seed, always the same.
    pub fn of(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let policy = ["latest", "latest", "catalog", "gateway", "ask"][dice.random_range(0..5)];
        let accounts = [1, 1, 1, 1, 1, 2, 2, 3][dice.random_range(0..8)];
        let normalises = (0..accounts).map(|_| dice.random_bool(0.25)).collect();
        let (wires, own_servers) = (dice.random_bool(0.4), dice.random_bool(0.06));
        let deletes = if dice.random_bool(0.7) { ["delete"; 2] } else { [on_delete(&mut dice), on_delete(&mut dice)] };
        let deletions = if deletes == ["delete"; 2] { 53..55 } else { 45..55 };
        let calm = dice.random_bool(0.15);
        let wrongs = possible(wires, own_servers);
        let mut customers = 2;
        let mut steps = vec![];
        for n in 0..dice.random_range(6..30) {
            let account = dice.random_range(0..accounts);
            let side = if dice.random_bool(0.5) { Side::Catalog } else { Side::Stripe(account) };
            let who = dice.random_range(0..customers);
            steps.push(match dice.random_range(0..100) {
                drawn if deletions.contains(&drawn) => Step::Delete { side, who, way: way(&mut dice) },
                0..50 => edit(&mut dice, side, who, n),
                50..55 => {
                    customers += 1;
                    Step::Create { side, name: format!("born{n}"), way: way(&mut dice) }
                }
                55..58 => Step::AskAgain { which: dice.random_range(0..10) },
                58..75 => Step::PauseMs(PAUSES_MS[dice.random_range(0..PAUSES_MS.len())]),
                _ if calm => Step::PauseMs(10),
                _ => Step::Wrong(wrongs[dice.random_range(0..wrongs.len())], account),
            });
        }
        Self { policy, deletes, normalises, wires, own_servers, steps }
    }
}

fn on_delete(dice: &mut StdRng) -> &'static str {
    ["delete", "unlink", "ask"][dice.random_range(0..3)]
}

fn possible(wires: bool, own_servers: bool) -> Vec<Wrong> {
    let cuts = CUTS.iter().filter(|_| wires);
    let kills = KILLS.iter().filter(|_| own_servers);
    ALWAYS.iter().chain(cuts).chain(kills).copied().collect()
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
    Step::Edit { side, who, field, value, way: way(dice) }
}

fn way(dice: &mut StdRng) -> Way {
    let unheard = dice.random_bool(0.15).then(|| [0, 1, 2, 4, 8, 16][dice.random_range(0..6)]);
    Way { first_paths: dice.random_bool(0.3), unheard_after_ms: unheard }
}
