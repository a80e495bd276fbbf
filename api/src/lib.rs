#![doc = include_str!("../README.md")]

mod apart;
mod app;
mod auth;
mod body;
pub mod cli;
mod clock;
mod config;
mod conflicts;
mod connect;
mod connections;
mod customer;
mod customer_body;
mod customer_patch;
mod customers;
mod event_body;
mod events;
mod execute;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gateways;
mod health;
mod keys;
mod log;
mod nats;
mod openapi;
mod page;
mod parked;
mod precondition;
mod problem;
mod reply;
mod request;
mod room;
mod routes;
mod serve;
mod start;
mod taken;
mod webhooks;
mod write;

pub use clock::Clock;
pub use config::{Config, ConfigError, DatabaseConfig, HttpConfig, NatsConfig};
pub use log::LogFormat;
pub use serve::{ServeError, serve};
pub use start::StartError;
