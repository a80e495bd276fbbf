//! The event log on a real PostgreSQL and a real nats-server, with faults.

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do")]

mod cluster;
mod counter;
mod erase;
mod forged;
mod projector;
mod relay;
mod restarts;
mod store;
mod stream;
mod world;
// The variants are in the whole workspace's build only.
#[cfg(feature = "zoo")]
mod zoo;
