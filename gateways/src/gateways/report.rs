//! Showing how the gateways stand.

use std::time::Duration;

use metrics::gauge;
use tandem_eventlog::StandBy;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Gateways;
use crate::{Direction, error_chain, guard};

/// Shows how the gateways stand to whoever scrapes.
pub(super) async fn report(all: Gateways, shutdown: CancellationToken) {
    let mut duty = all.duties.stand_by("forget what is guarded");
    while !shutdown.is_cancelled() {
        store_foreign(&all).await;
        match all.status().await {
            Ok(statuses) => {
                for status in statuses {
                    let name = status.name;
                    for (priority, due, oldest) in [
                        ("live", status.due_live, status.oldest_live_seconds),
                        ("bulk", status.due_bulk, status.oldest_bulk_seconds),
                    ] {
                        gauge!("tandem_gateway_due_links", "gateway" => name.clone(), "priority" => priority)
                            .set(due as f64);
                        gauge!("tandem_gateway_lag_seconds", "gateway" => name.clone(), "priority" => priority)
                            .set(oldest);
                    }
                    // Unknown is no number, and none is 0.
                    let left = status.bulk_seconds_left.unwrap_or(if status.due_bulk == 0 { 0.0 } else { f64::NAN });
                    gauge!("tandem_gateway_bulk_seconds_left", "gateway" => name.clone()).set(left);
                    gauge!("tandem_gateway_inbox", "gateway" => name.clone()).set(status.inbox as f64);
                    gauge!("tandem_gateway_parked", "gateway" => name.clone()).set(status.parked as f64);
                    for direction in Direction::ALL {
                        let paused = status.paused.iter().any(|one| one == direction.as_str());
                        gauge!("tandem_gateway_paused", "gateway" => name.clone(), "direction" => direction.as_str())
                            .set(if paused { 1 } else { 0 });
                    }
                    gauge!("tandem_gateway_contested", "gateway" => name.clone()).set(status.contested as f64);
                    let Some(verified_at) = status.verified_at else { continue };
                    gauge!("tandem_verify_compared", "gateway" => name.clone()).set(status.verify_compared as f64);
                    gauge!("tandem_verify_drift", "gateway" => name.clone()).set(status.verify_drift as f64);
                    gauge!("tandem_verify_timestamp_seconds", "gateway" => name).set(verified_at.timestamp() as f64);
                }
            }
            Err(error) => debug!(error = %error_chain(&error), "the gateways' state cannot be read now"),
        }
        if let Err(error) = forget_guarded(&all, &mut duty).await {
            debug!(error = %error_chain(&error), "what the guard no longer counts cannot be forgotten now");
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
            () = shutdown.cancelled() => {}
        }
    }
    store_foreign(&all).await;
}

async fn forget_guarded(all: &Gateways, duty: &mut StandBy) -> Result<(), sqlx::Error> {
    if duty.is_ours().await? {
        for one in all.configured.iter() {
            guard::forget(&all.pool, one.gateway.name(), one.guard).await?;
        }
    }
    Ok(())
}

async fn store_foreign(all: &Gateways) {
    if let Err(error) = all.foreign.store(all.relaxed.pool()).await {
        debug!(error = %error_chain(&error), "the count of foreign webhooks cannot be stored now");
    }
}
