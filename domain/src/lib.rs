#![doc = include_str!("../README.md")]

mod customer;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod ids;
mod interval;
mod merge;
mod policy;
mod profile;

pub use customer::{
    Change, Changes, Contest, Create, Customer, CustomerCommand, CustomerError, CustomerEvent, Delete, Erase, Intake,
    Keep, Link, Observe, OpenContest, OpenSides, Overwritten, Resolve, Side, Sight, Stamp, Unlink, Update, Winner,
    upcasters,
};
pub use ids::{CustomerId, GatewayName, InvalidId, RemoteId};
pub use interval::{Interval, Order};
pub use merge::{Merged, Spelling, Spellings, differences, merge};
pub use policy::{FieldSet, Policies, Policy};
pub use profile::{
    ADDRESS_PARTS, Address, EmailKey, Field, InvalidField, METADATA_KEYS, Patch, Profile, Value, name_key,
};
