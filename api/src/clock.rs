//! Telling the time: the only place that asks the machine.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};

/// Names a file that says how many seconds the time is ahead of the machine's, now and after each change of it. None is none.
#[cfg(feature = "zoo")]
const AHEAD: &str = "TANDEM_TEST_CLOCK_AHEAD";

/// Tells the time. A test's may stand still.
#[derive(Clone)]
pub struct Clock(tandem_gateways::Clock);

impl Clock {
    /// The machine's.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn system() -> Self {
        #[cfg(feature = "zoo")]
        if let Ok(file) = std::env::var(AHEAD) {
            return Self::of(move || Utc::now() + ahead(&file));
        }
        Self(Arc::new(Utc::now))
    }

    /// One that asks this.
    pub fn of(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now, in whole microseconds: what PostgreSQL keeps, so that a time reads the same wherever it is read.
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)().trunc_subsecs(6)
    }

    /// The same clock for the gateways.
    pub(crate) fn for_gateways(&self) -> tandem_gateways::Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(feature = "zoo")]
fn ahead(file: &str) -> chrono::TimeDelta {
    let seconds = std::fs::read_to_string(file).ok().and_then(|text| text.parse().ok());
    chrono::TimeDelta::seconds(seconds.unwrap_or_default())
}
