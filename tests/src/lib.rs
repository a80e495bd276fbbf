#![doc = include_str!("../README.md")]

mod accounts;
mod catalog;
mod clock;
mod command;
mod gate;
mod others;
mod quiet;
mod tandem;
mod wires;

pub use accounts::Account;
pub use catalog::Customer;
pub use command::Ran;
pub use others::others_change;
pub use tandem::{KEY, READY, Setup, Tandem, VARIANT, WEBHOOK_SECRET};
pub use wires::{Wire, Wires};
