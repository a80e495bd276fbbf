//! Verifying at an interval, as a part of `serve`.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::verify;
use crate::{Begin, Sides, SurveyError, error_chain};

/// How long after a run that failed the next one begins, at most.
const AGAIN: Duration = Duration::from_secs(300);

/// Verifies as often as the interval says, counted from the end of the last run, whichever process made it.
pub(crate) async fn watch(sides: Sides, interval: Duration, shutdown: CancellationToken) {
    let name = sides.gateway.name().clone();
    loop {
        let wait = match left(&sides, interval).await {
            Ok(wait) if wait.is_zero() => {
                let run = tokio::select! {
                    run = verify(&sides, Begin::ResumeOrAnew, &|_| {}) => run,
                    () = shutdown.cancelled() => return,
                };
                match run {
                    Ok(found) if found.drift == 0 => {
                        info!(gateway = %name, compared = found.compared, "verified: both sides are the same");
                        interval
                    }
                    Ok(found) => {
                        warn!(gateway = %name, compared = found.compared, drift = found.drift, "verified: the sides differ");
                        interval
                    }
                    Err(SurveyError::Busy(_)) => AGAIN.min(interval),
                    Err(error) => {
                        warn!(gateway = %name, error = %error_chain(&error), "verifying must be tried again");
                        AGAIN.min(interval)
                    }
                }
            }
            Ok(wait) => wait,
            Err(error) => {
                debug!(error = %error_chain(&error), "when was verified last cannot be read now");
                AGAIN.min(interval)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// How long it is until the next run.
async fn left(sides: &Sides, interval: Duration) -> Result<Duration, sqlx::Error> {
    let since: Option<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM clock_timestamp() - max(ended_at))::float8
         FROM surveys WHERE gateway = $1 AND kind = 'verify'",
    )
    .bind(sides.gateway.name().as_str())
    .fetch_one(&sides.pool)
    .await?;
    let since = since.map_or(interval, |since| Duration::from_secs_f64(since.max(0.0)));
    Ok(interval.saturating_sub(since))
}
