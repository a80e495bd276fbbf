#![doc = include_str!("../README.md")]

mod app;
mod call;
mod calls;
mod clock;
mod control;
mod control_api;
mod customers;
mod endpoints;
mod error;
mod events;
mod faults;
mod fields;
mod http;
mod idempotency;
mod ids;
mod journal;
mod limits;
mod lists;
mod options;

mod params;
mod routes;
mod search;
mod server;
mod state;
mod view;
mod webhooks;

pub use calls::Call;
pub use clock::{Clock, ClockChange};
pub use control::{Control, ControlError};
pub use faults::{Fault, FaultId, FaultStatus, Rule};
pub use options::{Account, AddressUpdate, EmptyLine, Options, RateLimit, Settings, WebhookRetry};
pub use server::Sim;
pub use view::{Address, Customer, Event};
pub use webhooks::{Delivery, Order, Webhooks, sign};

/// The API version of the account: what a call without `Stripe-Version` gets, and what every event carries.
pub const API_VERSION: &str = "2026-09-30.endive";
