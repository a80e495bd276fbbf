//! Random histories of edits and faults on both sides: afterwards both hold the same, nothing was lost, nothing doubled.
//!
//! A history is made from its seed. One that fails is printed with its seed, and again as short as it still fails.
//! `make soak HOURS=1` plays new ones; `make soak SEEDS=17` plays one again.

mod calls;
mod check;
mod dice;
mod history;
mod lost;
mod once;
mod people;
mod play;
mod winner;
mod written;
mod wrong;

use std::time::Instant;

use history::History;
use play::play;
use tokio::task::JoinSet;

/// Seeds to play besides the usual ones: one, or a range such as `100..200` or `100..`.
const SEEDS: &str = "TANDEM_TEST_SEEDS";

/// For how long new ones are begun, in hours; without it, to the end of the range.
const HOURS: &str = "TANDEM_TEST_HOURS";

/// How many histories are played at once: they mostly wait.
const AT_ONCE: usize = 4;

/// How many shorter histories are tried when one has failed.
const TRIES: usize = 60;

/// Each makes one test of four histories.
macro_rules! seeds {
    ($($name:ident: $first:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                for seed in $first..$first + 4 {
                    converges(seed).await.unwrap_or_else(|failure| panic!("{failure}"));
                }
            }
        )*
    };
}

seeds! {
    seeds_from_0: 0;
    seeds_from_4: 4;
    seeds_from_8: 8;
    seeds_from_12: 12;
}

/// What `make soak` runs: new seeds, several at once, until the time is over. It goes on after a failure, and tells all at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_seeds() {
    let Ok(named) = std::env::var(SEEDS) else { return };
    let first: u64 = named.split("..").next().unwrap().parse().unwrap();
    let end = named
        .split_once("..")
        .map_or(first + 1, |(_, end)| if end.is_empty() { u64::MAX } else { end.parse().unwrap() });
    let hours = std::env::var(HOURS).map_or(f64::INFINITY, |hours| hours.parse().unwrap());
    let begun = Instant::now();
    let over = || begun.elapsed().as_secs_f64() > hours * 3600.0;
    let mut seeds = (first..end).take_while(|_| !over());
    let mut playing: JoinSet<Result<u64, String>> = JoinSet::new();
    let (mut played, mut faults, mut failures) = (0, 0, vec![]);
    loop {
        while playing.len() < AT_ONCE
            && let Some(seed) = seeds.next()
        {
            playing.spawn(async move { converges(seed).await.map(|()| seed) });
        }
        let Some(ended) = playing.join_next().await else { break };
        played += 1;
        match ended.unwrap() {
            Ok(seed) => faults += History::of(seed).faults(),
            Err(failure) => {
                println!("{failure}");
                failures.push(failure);
            }
        }
        if played % 10 == 0 || playing.is_empty() {
            let (failed, seconds) = (failures.len(), begun.elapsed().as_secs());
            println!("{played} histories, {faults} faults, {failed} failures, {seconds} s");
        }
    }
    assert!(failures.is_empty(), "{} of {played} histories failed; they are above", failures.len());
}

async fn converges(seed: u64) -> Result<(), String> {
    let history = History::of(seed);
    let Err(reason) = attempt(&history).await else { return Ok(()) };
    println!("seed {seed} failed:\n{history}\n{reason}");
    let (shortest, reason) = shrink(history, reason).await;
    Err(format!("seed {seed} fails still with\n{shortest}\n{reason}"))
}

/// A history that ends badly may do so anywhere. Each has a thread of its own, as a test has: with that, what it used is gone.
async fn attempt(history: &History) -> Result<(), String> {
    let history = history.clone();
    let playing = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(play(&history))
    };
    let played = tokio::task::spawn_blocking(|| std::thread::spawn(playing).join()).await.unwrap();
    played.unwrap_or_else(|panic| {
        Err(match panic.downcast::<String>() {
            Ok(said) => *said,
            Err(_) => "a panic".to_owned(),
        })
    })
}

/// Leaves out steps, many at first and then one by one, as long as it goes on failing.
async fn shrink(mut history: History, mut reason: String) -> (History, String) {
    let mut tries = 0;
    let mut chunk = history.steps.len() / 2;
    while chunk > 0 {
        let mut from = 0;
        while from < history.steps.len() && tries < TRIES {
            tries += 1;
            let mut shorter = history.clone();
            shorter.steps.drain(from..(from + chunk).min(history.steps.len()));
            match attempt(&shorter).await {
                Err(again) => (history, reason) = (shorter, again),
                Ok(()) => from += chunk,
            }
        }
        chunk /= 2;
    }
    (history, reason)
}
