//! How long something took, again and again.

use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

/// Times in microseconds, from one to a minute, exact to three digits.
#[derive(Clone, Debug)]
pub struct Quantiles(Histogram<u64>);

impl Quantiles {
    /// Of these times.
    pub fn of(micros: impl IntoIterator<Item = i64>) -> anyhow::Result<Self> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        for time in micros {
            histogram.saturating_record(u64::try_from(time).unwrap_or_default().max(1));
        }
        Ok(Self(histogram))
    }

    /// What the given share of all took at most, in milliseconds.
    pub fn ms(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1000.0
    }
}

/// Now, in microseconds since 1970: as the local Stripe and PostgreSQL on this machine tell the time.
#[expect(clippy::disallowed_methods, reason = "what others stamp is compared with it")]
pub fn now_us() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
}
