//! Keeps services running: one that ends is started again, and that is said.

use std::time::{Duration, Instant};

use super::services::Service;
use super::signals::Signals;

/// After so long a run, an end counts as the first.
const STEADY: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

struct Watch {
    pause: Duration,
    since: Instant,
    /// When to start it again; `None` while it runs.
    due: Option<Instant>,
}

/// Returns when a signal says to stop.
pub fn until_stopped(services: &mut [Box<dyn Service>], signals: &Signals) {
    let fresh = || Watch { pause: FIRST_PAUSE, since: Instant::now(), due: None };
    let mut watches: Vec<Watch> = services.iter().map(|_| fresh()).collect();
    while !signals.stop_asked() {
        for (service, watch) in services.iter_mut().zip(&mut watches) {
            look_after(service.as_mut(), watch);
        }
        let next = watches.iter().filter_map(|watch| watch.due).min();
        signals.wait(next.map(|due| due.saturating_duration_since(Instant::now())));
    }
}

fn look_after(service: &mut dyn Service, watch: &mut Watch) {
    match watch.due {
        None => {
            let Some(status) = service.ended() else { return };
            if watch.since.elapsed() > STEADY {
                watch.pause = FIRST_PAUSE;
            }
            eprintln!("{} ended ({status}): starting it again in {:?}", service.name(), watch.pause);
            watch.due = Some(Instant::now() + watch.pause);
            watch.pause = (watch.pause * 2).min(LONGEST_PAUSE);
        }
        Some(due) if due <= Instant::now() => match service.restart() {
            Ok(()) => {
                eprintln!("{} runs again", service.name());
                (watch.due, watch.since) = (None, Instant::now());
            }
            Err(error) => {
                eprintln!("{} did not start, trying again in {:?}: {error:#}", service.name(), watch.pause);
                watch.due = Some(Instant::now() + watch.pause);
                watch.pause = (watch.pause * 2).min(LONGEST_PAUSE);
            }
        },
        Some(_) => {}
    }
}
