#![doc = include_str!("../README.md")]

mod adopt;
mod backlog;
#[cfg(test)]
mod bounds;
mod config;
mod copies;
mod crossed;
mod deletions;
mod due;
mod erase;
mod filter;
#[cfg(test)]
mod fixtures;
mod foreign;
mod gateway;
mod gateways;
mod guard;
mod inbox;
mod intent;
mod join;
mod ledger;
mod link;
mod linked;
#[cfg(test)]
mod model;
mod pace;
mod parked;
mod pause;
mod plan;
mod reconcile;
mod rest;
mod retention;
mod status;
pub mod stripe;
mod survey;
mod sweep;
mod taken;
mod timer;
mod twins;
mod untold;
mod verify;
mod worker;
mod zoo;

#[cfg(any(test, fuzzing))]
pub use stripe::fuzz;

pub use config::{Deletes, GatewaysConfig, OnDelete};
pub use deletions::{Verdict, VerdictError};
pub use erase::{forget_customer, unsettled};
pub use filter::Filter;
pub use foreign::Foreign;
pub use gateway::{
    Call, CallError, ChangeKind, Changes, Gateway, Listed, Notice, Object, RemoteChange, Reply, Seen, WebhookError,
    Write,
};
pub(crate) use gateways::Inbox;
pub use gateways::{AcceptError, Accepted, Clock, Configured, Gateways};
pub use guard::GuardConfig;
pub use link::processes;
pub use pace::{Pace, Taken, share_pace};
pub use parked::{Parked, ParkedError};
pub use pause::{Direction, Pause, pause, pauses, resume};
pub use plan::{
    Action, ActionCount, Applied, Apply, FieldCount, FieldsFrom, Item, Plan, apply, forget, gateway_of, items, plan,
    summary,
};
pub(crate) use reconcile::RunError;
pub use status::{GatewayStatus, LinkStatus, known, status};
pub use survey::{Begin, Progress, Sides, SurveyError, Tell};
pub(crate) use tandem_eventlog::chain as error_chain;
pub use twins::Matching;
pub use untold::Untold;
pub use verify::{Drift, DriftKind, FieldDrift, Repaired, Verified, drifts, repair, verify};

/// Brings the gateways' tables up to date. Safe to run by several processes at once.
///
/// # Errors
/// The database is unavailable, or a migration was changed after it ran.
pub async fn migrate(pool: &sqlx::PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    sqlx::migrate!().set_ignore_missing(true).run(pool).await
}
