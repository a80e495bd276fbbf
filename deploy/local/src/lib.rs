#![doc = include_str!("../README.md")]

mod account;
mod database;
mod error;
mod nats;
pub mod port;
mod postgres;
pub mod process;
mod scratch;
mod secret;
pub mod test;
mod tools;

pub use database::create_database;
pub use error::Error;
pub use nats::{Nats, NatsOptions};
pub use postgres::{Postgres, PostgresOptions};
pub use rustix::process::Signal;
pub use scratch::Scratch;
pub use secret::secret;
pub use tools::{Tools, tools, workspace};
