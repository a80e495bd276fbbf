//! The local Stripe, asked over HTTP as a client asks Stripe.

#![allow(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod accounts;
mod customers;
mod events;
mod faults;
mod fixtures;
mod idempotency;
mod limits;
mod lists;
mod outside;
mod state;
mod webhooks;
