//! The event log on a real PostgreSQL and a real nats-server, with faults.

mod counter;
mod erase;
mod projector;
mod proxy;
mod relay;
mod restarts;
mod store;
mod stream;
mod world;
