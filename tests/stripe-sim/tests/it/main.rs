//! The local Stripe, asked over HTTP as a client asks Stripe.

mod customers;
mod events;
mod faults;
mod fixtures;
mod idempotency;
mod limits;
mod lists;
mod state;
mod webhooks;
