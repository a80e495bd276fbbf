#![doc = include_str!("../README.md")]

mod catalog;
mod quiet;
mod tandem;

pub use catalog::Customer;
pub use tandem::{Setup, Tandem};
