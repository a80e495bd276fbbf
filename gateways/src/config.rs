//! How the gateways' work is done.

use std::time::Duration;

use serde::Deserialize;

/// What a deletion on one side does on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// It deletes there, too.
    #[default]
    Delete,
    /// The other side stays as it is, and is no longer kept in step.
    Unlink,
    /// It is parked, and nothing is done on the other side until a person says which of the two.
    Ask,
}

/// What deletions do, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deletes {
    /// Deleted at the gateway.
    pub inbound: OnDelete,
    /// Deleted here.
    pub outbound: OnDelete,
}

/// Settings of all gateways.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaysConfig {
    /// Links of one gateway that are reconciled at once; of all, no more than four for each connection to PostgreSQL.
    /// `TANDEM_GATEWAYS__WORKERS`, default 16.
    pub workers: u32,
    /// How long a link is kept from others, renewed before each call. Longer than the longest call.
    /// `TANDEM_GATEWAYS__LEASE_MS`, default 60000.
    pub lease_ms: u64,
    /// How long it is remembered which changes were taken in, which calls were made and what was parked, in days. More than the
    /// 30 for which Stripe tells of its events: what comes again is known by this. 31 to 36500.
    /// `TANDEM_GATEWAYS__DONE_KEPT_DAYS`, default 35.
    pub done_kept_days: u32,
}

impl Default for GatewaysConfig {
    fn default() -> Self {
        Self { workers: 16, lease_ms: 60_000, done_kept_days: 35 }
    }
}

impl GatewaysConfig {
    /// Their names, which no gateway can have: both stand in one section.
    pub const NAMES: [&str; 3] = ["workers", "lease_ms", "done_kept_days"];

    /// The lease as a duration.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// Whether it can work.
    ///
    /// # Errors
    /// The setting that cannot be so, by its name, with the reason.
    pub fn check(&self, longest_call: Duration) -> Result<(), String> {
        if self.workers == 0 || self.workers > 1000 {
            return Err("gateways.workers must be from 1 to 1000".to_owned());
        }
        if self.lease() <= longest_call * 2 {
            return Err(format!(
                "gateways.lease_ms must be more than twice the longest call, {} ms",
                longest_call.as_millis()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_among_the_names_that_no_gateway_can_have() {
        let complaint = serde_json::from_str::<GatewaysConfig>(r#"{"nonsense": 1}"#).unwrap_err().to_string();
        let quoted: Vec<&str> = complaint.split('`').skip(1).step_by(2).skip(1).collect();
        assert_eq!(quoted, GatewaysConfig::NAMES);
    }
}
