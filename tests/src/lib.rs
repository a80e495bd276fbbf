#![doc = include_str!("../README.md")]

mod accounts;
mod catalog;
mod command;
mod quiet;
mod tandem;

pub use accounts::Account;
pub use catalog::Customer;
pub use command::Ran;
pub use tandem::{KEY, Setup, Tandem};
