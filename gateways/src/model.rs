//! A model without servers: the reconciler itself, played against a gateway, a database and a network in memory.
//!
//! A history is made from a seed and played on one thread without real time: at every point where a run waits, the dice say
//! whether others overtake it, its process dies, its message is lost, or time passes. Then all is healed, and at rest the
//! promises of `check` must hold.

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do, in its helper functions neither")]

mod asked;
mod check;
mod history;
mod memory;
mod play;
mod remote;
mod shrink;
mod world;
mod zoo;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use history::Setting;
use play::Play;

/// Which seeds, `17` or `0..1000`.
const SEEDS: &str = "TANDEM_TEST_MODEL_SEEDS";

/// How many histories every test run plays.
const USUAL: u64 = 20_000;

#[test]
fn histories_end_the_same_on_both_sides() {
    let seeds = asked().unwrap_or(0..USUAL);
    let (count, began) = (seeds.end - seeds.start, Instant::now());
    let failed = first_failure(seeds);
    let took = began.elapsed().as_secs_f64();
    println!("{count} histories in {took:.1} s: {:.0} a second", count as f64 / took);
    if let Some((seed, why)) = failed {
        let (setting, why, told) = shrink::shrink(Setting::of(seed), why);
        panic!("seed {seed} (again: {SEEDS}={seed}): {why}\n{}\nshortened to {setting:#?}", told.join("\n"));
    }
}

fn asked() -> Option<Range<u64>> {
    let asked = std::env::var(SEEDS).ok()?;
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{SEEDS} is 17 or 0..1000, not {asked}"));
    Some(match asked.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&asked)..number(&asked) + 1,
    })
}

/// Plays one history, and says what did not hold.
fn played(setting: &Setting, tells: bool) -> (Result<(), String>, Vec<String>) {
    let mut play = Play::new(setting.clone(), tells);
    let world = play.world.clone();
    let result = catch_unwind(AssertUnwindSafe(|| play.play().and_then(|()| check::check(&mut play))));
    let result = result.unwrap_or_else(|_| Err("it panicked".to_owned()));
    let told = world.lock().told.take().unwrap_or_default();
    (result, told)
}

/// The lowest seed of those that fail, as far as was played; on all cores.
fn first_failure(seeds: Range<u64>) -> Option<(u64, String)> {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            if let (Err(why), _) = played(&Setting::of(seed), false) {
                stop.store(true, Ordering::Relaxed);
                return Some((seed, why));
            }
        }
        None
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        hands.into_iter().filter_map(|hand| hand.join().unwrap()).min_by_key(|(seed, _)| *seed)
    })
}
