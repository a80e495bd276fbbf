//! Telling how long changes take from one side to the other.

use std::time::Duration;

use metrics::histogram;
use tandem_domain::GatewayName;

use crate::Direction;

/// A change has crossed, so long after it was stored here, or its webhook was taken.
pub(crate) fn crossed(gateway: &GatewayName, direction: Direction, after: Duration) {
    histogram!("tandem_sync_seconds", "gateway" => gateway.to_string(), "direction" => direction.as_str())
        .record(after);
}
