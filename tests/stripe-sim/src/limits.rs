//! Rate limits: a bucket for the account, and one for each endpoint.

use std::collections::HashMap;
use std::time::Instant;

use crate::error::StripeError;
use crate::options::RateLimit;

/// What each caller has left.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    account: Option<Bucket>,
    endpoints: HashMap<String, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Limiter {
    /// `endpoint` is the method and the path without ids.
    pub(crate) fn admit(&mut self, limit: Option<RateLimit>, endpoint: &str, now: Instant) -> Result<(), StripeError> {
        let Some(limit) = limit else { return Ok(()) };
        let full = |per_second: u32| Bucket { left: f64::from(per_second), at: now };
        let account = self.account.get_or_insert_with(|| full(limit.account));
        if !account.take(limit.account, now) {
            return Err(StripeError::rate_limited("global-rate"));
        }
        let endpoint = self.endpoints.entry(endpoint.to_owned()).or_insert_with(|| full(limit.endpoint));
        if !endpoint.take(limit.endpoint, now) {
            return Err(StripeError::rate_limited("endpoint-rate"));
        }
        Ok(())
    }
}

impl Bucket {
    fn take(&mut self, per_second: u32, now: Instant) -> bool {
        let per_second = f64::from(per_second);
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * per_second;
        self.left = (self.left + gained).min(per_second);
        self.at = now;
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_fills_again_with_time() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let limit = Some(RateLimit { account: 10, endpoint: 2 });
        assert!(limiter.admit(limit, "GET /a", start).is_ok());
        assert!(limiter.admit(limit, "GET /a", start).is_ok());
        let refused = limiter.admit(limit, "GET /a", start).unwrap_err();
        assert!(refused.headers.contains(&("stripe-rate-limited-reason".to_owned(), "endpoint-rate".to_owned())));
        assert!(limiter.admit(limit, "GET /b", start).is_ok());
        assert!(limiter.admit(limit, "GET /a", start + Duration::from_millis(500)).is_ok());
    }
}
