//! What the outside tells a run: stop, or that a child has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

/// Signals, received.
pub struct Signals {
    stop: Arc<AtomicBool>,
    news: mpsc::Receiver<()>,
}

impl Signals {
    /// Begins to listen. The second Ctrl-C ends this process at once; the kernel then kills its children, which can bear it.
    pub fn listen() -> anyhow::Result<Self> {
        let mut wanted = vec![SIGINT, SIGTERM, SIGCHLD];
        if !hangup_is_ignored() {
            wanted.push(SIGHUP);
        }
        let mut signals = signal_hook::iterator::Signals::new(wanted)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, news) = mpsc::channel();
        let asked = Arc::clone(&stop);
        thread::spawn(move || {
            for signal in signals.forever() {
                if signal != SIGCHLD && asked.swap(true, Ordering::SeqCst) {
                    std::process::exit(130);
                }
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { stop, news })
    }

    /// Whether it is time to stop.
    pub fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Sleeps until there is news, or for this long.
    pub fn wait(&self, limit: Option<Duration>) {
        match limit {
            Some(limit) => {
                if self.news.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected) {
                    thread::sleep(limit);
                }
            }
            None => {
                let _ = self.news.recv();
            }
        }
    }
}

/// Under `nohup` a run is meant to outlive its terminal.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
